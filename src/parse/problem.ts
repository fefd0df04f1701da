/** Why a line, or a part of it, could not be read. */
export type ErrorCode =
  | 'unknown-dialect'
  | 'unsupported-section'
  | 'too-few-columns'
  | 'too-long'
  | 'bad-address'
  | 'bad-port'
  | 'bad-queue'
  | 'bad-pid'
  | 'bad-users'
  | 'unattached-continuation';

/** An error and a sentence that says why. */
export interface Problem {
  readonly error: ErrorCode;
  readonly reason: string;
}
