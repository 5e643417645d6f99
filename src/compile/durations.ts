/** Times as protobuf has them. */
import { create } from "@bufbuild/protobuf";
import { type Duration, DurationSchema } from "@bufbuild/protobuf/wkt";

const MS_PER_SECOND = 1_000;
const NANOS_PER_MS = 1_000_000;

export function milliseconds(count: number): Duration {
  return create(DurationSchema, {
    seconds: BigInt(Math.floor(count / MS_PER_SECOND)),
    nanos: (count % MS_PER_SECOND) * NANOS_PER_MS,
  });
}
