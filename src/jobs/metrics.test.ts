import { expect, it } from "vitest";
import { jobMetrics } from "./metrics.js";
import type { MeshStatus } from "./up.js";

it("messages of NATS are counted by Gorouter's names", async () => {
  const status: MeshStatus = {
    router: undefined,
    sources: [
      {
        name: "nats",
        role: "leader",
        state: "following",
        lastSyncMs: 0,
        lastError: undefined,
        messages: { registered: 7, unregistered: 2, pruned: 1, waiting: 3, dropped: 4, refused: 5 },
      },
    ],
    credentials: { replacedCount: 0, refused: [], certificateEndsMs: {} },
  };
  const text = await jobMetrics("0.0.0", () => status)();
  expect(text).toContain('registry_message{component="",action=""} 7');
  expect(text).toContain('unregistry_message{component=""} 2');
  expect(text).toContain("routes_pruned 1");
  expect(text).toContain("buffered_messages 3");
  expect(text).toContain("total_dropped_messages 4");
  expect(text).toContain('cf_mesh_source_messages_refused_total{source="nats"} 5');
  // What a job does not have must not look like a fault of it.
  expect(text).not.toMatch(/^cf_mesh_(mirror|router|envoy)_/m);
});
