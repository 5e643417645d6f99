import { createPrivateKey } from "node:crypto";
import { z } from "zod";

/** What must not change over a restart, and what nobody else may know. */
export const secretsSchema = z.strictObject({
  version: z.literal(1, "it was written by another version of cf-mesh"),
  /** Of the client that reads everything. */
  clientSecret: z.string().min(1),
  uaa: z.strictObject({
    signingKey: z.strictObject({ id: z.string().min(1), pem: z.string().refine(isRsaKey, "it is no RSA key") }),
    sessions: z
      .array(
        z.strictObject({
          refreshToken: z.string().min(1),
          clientId: z.string(),
          user: z.strictObject({ name: z.string(), scopes: z.array(z.string()).readonly() }),
        }),
      )
      .readonly(),
  }),
});
export type Secrets = z.input<typeof secretsSchema>;

function isRsaKey(pem: string): boolean {
  try {
    return createPrivateKey(pem).asymmetricKeyType === "rsa";
  } catch {
    return false;
  }
}
