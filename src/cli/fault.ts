import { Command } from "commander";
import { DEV_DEFAULTS } from "../jobs/dev-defaults.js";
import type { FaultFlags } from "./run-fault.js";

/** Makes things go wrong in the foundation of a laptop that runs. */
export function faultCommand(): Command {
  const command = new Command("fault")
    .description("what goes wrong on purpose in the foundation of cf-mesh dev")
    .addHelpText(
      "after",
      `
Examples:
  cf-mesh fault list                                        every fault with its parameters, and what is active
  cf-mesh fault inject http-status path=/v3/routes* status=500
  cf-mesh fault inject instance-crash app=hello
  cf-mesh fault clear                                       ends all that is active
`,
    );
  const add = (name: string, description: string) =>
    command
      .command(name)
      .description(description)
      .option("-d, --directory <directory>", "the state directory of cf-mesh dev", DEV_DEFAULTS.stateDirectory);

  // Loaded when needed: a router has no use for a foundation.
  add("list", "every fault with its parameters, and those that are active").action(async (flags: FaultFlags) => {
    const { listFaults } = await import("./run-fault.js");
    await listFaults(flags);
  });
  add("inject", "makes a fault happen; cf-mesh fault list tells names and parameters")
    .argument("<name>", "as in bbs-down")
    .argument("[parameter...]", "as in app=hello")
    .action(async (name: string, parameters: readonly string[], flags: FaultFlags) => {
      const { injectFault } = await import("./run-fault.js");
      await injectFault(name, parameters, flags);
    });
  add("clear", "ends an active fault, or all of them")
    .argument("[id]", "as cf-mesh fault list tells it; left out: all")
    .action(async (id: string | undefined, flags: FaultFlags) => {
      const { clearFaults } = await import("./run-fault.js");
      await clearFaults(id, flags);
    });
  return command;
}
