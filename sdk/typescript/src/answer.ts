/** An answer of the service: read completely, and turned into a value or an error. */

import { OutcomeUnknown, RateLimited, Refused, type TriggersError, Unavailable } from "./errors.js";
import type { Problem } from "./shapes/problems.js";

/** An answer whose body was read completely. */
export class Answer {
  constructor(
    readonly status: number,
    readonly headers: Headers,
    readonly bytes: Uint8Array<ArrayBuffer>,
    /** The id that the request was sent with. */
    readonly sentId: string,
  ) {}

  /** The `X-Request-Id`. */
  get requestId(): string {
    return this.headers.get("x-request-id") ?? this.sentId;
  }

  /** The body as JSON. Throws OutcomeUnknown if it is none, because then another program sent it. */
  json<T>(): T {
    try {
      return JSON.parse(new TextDecoder().decode(this.bytes)) as T;
    } catch (cause) {
      const message = "The answer does not come from Triggers: it is not JSON. Check TRIGGERS_URL.";
      throw new OutcomeUnknown(message, { requestId: this.requestId, cause });
    }
  }

  /** The error that this answer means, or undefined for a 2xx. */
  error(): TriggersError | undefined {
    if (this.status >= 200 && this.status < 300) return undefined;
    const problem = this.#problem();
    const facts = {
      status: this.status,
      problem,
      requestId: this.requestId,
      retryAfterSeconds: retryAfterSeconds(this.headers.get("retry-after")),
    };
    const detail = problem ? describe(problem) : "The answer does not come from Triggers. Check TRIGGERS_URL.";
    const message = `${this.status} ${detail}`;
    if (this.status === 429) return new RateLimited(message, facts);
    if (this.status === 503) return new Unavailable(message, facts);
    if (this.status >= 500) return new OutcomeUnknown(message, facts);
    return new Refused(message, facts);
  }

  #problem(): Problem | undefined {
    try {
      const found = JSON.parse(new TextDecoder().decode(this.bytes)) as Problem | null;
      return typeof found?.code === "string" ? found : undefined;
    } catch {
      return undefined;
    }
  }
}

/** The value of `Retry-After` in seconds, whether it is a number or a date. Undefined if it is neither. */
export function retryAfterSeconds(value: string | null, now: number = Date.now()): number | undefined {
  if (value === null || value.trim() === "") return undefined;
  const seconds = Number(value);
  if (Number.isFinite(seconds)) return Math.max(0, seconds);
  const until = Date.parse(value);
  return Number.isNaN(until) ? undefined : Math.max(0, (until - now) / 1000);
}

function describe(problem: Problem): string {
  const fields = (problem.errors ?? []).map((each) => (each.pointer ? `${each.pointer}: ` : "") + each.detail);
  return fields.length ? fields.join(" ") : problem.detail;
}
