import { Agent, request } from "undici";
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { type EmulatedFoundation, startEmulatedFoundation } from "../../../test/support/emulated-foundation.js";
import { type Certificates, createCertificates } from "../certificates.js";
import { ADMIN_SCOPES } from "../uaa/uaa.js";

const EXTERNAL = "/networking/v1/external";
const INTERNAL = "/networking/v1/internal";

interface PolicyJson {
  readonly source: { readonly id: string; readonly tag?: string };
  readonly destination: {
    readonly id: string;
    readonly tag?: string;
    readonly protocol: string;
    readonly ports: { readonly start: number; readonly end: number };
  };
}
interface PolicyList {
  readonly total_policies: number;
  readonly policies: readonly PolicyJson[];
}

function policy(source: string, destination: string, start = 8080, end = start, protocol = "tcp"): PolicyJson {
  return { source: { id: source }, destination: { id: destination, protocol, ports: { start, end } } };
}

describe("the policy server", () => {
  let cf: EmulatedFoundation;
  let certificates: Certificates;
  beforeAll(async () => {
    certificates = await createCertificates();
    cf = await startEmulatedFoundation({
      certificates,
      users: [
        { name: "admin", password: "admin", scopes: ADMIN_SCOPES },
        { name: "dora", password: "secret", scopes: ["network.write", "cloud_controller.read"] },
        { name: "eve", password: "secret", scopes: ["cloud_controller.read"] },
      ],
    });
  });
  afterAll(() => cf.close());
  beforeEach(async () => {
    const { policies } = await external<PolicyList>("GET", "/policies");
    if (policies.length > 0) await external("POST", "/policies/delete", { policies });
  });

  async function external<T>(method: string, path: string, body?: unknown, token?: string): Promise<T> {
    const headers = token === undefined ? undefined : { authorization: token };
    const { status, text } = await cf.call(method, `${EXTERNAL}${path}`, body, headers);
    const answer = JSON.parse(text) as T & { error?: string };
    if (status !== 200) throw new Error(`${status} ${answer.error ?? ""}`);
    return answer;
  }
  const create = (policies: unknown, token?: string) => external("POST", "/policies", { policies }, token);
  const pairs = ({ policies }: PolicyList) => policies.map((one) => `${one.source.id} ${one.destination.id}`);
  async function tokenOf(username: string): Promise<string> {
    const body = new URLSearchParams({ grant_type: "password", username, password: "secret", client_id: "cf" });
    const answer = await fetch(`${cf.foundation.uaaUrl}/oauth/token`, { method: "POST", body });
    return `bearer ${((await answer.json()) as { access_token: string }).access_token}`;
  }
  async function internal(path: string, method: "GET" | "PUT" = "GET", body?: object): Promise<string> {
    const { certificate, key } = certificates.client;
    const dispatcher = new Agent({ connect: { ca: certificates.ca, cert: certificate, key } });
    onTestFinished(() => dispatcher.close());
    const answer = await request(`${cf.foundation.policyServerUrl ?? ""}${INTERNAL}${path}`, {
      dispatcher,
      method,
      ...(body !== undefined && { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
    });
    return answer.body.text();
  }

  it("makes, lists and deletes policies, each once", async () => {
    await create([policy("a", "b"), policy("b", "c", 8000, 9000, "udp")]);
    await create([policy("a", "b")]);
    expect(await external("GET", "/policies")).toEqual({
      total_policies: 2,
      policies: [policy("a", "b"), policy("b", "c", 8000, 9000, "udp")],
    });
    await external("POST", "/policies/delete", { policies: [policy("a", "b"), policy("never", "there")] });
    expect(pairs(await external("GET", "/policies"))).toEqual(["b c"]);
  });

  it("lists by app, by source, by destination, and by both", async () => {
    await create([policy("a", "b"), policy("b", "c"), policy("a", "c")]);
    const list = async (query: string) => pairs(await external("GET", `/policies?${query}`));
    expect(await list("id=b")).toEqual(["a b", "b c"]);
    expect(await list("source_id=a")).toEqual(["a b", "a c"]);
    expect(await list("dest_id=c,b")).toEqual(["a b", "b c", "a c"]);
    expect(await list("source_id=a&dest_id=c")).toEqual(["a c"]);
  });

  it("refuses bad policies in the policy server's words, all or none", async () => {
    const refused: [unknown, string][] = [
      [[], "missing policies"],
      [[policy("a", "b"), policy("", "b")], "missing source id"],
      [[policy("a", "")], "missing destination id"],
      [[policy("a", "b", 1, 2, "icmp")], "invalid destination protocol, specify either udp or tcp"],
      [[policy("a", "b", 9, 8)], "invalid port range 9-8, start must be less than or equal to end"],
      [[policy("a", "b", -1, 8)], "invalid start port -1, must be in range 1-65535"],
      [[policy("a", "b", 0, 8)], "missing start port"],
      [[policy("a", "b", 1, 65_536)], "invalid end port 65536, must be in range 1-65535"],
      [[{ ...policy("a", "b"), source: { id: "a", tag: "0001" } }], "tags may not be specified"],
    ];
    for (const [policies, words] of refused) {
      await expect(create(policies)).rejects.toThrow(`400 mapper: validate policies: ${words}`);
    }
    await expect(external("POST", "/policies", "{")).rejects.toThrow("400 mapper: unmarshal json");
    await expect(create("none")).rejects.toThrow("400 mapper: unmarshal json");
    expect(pairs(await external("GET", "/policies"))).toEqual([]);
  });

  it("lets developers connect the apps of their own spaces alone", async () => {
    const [mine, theirs] = [await cf.app("mine"), "an-app-of-others"];
    await expect(external("GET", "/policies", undefined, "")).rejects.toThrow("missing authorization");
    await expect(external("GET", "/policies", undefined, "bearer no")).rejects.toThrow("403 failed to verify token");
    const eve = await tokenOf("eve");
    await expect(external("GET", "/policies", undefined, eve)).rejects.toThrow("do not include allowed scopes");

    const dora = await tokenOf("dora");
    const refusal = "403 one or more applications cannot be found or accessed";
    await expect(create([policy(mine, mine)], dora)).rejects.toThrow(refusal);
    for (const [type, place] of [
      ["organization_user", { organization: { data: { guid: cf.organizationGuid } } }],
      ["space_developer", { space: { data: { guid: cf.spaceGuid } } }],
    ] as const) {
      await cf.post("/v3/roles", { type, relationships: { user: { data: { username: "dora" } }, ...place } });
    }
    await create([policy(mine, mine)], dora);
    await expect(create([policy(mine, theirs)], dora)).rejects.toThrow(refusal);
    await create([policy(mine, theirs)]);
    expect(pairs(await external("GET", "/policies", undefined, dora))).toEqual([`${mine} ${mine}`]);
    await expect(external("GET", "/tags", undefined, dora)).rejects.toThrow("do not include allowed scopes");
  });

  it("tells the platform's own parts who may talk to whom, with the tags of their packets", async () => {
    await create([policy("a", "b"), policy("b", "c")]);
    const { tags } = await external<{ tags: readonly { id: string; tag: string }[] }>("GET", "/tags");
    const tagOf = (app: string) => tags.find(({ id }) => id === app)?.tag;
    expect(tagOf("a")).toMatch(/^[0-9A-F]{4}$/);
    const { total_policies: count, policies } = JSON.parse(await internal("/policies?id=a")) as PolicyList;
    expect([count, policies[0]?.source.tag, policies[0]?.destination.tag]).toEqual([1, tagOf("a"), tagOf("b")]);
    const tag = JSON.parse(await internal("/tags", "PUT", { id: "router", type: "router" })) as object;
    expect(tag).toMatchObject({ ID: "router", Type: "router" });
    expect(JSON.parse(await internal("/security_groups?limit=10"))).toEqual({ next: 0, security_groups: [] });
  });

  it("gives a larger number after each change", async () => {
    const before = BigInt(await internal("/policies_last_updated"));
    await create([policy("a", "b")]);
    const between = BigInt(await internal("/policies_last_updated"));
    await external("POST", "/policies/delete", { policies: [policy("a", "b")] });
    expect(between > before).toBe(true);
    expect(BigInt(await internal("/policies_last_updated")) > between).toBe(true);
  });

  it("talks to nobody without a client certificate", async () => {
    const dispatcher = new Agent({ connect: { ca: certificates.ca } });
    onTestFinished(() => dispatcher.close());
    const url = `${cf.foundation.policyServerUrl ?? ""}${INTERNAL}/policies`;
    await expect(request(url, { dispatcher })).rejects.toThrow();
  });
});
