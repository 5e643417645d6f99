import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type EmulatedFoundation, startEmulatedFoundation } from "../../../test/support/emulated-foundation.js";
import type { LogLine } from "../logs.js";
import { ADMIN_SCOPES } from "../uaa/uaa.js";

interface Batch {
  readonly envelopes: {
    readonly batch: readonly {
      readonly timestamp: string;
      readonly source_id: string;
      readonly instance_id: string;
      readonly tags: Readonly<Record<string, string>>;
      readonly log: { readonly payload: string; readonly type: string };
    }[];
  };
}

describe("Log Cache", () => {
  let cf: EmulatedFoundation;
  let appGuid: string;
  beforeAll(async () => {
    cf = await startEmulatedFoundation({
      users: [
        { name: "admin", password: "admin", scopes: ADMIN_SCOPES },
        { name: "dora", password: "secret", scopes: ["cloud_controller.read", "cloud_controller.write"] },
      ],
    });
    appGuid = await cf.app("shop");
    const line = (timestampMs: number, text: string, changes: Partial<LogLine> = {}): LogLine => ({
      ...{ timestampMs, text, stream: "stdout", source: "APP/PROC/WEB/0" },
      ...changes,
    });
    cf.diego.logs.forget(appGuid);
    cf.diego.logs.append(appGuid, line(1_000, "staged", { source: "STG/0" }));
    cf.diego.logs.append(appGuid, line(2_000, "one"));
    cf.diego.logs.append(appGuid, line(2_000, "two", { stream: "stderr", source: "APP/PROC/WEB/1" }));
    cf.diego.logs.append(appGuid, line(3_000, "three"));
  });
  afterAll(() => cf.close());

  async function read(query = "", token?: string): Promise<{ status: number; batch: Batch["envelopes"]["batch"] }> {
    const headers = token === undefined ? undefined : { authorization: token };
    const { status, text } = await cf.call("GET", `/api/v1/read/${appGuid}${query}`, undefined, headers);
    return { status, batch: status === 200 ? (JSON.parse(text) as Batch).envelopes.batch : [] };
  }
  async function words(query: string): Promise<readonly string[]> {
    return (await read(query)).batch.map(({ log }) => Buffer.from(log.payload, "base64").toString());
  }
  async function tokenOf(username: string, password: string): Promise<string> {
    const body = new URLSearchParams({ grant_type: "password", username, password, client_id: "cf" });
    const answer = await fetch(`${cf.foundation.uaaUrl}/oauth/token`, { method: "POST", body });
    return `bearer ${((await answer.json()) as { access_token: string }).access_token}`;
  }

  it("says who wrote a line, when, and of which app", async () => {
    const { batch } = await read();
    expect(batch).toHaveLength(4);
    expect(batch[2]).toMatchObject({
      ...{ timestamp: "2000000001", source_id: appGuid, instance_id: "1" },
      tags: { source_type: "APP/PROC/WEB", app_name: "shop", space_name: "dev", organization_name: "laptop" },
      log: { payload: Buffer.from("two").toString("base64"), type: "ERR" },
    });
    expect(batch[0]?.tags["source_type"]).toBe("STG");
  });

  it("reads from a time to a time, the oldest first or the newest", async () => {
    expect(await words("?start_time=-6795364578871345152&limit=2")).toEqual(["staged", "one"]);
    expect(await words("?descending=true&limit=2")).toEqual(["three", "two"]);
    expect(await words("?start_time=2000000001")).toEqual(["two", "three"]);
    expect(await words("?end_time=2000000001")).toEqual(["staged", "one"]);
  });

  it("has envelopes of logs only", async () => {
    expect(await words("?envelope_types=LOG&envelope_types=GAUGE")).toHaveLength(4);
    expect(await words("?envelope_types=ANY")).toHaveLength(4);
    expect(await words("?envelope_types=GAUGE")).toEqual([]);
  });

  it("refuses parameters that are no numbers, and limits above 1,000", async () => {
    for (const query of ["?start_time=now", "?limit=many", "?limit=1001"]) {
      expect((await read(query)).status).toBe(400);
    }
  });

  it("shows an app's logs to those alone who have a role in its space", async () => {
    expect((await read("", "")).status).toBe(404);
    expect((await read("", "bearer nonsense")).status).toBe(404);
    const dora = await tokenOf("dora", "secret");
    expect((await read("", dora)).status).toBe(404);
    for (const [type, place] of [
      ["organization_user", { organization: { data: { guid: cf.organizationGuid } } }],
      ["space_developer", { space: { data: { guid: cf.spaceGuid } } }],
    ] as const) {
      await cf.post("/v3/roles", { type, relationships: { user: { data: { username: "dora" } }, ...place } });
    }
    expect((await read("", dora)).batch).toHaveLength(4);
  });

  it("tells its version to anybody, and what it holds to those who may see it", async () => {
    const info = await cf.call("GET", "/api/v1/info", undefined, { authorization: "" });
    expect(JSON.parse(info.text)).toMatchObject({ version: expect.stringMatching(/^\d+\.\d+\.\d+$/) as string });
    const meta = await cf.call("GET", "/api/v1/meta");
    expect(JSON.parse(meta.text)).toEqual({
      meta: {
        [appGuid]: { count: "4", expired: "0", oldest_timestamp: "1000000000", newest_timestamp: "3000000000" },
      },
    });
    expect((await cf.call("GET", "/api/v1/meta", undefined, { authorization: "" })).status).toBe(404);
  });
});
