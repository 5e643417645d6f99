/** Kinds of values that several sections have. */
import { z } from "zod";

export const file = z.string().min(1, "name a file");
const httpUrl = z.url({ protocol: /^https?$/, error: "must be an http:// or https:// URL" });
export const oneOrMoreUrls = z.union([httpUrl, z.array(httpUrl).min(1, "name at least one URL")], {
  error: ({ input }) => (input === undefined ? "is missing" : "must be an http:// or https:// URL, or a list of them"),
});
export const address = z.union([z.ipv4(), z.ipv6()], "must be an IP address");
export const port = z.int().min(1, "must be a port, 1 to 65535").max(65_535, "must be a port, 1 to 65535");
export const durationMs = (least: number) => z.int().min(least, `must be at least ${least} (milliseconds)`);
