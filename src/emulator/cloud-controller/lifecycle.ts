/** How an app is built: buildpacks and a stack. Source: BuildpackLifecycleDataMessage of cloud_controller_ng. */
import { z } from "zod";
import { BUILDPACK_NAMES } from "../staging/stager.js";

export const STACK = "cflinuxfs4";

/** Why buildpacks or a stack can't be used, in Cloud Controller's words. */
export function lifecycleProblems(buildpacks: readonly string[], stack: string | undefined): readonly string[] {
  const problems = buildpacks
    .filter((name) => !BUILDPACK_NAMES.includes(name) && !isRemote(name))
    .map((name) => `Buildpack "${name}" must be an existing admin buildpack or a valid git URI`);
  return stack === undefined || stack === STACK ? problems : [...problems, "Stack must be an existing stack"];
}

export const lifecycleField = z
  .strictObject(
    {
      type: z.literal("buildpack", "is not included in the list: buildpack"),
      data: z
        .strictObject({
          buildpacks: z.array(z.string()).nullish(),
          stack: z.string().nullish(),
          credentials: z.unknown().optional(),
        })
        .superRefine((data, context) => {
          for (const message of lifecycleProblems(data.buildpacks ?? [], data.stack ?? undefined)) {
            context.addIssue({ code: "custom", message });
          }
        }),
    },
    "must be an object",
  )
  .nullish();

/** Accepted as Cloud Controller does; its build then fails, as nothing is downloaded here. */
function isRemote(name: string): boolean {
  return /^(https?|git|ssh):\/\/\S+$/.test(name);
}
