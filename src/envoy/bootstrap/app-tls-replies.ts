/** The router's answers for apps whose TLS is not as it should be; such an app was tried, and others before it. */
import { expression, NEVER_CACHED, type Reply } from "./reply.js";

const failure = (condition: string) => expression(`upstream.transport_failure_reason.${condition}`);

/** The first that holds decides: Envoy says of each mismatch that the verification failed, too. */
export const APP_TLS_REPLIES: readonly Reply[] = [
  {
    when: failure("contains('SAN matcher')"),
    status: 503,
    statusText: "Service Unavailable",
    routerError: "endpoint_failure (the certificate is for another instance)",
    message: undefined,
    cacheControl: NEVER_CACHED,
  },
  {
    when: failure("contains('CERTIFICATE_VERIFY_FAILED')"),
    status: 526,
    statusText: "Invalid SSL Certificate",
    routerError: "endpoint_failure (the certificate is not trusted)",
    message: undefined,
    cacheControl: NEVER_CACHED,
  },
  {
    when: failure("matches('CERTIFICATE_REQUIRED|BAD_CERTIFICATE')"),
    status: 496,
    statusText: "SSL Certificate Required",
    routerError: "endpoint_failure (the app wants a certificate)",
    message: undefined,
    cacheControl: NEVER_CACHED,
  },
  {
    // A connection that is refused has a reason, too, but none of TLS.
    when: failure("contains('TLS_error')"),
    status: 525,
    statusText: "SSL Handshake Failed",
    routerError: "endpoint_failure (no TLS)",
    message: undefined,
    cacheControl: NEVER_CACHED,
  },
];
