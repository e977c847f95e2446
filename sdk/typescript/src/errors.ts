/** Everything that this library throws. */

import type { Problem } from "./shapes/problems.js";

/** Facts of an error. */
export interface ErrorFacts {
  requestId?: string | undefined;
  cause?: unknown;
}

/** Facts of an error that the service answered with. */
export interface AnswerFacts extends ErrorFacts {
  status: number;
  problem?: Problem | undefined;
  retryAfterSeconds?: number | undefined;
}

/** The base of all errors of this library. */
export class TriggersError extends Error {
  /** The `X-Request-Id` with which the request is found in the log. Undefined if no request was made. */
  readonly requestId: string | undefined;

  constructor(message: string, facts: ErrorFacts = {}) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.requestId = facts.requestId;
  }

  static {
    this.prototype.name = "TriggersError";
  }
}

/** The service cannot be reached. It has not seen the request, or the request was a GET. */
export class ConnectionFailed extends TriggersError {
  static {
    this.prototype.name = "ConnectionFailed";
  }
}

/** The request was sent, and no answer of the service came. It may have been carried out or not. */
export class OutcomeUnknown extends TriggersError {
  static {
    this.prototype.name = "OutcomeUnknown";
  }
}

/** The service answered with an error. */
export class AnsweredWithProblem extends TriggersError {
  /** The HTTP status. */
  readonly status: number;
  /** What is wrong. Undefined if another program, such as a proxy, sent the answer. */
  readonly problem: Problem | undefined;

  constructor(message: string, facts: AnswerFacts) {
    super(message, facts);
    this.status = facts.status;
    this.problem = facts.problem;
  }

  /** The name of the error, which never changes, such as `dedup-conflict`. */
  get code(): string | undefined {
    return this.problem?.code;
  }
}

/** 429: a limit of the organisation is reached. Nothing was done. */
export class RateLimited extends AnsweredWithProblem {
  /** The seconds after which the service asks to try again. */
  readonly retryAfterSeconds: number;

  constructor(message: string, facts: AnswerFacts) {
    super(message, facts);
    this.retryAfterSeconds = facts.retryAfterSeconds ?? 1;
  }

  static {
    this.prototype.name = "RateLimited";
  }
}

/** 503: the service cannot process the request now. It may have been carried out or not. */
export class Unavailable extends AnsweredWithProblem {
  /** The seconds after which the service asks to try again. */
  readonly retryAfterSeconds: number;

  constructor(message: string, facts: AnswerFacts) {
    super(message, facts);
    this.retryAfterSeconds = facts.retryAfterSeconds ?? 1;
  }

  static {
    this.prototype.name = "Unavailable";
  }
}

/** The service refuses the request. The same request will be refused again. */
export class Refused extends AnsweredWithProblem {
  static {
    this.prototype.name = "Refused";
  }
}

/** A webhook is not signed with any of the secrets, or is too old. */
export class VerificationFailed extends TriggersError {
  static {
    this.prototype.name = "VerificationFailed";
  }
}
