/** Endpoints that failed: left alone for a while, as on Gorouter. */
import { create } from "@bufbuild/protobuf";
import { type Duration, DurationSchema } from "@bufbuild/protobuf/wkt";
import { OutlierDetectionSchema } from "../gen/envoy/config/cluster/v3/outlier_detection_pb.js";
import { HealthStatus } from "../gen/envoy/config/core/v3/health_check_pb.js";

/** A quarter of the 120 s for which registrations stand. */
const EJECTION_SECONDS = 30n;

const LOOK_SECONDS = 5n;

const ALL_PERCENT = 100;

const seconds = (count: bigint): Duration => create(DurationSchema, { seconds: count });
const off = 0;

/** After the first connection that fails, or that ends without an answer. What an app answers counts for nothing. */
export const OUTLIER_DETECTION = create(OutlierDetectionSchema, {
  splitExternalLocalOriginErrors: true,
  consecutiveLocalOriginFailure: 1,
  enforcingConsecutiveLocalOriginFailure: ALL_PERCENT,
  enforcingConsecutive5xx: off,
  enforcingConsecutiveGatewayFailure: off,
  enforcingSuccessRate: off,
  enforcingLocalOriginSuccessRate: off,
  enforcingFailurePercentage: off,
  enforcingFailurePercentageLocalOrigin: off,
  interval: seconds(LOOK_SECONDS),
  baseEjectionTime: seconds(EJECTION_SECONDS),
  maxEjectionTime: seconds(EJECTION_SECONDS),
  maxEjectionPercent: ALL_PERCENT,
});

/** When all have failed, all are tried again; who asks for one by name gets it whatever its state. */
export const FAILED_ENDPOINTS_LB = {
  healthyPanicThreshold: { value: 1 },
  // At once: by default Envoy's workers hear of a second failure within a second of the first a second later.
  updateMergeWindow: seconds(0n),
  overrideHostStatus: {
    statuses: [HealthStatus.UNKNOWN, HealthStatus.HEALTHY, HealthStatus.DEGRADED, HealthStatus.UNHEALTHY],
  },
};

/** In percent. Shares and zones keep their requests while one of their endpoints is left; Envoy's own factor is 140. */
export const OVERPROVISIONING_FACTOR = 100_000;
