import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { FaultRule } from "../../src/emulator/http/faults.js";
import { eventually } from "../support/eventually.js";
import { startLoad } from "../support/client.js";
import { startMesh, type TestMesh } from "../support/mesh.js";

describe("while Cloud Controller misbehaves", () => {
  let mesh: TestMesh;
  beforeAll(async () => {
    mesh = await startMesh();
    await Promise.all([mesh.app("blue"), mesh.app("green")]);
    await mesh.route("serving", { to: [{ app: "blue" }] });
    await mesh.answers("serving.mesh.localhost", 200);
  });
  afterAll(() => mesh.stop());

  const status = () => {
    const found = mesh.jobs.status.sources.find(({ name }) => name === "cloud-controller");
    if (!found) throw new Error("no such source");
    return found;
  };

  const READS: Omit<FaultRule, "fault"> = {
    path: /^\/v3\/(routes|audit_events|processes|apps|spaces|domains)/,
    method: "GET",
  };
  it.each<{ name: string; rule: FaultRule; error: RegExp }>([
    { name: "answers 401", rule: { ...READS, fault: { kind: "invalid-token" } }, error: /401/ },
    { name: "answers 429", rule: { ...READS, fault: { kind: "rate-limited", retryAfterSeconds: 1 } }, error: /429/ },
    { name: "answers 500", rule: { ...READS, fault: { kind: "status", status: 500 } }, error: /500/ },
    { name: "answers no JSON", rule: { ...READS, fault: { kind: "garbage" } }, error: /JSON/i },
    { name: "cuts its answers off", rule: { ...READS, fault: { kind: "truncated" } }, error: /MESH_SOURCE/ },
    { name: "drops connections", rule: { ...READS, fault: { kind: "drop" } }, error: /MESH_SOURCE/ },
  ])(
    "nothing that serves changes when it $name, the status says why, and it recovers",
    async ({ name, rule, error }) => {
      const host = `after-${name.replaceAll(" ", "-")}`.toLowerCase();
      const load = startLoad(mesh.routerPort, "serving.mesh.localhost", 1);
      const fault = mesh.foundation.faults.inject(rule);
      await eventually(() => status().state === "retrying");
      expect(status().lastError).toMatch(error);
      expect(status().lastError).toContain("fix:");
      fault.clear();
      // A change made through the API reaches Envoy again.
      await mesh.route(host, { to: [{ app: "green" }] });
      await mesh.answers(`${host}.mesh.localhost`, 200);
      await eventually(() => status().state === "following");
      expect(status().lastError).toBeUndefined();
      expect((await load.stop()).failures).toEqual([]);
    },
  );
});
