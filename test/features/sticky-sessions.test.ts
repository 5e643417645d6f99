import type { RequestListener } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeRegistration } from "../../src/entries/entries.js";
import { freePort } from "../support/free-port.js";
import { eventually } from "../support/eventually.js";
import {
  destination,
  Instances,
  processEntry,
  routeEntry,
  type RunningInstance,
  sampleAnswer,
} from "../support/instances.js";
import { startTestRouter, type TestRouter } from "../support/router.js";

const SESSION = "JSESSIONID=s1";

describe("sticky sessions", () => {
  let mesh: TestRouter;
  /** With all of Gorouter's switches on. */
  let strict: TestRouter;
  const instances = new Instances();

  beforeAll(async () => {
    [mesh, strict] = await Promise.all([
      startTestRouter(),
      startTestRouter({
        config: () => ({ stickySessions: { cookieNames: ["sid", "other"], secureCookies: true, authNegotiate: true } }),
      }),
    ]);
  });
  afterAll(async () => {
    await Promise.all([mesh.stop(), strict.stop()]);
    instances.close();
  });

  /** Sets the cookies that the header "x-set" asks for, and demands the authorization that "x-challenge" names. */
  const listener =
    (guid: string): RequestListener =>
    (request, response) => {
      const { "x-set": cookies, "x-challenge": challenge } = request.headers;
      if (typeof cookies === "string") response.setHeader("set-cookie", cookies.split("|"));
      if (typeof challenge === "string") response.setHeader("www-authenticate", challenge);
      response.end(sampleAnswer(guid, request));
    };
  const start = (...guids: string[]) => instances.startAll(guids, listener);

  /** An app with three instances, "<name>-0" to "<name>-2", that serves. */
  async function app(name: string, path = "", router = mesh): Promise<readonly RunningInstance[]> {
    const running = await start(`${name}-0`, `${name}-1`, `${name}-2`);
    await router.log.append([routeEntry(name, { path }), processEntry(name, running)]);
    await eventually(async () => (await router.client.get(`${name}.example.com`, path || "/")).status === 200);
    return running;
  }

  interface Asked {
    readonly cookie?: string;
    /** Set-Cookie of the app. */
    readonly set?: readonly string[];
    readonly headers?: Readonly<Record<string, string>>;
    readonly path?: string;
    readonly router?: TestRouter;
  }
  /** Who answered, and the cookies of the answer. */
  async function ask(name: string, { cookie, set, headers, path = "/", router = mesh }: Asked = {}) {
    const sent = { ...headers, ...(cookie && { cookie }), ...(set && { "x-set": set.join("|") }) };
    const answer = await router.client.get(`${name}.example.com`, path, { headers: sent });
    const cookies = (answer.headers["set-cookie"] ?? []).filter((text) => text.startsWith("__VCAP_ID__"));
    return { status: answer.status, app: answer.status === 200 ? answer.json.app : "", cookies, answer };
  }
  const times = async <T>(count: number, action: () => Promise<T>): Promise<readonly T[]> => {
    const results: T[] = [];
    for (let done = 0; done < count; done += 1) results.push(await action());
    return results;
  };

  it("hold for URLs with a semicolon as well, which Gorouter warns of", async () => {
    await app("semicolon");
    const path = "/start;jsessionid=s1";
    const first = await ask("semicolon", { path, set: [SESSION] });
    expect(first.cookies).toEqual([`__VCAP_ID__=${first.app}; Path=/; HttpOnly`]);
    const cookie = `${SESSION}; __VCAP_ID__=${first.app}`;
    const later = await times(6, () => ask("semicolon", { path, cookie }));
    expect(later.map(({ app: answering }) => answering)).toEqual(Array(6).fill(first.app));
    expect(first.answer.headers["x-cf-routererror"]).toBe("deprecated-semicolon-params");
  });

  it("begin with the app's session cookie: the router adds its own, with the guid of the instance", async () => {
    await app("begin");
    const first = await ask("begin", { set: ["theme=dark", `${SESSION}; Path=/; HttpOnly`] });
    expect(first.cookies).toEqual([`__VCAP_ID__=${first.app}; Path=/; HttpOnly`]);
    expect(first.answer.headers["set-cookie"]).toHaveLength(3);
    expect((await ask("begin", { set: ["theme=dark"] })).cookies).toEqual([]);
    expect((await ask("begin")).cookies).toEqual([]);
  });

  it("stay with their instance, and show neither its address nor a mark of the router's", async () => {
    await app("stay");
    for (const guid of ["stay-2", "stay-0"]) {
      const answers = await times(12, () => ask("stay", { cookie: `a=b; ${SESSION}; __VCAP_ID__=${guid}` }));
      expect(new Set(answers.map((answer) => answer.app))).toEqual(new Set([guid]));
      expect(answers.flatMap(({ cookies }) => cookies)).toEqual([]);
      const [{ answer } = { answer: undefined }] = answers;
      expect(JSON.stringify(answer?.headers)).not.toMatch(/cf-mesh|127\.0\.0\.1/);
      expect(JSON.stringify(answer?.json.headers)).not.toMatch(/cf-mesh/);
    }
  });

  it("are none without the app's cookie: __VCAP_ID__ alone binds nobody", async () => {
    await app("unbound");
    const answers = await times(12, () => ask("unbound", { cookie: "__VCAP_ID__=unbound-1" }));
    expect(new Set(answers.map((answer) => answer.app)).size).toBe(3);
    expect(answers.flatMap(({ cookies }) => cookies)).toEqual([]);
  });

  it("go on with another instance, and a new cookie, when theirs is gone", async () => {
    const [first, second] = await app("gone");
    if (!first || !second) throw new Error("an app has three instances");
    const cookie = `${SESSION}; __VCAP_ID__=gone-2`;
    expect((await ask("gone", { cookie })).app).toBe("gone-2");
    await mesh.log.append([processEntry("gone", [first, second])]);
    await eventually(async () => (await ask("gone", { cookie })).app !== "gone-2");
    const moved = await ask("gone", { cookie });
    expect(moved.cookies).toEqual([`__VCAP_ID__=${moved.app}; Path=/; HttpOnly`]);
  });

  it("go on with another instance when theirs takes no connection", async () => {
    const [first] = await start("dead-0");
    if (!first) throw new Error("an instance was started");
    await mesh.log.append([
      routeEntry("dead"),
      processEntry("dead", [first, { guid: "dead-1", port: await freePort() }]),
    ]);
    await eventually(async () => (await ask("dead")).status === 200);
    for (const method of ["GET", "POST"]) {
      const answer = await mesh.client.get("dead.example.com", "/", {
        method,
        headers: { cookie: `${SESSION}; __VCAP_ID__=dead-1` },
      });
      expect(answer.json.app).toBe("dead-0");
      expect(answer.headers["set-cookie"]).toEqual(["__VCAP_ID__=dead-0; Path=/; HttpOnly"]);
    }
  });

  it("have the attributes of the app's cookie", async () => {
    await app("attributes");
    const expires = "Wed, 21 Oct 2099 07:28:00 GMT";
    const cases = [
      ["; Secure", "; HttpOnly; Secure"],
      ["; SameSite=lax", "; HttpOnly; SameSite=Lax"],
      ["; Secure; SameSite=None; Partitioned", "; HttpOnly; Secure; SameSite=None; Partitioned"],
      [`; Expires=${expires}`, `; Expires=${expires}; HttpOnly`],
      ["; Expires=Wed, 21-Oct-2099 07:28:00 GMT", `; Expires=${expires}; HttpOnly`],
      ["; Max-Age=3600; Domain=example.com; Path=/deep", "; HttpOnly"],
      ["; Max-Age=0", "; Max-Age=0; HttpOnly"],
      ["; Max-Age=-1", "; Max-Age=0; HttpOnly"],
    ] as const;
    for (const [attributes, expected] of cases) {
      const { app: name, cookies } = await ask("attributes", { set: [SESSION + attributes] });
      expect(cookies).toEqual([`__VCAP_ID__=${name}; Path=/${expected}`]);
    }
  });

  it("may be made by a cookie that is bound to its host", async () => {
    await app("bound-to-host");
    const { app: name, cookies } = await ask("bound-to-host", { set: [`__Host-${SESSION}; Secure; Path=/`] });
    expect(cookies).toEqual([`__VCAP_ID__=${name}; Path=/; HttpOnly; Secure`]);
    const answers = await times(8, () => ask("bound-to-host", { cookie: `__Host-${SESSION}; ${cookies[0] ?? ""}` }));
    expect(new Set(answers.map((answer) => answer.app))).toEqual(new Set([name]));
    expect((await ask("bound-to-host", { set: [`__Secure-${SESSION}`] })).cookies).toEqual([]);
  });

  it("are bound to the path of the route, in its own letters", async () => {
    await app("path", "/Shop");
    const { app: name, cookies } = await ask("path", { path: "/Shop/cart", set: [SESSION] });
    expect(cookies).toEqual([`__VCAP_ID__=${name}; Path=/Shop; HttpOnly`]);
  });

  it("leave a __VCAP_ID__ of the app's own alone", async () => {
    await app("own");
    const { cookies } = await ask("own", { set: [SESSION, "__VCAP_ID__=mine"] });
    expect(cookies).toEqual(["__VCAP_ID__=mine"]);
  });

  it("win over the weights of a route, and over hashing", async () => {
    const [heavy, light] = await start("heavy", "light");
    if (!heavy || !light) throw new Error("two instances were started");
    await mesh.log.append([
      routeEntry("weighted", {
        options: { loadbalancing: "hash", hashHeader: "x-tenant" },
        destinations: [destination("heavy", { weight: 99 }), destination("light", { weight: 1 })],
      }),
      processEntry("heavy", [heavy]),
      processEntry("light", [light]),
    ]);
    await eventually(async () => (await ask("weighted")).status === 200);
    const answers = await times(10, () =>
      ask("weighted", { cookie: `${SESSION}; __VCAP_ID__=light`, headers: { "x-tenant": "one" } }),
    );
    expect(answers.map((answer) => answer.app)).toEqual(Array.from({ length: 10 }, () => "light"));
  });

  it("reach instances that are known from NATS alone", async () => {
    const running = await start("nats-0", "nats-1");
    await mesh.log.append(
      running.map(({ guid, port }) => ({
        key: `registration.nats.${guid}`,
        value: encodeRegistration({
          host: "nats.example.com",
          address: "127.0.0.1",
          port,
          instanceGuid: guid,
          protocol: "http1",
        }),
      })),
    );
    await eventually(async () => (await ask("nats")).status === 200);
    const answers = await times(6, () => ask("nats", { cookie: `${SESSION}; __VCAP_ID__=nats-1` }));
    expect(new Set(answers.map((answer) => answer.app))).toEqual(new Set(["nats-1"]));
  });

  it("are made by the cookies that the operator names, marked Secure where told so", async () => {
    await app("named", "", strict);
    const inRouter = { router: strict };
    const made = await ask("named", { ...inRouter, set: ["other=1"] });
    expect(made.cookies).toEqual([`__VCAP_ID__=${made.app}; Path=/; HttpOnly; Secure`]);
    expect((await ask("named", { ...inRouter, set: [SESSION] })).cookies).toEqual([]);
    const bound = await times(8, () => ask("named", { ...inRouter, cookie: "sid=1; __VCAP_ID__=named-1" }));
    expect(new Set(bound.map((answer) => answer.app))).toEqual(new Set(["named-1"]));
  });

  it("of SPNEGO: the challenge binds the client for a minute, and it must stay with its instance", async () => {
    await app("spnego", "", strict);
    const inRouter = { router: strict };
    const challenged = await ask("spnego", { ...inRouter, headers: { "x-challenge": "Negotiate abc" } });
    expect(challenged.cookies).toEqual([
      `__VCAP_ID__=${challenged.app}; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Strict`,
    ]);
    const negotiating = (cookie: string) =>
      ask("spnego", { ...inRouter, cookie, headers: { authorization: "negotiate abc" } });
    const bound = await times(8, () => negotiating("__VCAP_ID__=spnego-1"));
    expect(new Set(bound.map((answer) => answer.app))).toEqual(new Set(["spnego-1"]));
    const lost = await negotiating("__VCAP_ID__=gone");
    expect(lost.status).toBe(502);
    expect(lost.answer.headers["x-cf-routererror"]).toBe("endpoint_failure (No endpoints available)");
  });

  it("of SPNEGO are none where the operator did not ask for them", async () => {
    await app("no-spnego");
    expect((await ask("no-spnego", { headers: { "x-challenge": "Negotiate abc" } })).cookies).toEqual([]);
  });
});
