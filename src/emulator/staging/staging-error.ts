/** Cloud Controller's names for what can go wrong; clients look for NoAppDetectedError. */
export type StagingErrorId =
  "NoAppDetectedError" | "BuildpackCompileFailed" | "BuildpackReleaseFailed" | "StagingError" | "StagingTimeExpired";

/** Why an app can't be staged; the text is for the user who pushed it. */
export class StagingError extends Error {
  override readonly name = "StagingError";
  readonly id: StagingErrorId;

  constructor(id: StagingErrorId, message: string, options?: ErrorOptions) {
    super(message, options);
    this.id = id;
  }
}

export const compileFailed = (problem: string, fix: string) =>
  new StagingError("BuildpackCompileFailed", `App staging failed in the buildpack compile phase: ${problem}. ${fix}`);
