/** What the routing API refuses with: a status, and {"name": kind, "message"}. */
export class RoutingApiError extends Error {
  override readonly name = "RoutingApiError";
  readonly status: number;
  readonly kind: string;

  constructor(status: number, kind: string, message: string) {
    super(message);
    this.status = status;
    this.kind = kind;
  }
}
