/** Cloud Controller's errors, as its clients read them: {"errors":[{"code","title","detail"}]}. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly code: number;
  readonly title: string;

  constructor(status: number, code: number, title: string, detail: string) {
    super(detail);
    this.status = status;
    this.code = code;
    this.title = title;
  }

  get body(): ErrorBody {
    return { errors: [{ code: this.code, title: this.title, detail: this.message }] };
  }
}

export interface ErrorBody {
  readonly errors: readonly { readonly code: number; readonly title: string; readonly detail: string }[];
}

export const invalidAuthToken = () => new ApiError(401, 1000, "CF-InvalidAuthToken", "Invalid Auth Token");

export const messageParseError = () =>
  new ApiError(400, 1001, "CF-MessageParseError", "Request invalid due to parse error: invalid request body");

export const unknownRequest = () => new ApiError(404, 10000, "CF-NotFound", "Unknown request");

export const unknownError = () => new ApiError(500, 10001, "UnknownError", "An unknown error occurred.");

export const notAuthenticated = () => new ApiError(401, 10002, "CF-NotAuthenticated", "Authentication error");

export const notAuthorized = () =>
  new ApiError(403, 10003, "CF-NotAuthorized", "You are not authorized to perform the requested action");

export const badQueryParameter = (problem: string) =>
  new ApiError(400, 10005, "CF-BadQueryParameter", `The query parameter is invalid: ${problem}`);

export const unprocessable = (problem: string) => new ApiError(422, 10008, "CF-UnprocessableEntity", problem);

/** `kind` as in "Route": clients match on "Route not found". */
export const notFound = (kind: string) => new ApiError(404, 10010, "CF-ResourceNotFound", `${kind} not found`);

export const rateLimitExceeded = () => new ApiError(429, 10013, "CF-RateLimitExceeded", "Rate Limit Exceeded");

export const notUnique = (problem: string) => new ApiError(422, 10016, "CF-UniquenessError", problem);

export const featureDisabled = (flag: string) =>
  new ApiError(403, 330002, "CF-FeatureDisabled", `Feature Disabled: ${flag}`);

/** Several at once, as manifests have: clients show each. */
export class CompoundError extends ApiError {
  readonly errors: readonly ApiError[];

  constructor(errors: readonly ApiError[]) {
    super(422, 10008, "CF-UnprocessableEntity", errors.map(({ message }) => message).join("\n"));
    this.errors = errors;
  }

  override get body(): ErrorBody {
    return { errors: this.errors.flatMap((error) => error.body.errors) };
  }
}
