import { homedir } from "node:os";
import { join } from "node:path";

/** Apart from dev.ts, so that help and other commands need not load a whole foundation. */
export const DEV_DEFAULTS = {
  host: "127.0.0.1",
  routerPort: 8080,
  apiPort: 8180,
  domains: ["mesh.localhost", "apps.example.test"],
  systemDomain: "sys.mesh.localhost",
  stateDirectory: join(homedir(), ".cf-mesh", "dev"),
  // One worker, so that shares are exact over all connections together.
  concurrency: 1,
} as const;
