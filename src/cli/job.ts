import { Command } from "commander";
import type { Section } from "../config/config.js";

/**
 * A command that runs the jobs of these sections of the configuration, those that the file has, one at least. `helpers` are sections that such a job reads too, where the file has them.
 */
export function jobCommand(
  name: string,
  description: string,
  sections: readonly Section[],
  helpers: readonly Section[] = [],
): Command {
  return new Command(name)
    .description(description)
    .requiredOption("-c, --config <file>", "configuration in YAML; docs/config.md tells its keys")
    .action(async ({ config }: { config: string }) => {
      const { runJob } = await import("./run-job.js");
      await runJob(name, config, sections, helpers);
    });
}
