/** Sends requests, repeats those that may be repeated, and turns failures into errors. */

import { Answer } from "./answer.js";
import { ConnectionFailed, OutcomeUnknown, RateLimited, Refused, TriggersError, Unavailable } from "./errors.js";
import { pause } from "./pause.js";
import { version } from "./version.js";

/** One request. `path` is below the URL of the service, with its segments already encoded. */
export interface Call {
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  path: string;
  /** Parameters. Those that are undefined, null or false are left out. */
  query?: object | undefined;
  /** Sent as JSON, if it is not undefined. */
  body?: unknown;
  /** Whether carrying it out twice is as good as once. Default: true unless it is a POST. */
  repeatable?: boolean;
  /** How long the service may wait before it answers, in addition to the timeout. */
  waitSeconds?: number;
  /** How long one try may take. Default: that of the client. */
  timeoutSeconds?: number;
  /** How long it is repeated. Default: that of the client. */
  retrySeconds?: number;
  /** Maximum pause before it is repeated, even if the service asks for a longer one. */
  longestPauseSeconds?: number;
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
}

/** Where the service is, and how patiently it is called. */
export interface TransportOptions {
  url: string;
  apiKey: string;
  timeoutSeconds: number;
  retrySeconds: number;
  fetch: (url: string, init: RequestInit) => Promise<Response>;
}

const FIRST_PAUSE_SECONDS = 0.25;
const LONGEST_PAUSE_SECONDS = 8;

/** Codes of the errors of fetch that mean that no connection was made, in Node and Bun. */
const NOT_CONNECTED = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
  "ConnectionRefused",
]);

/** Calls one service with one API key. */
export class Transport {
  readonly #options: TransportOptions;

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  /** How long a request is repeated if it fails. */
  get retrySeconds(): number {
    return this.#options.retrySeconds;
  }

  /** The value of the answer's JSON. */
  async json<T>(call: Call): Promise<T> {
    return (await this.send(call)).json<T>();
  }

  /** The answer, which is a 2xx. Throws a TriggersError otherwise, after the retries. */
  async send(call: Call): Promise<Answer> {
    const requestId = crypto.randomUUID();
    const until = performance.now() + (call.retrySeconds ?? this.#options.retrySeconds) * 1000;
    let sentBefore = false;
    for (let repetitions = 0; ; repetitions++) {
      const outcome = await this.#attempt(call, requestId);
      if (outcome instanceof Answer) return outcome;
      const seconds = Math.min(pauseSeconds(outcome, repetitions), call.longestPauseSeconds ?? Infinity);
      if (!isWorthRepeating(outcome, call) || performance.now() + seconds * 1000 > until) {
        throw final(outcome, sentBefore);
      }
      sentBefore ||= call.method !== "GET" && (outcome instanceof OutcomeUnknown || outcome instanceof Unavailable);
      await pause(seconds, call.signal);
    }
  }

  /** The answer while its body still arrives, for streams. Throws a TriggersError unless it is a 2xx. */
  async open(call: Call): Promise<Response> {
    const requestId = crypto.randomUUID();
    try {
      const response = await this.#fetch(call, requestId);
      if (response.ok) return response;
      throw (await read(response, requestId)).error();
    } catch (cause) {
      call.signal?.throwIfAborted();
      throw cause instanceof TriggersError ? cause : failure(call, requestId, cause);
    }
  }

  /** The outcome of sending it once. Throws only the reason of the caller's signal. */
  async #attempt(call: Call, requestId: string): Promise<Answer | TriggersError> {
    const seconds = (call.timeoutSeconds ?? this.#options.timeoutSeconds) + (call.waitSeconds ?? 0);
    const limit = AbortSignal.timeout(Math.ceil(seconds * 1000)); // Node takes only whole numbers
    call.signal?.throwIfAborted();
    try {
      const answer = await read(await this.#fetch(call, requestId, limit), requestId);
      return answer.error() ?? answer;
    } catch (cause) {
      call.signal?.throwIfAborted();
      return failure(call, requestId, cause, limit.aborted ? seconds : undefined);
    }
  }

  #fetch(call: Call, requestId: string, limit?: AbortSignal): Promise<Response> {
    const { url, apiKey, fetch } = this.#options;
    const headers: Record<string, string> = {
      authorization: `Bearer ${apiKey}`,
      "user-agent": `triggers-client-typescript/${version}`,
      "x-request-id": requestId,
      ...call.headers,
    };
    const signals = [call.signal, limit].filter((each) => each !== undefined);
    // A redirect is an error: the API key is for the service at `url` alone.
    const init: RequestInit = { method: call.method, headers, redirect: "manual", signal: AbortSignal.any(signals) };
    if (call.body !== undefined) {
      headers["content-type"] ??= "application/json";
      init.body = JSON.stringify(call.body);
    }
    return fetch(url + call.path + queryString(call.query), init);
  }
}

/** How long to wait before the next try: what the service asks for, or doubling pauses; with jitter. */
export function pauseSeconds(error: TriggersError, repetitions: number): number {
  if (error instanceof RateLimited || error instanceof Unavailable) {
    return error.retryAfterSeconds * (1 + Math.random() / 4);
  }
  const longest = Math.min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** Math.min(repetitions, 8));
  return longest * (0.5 + Math.random() / 2);
}

/** One segment of a path. Throws a TriggersError for a name that a URL would take for another path. */
export function segment(name: string): string {
  if (typeof name !== "string" || name === "" || name === "." || name === "..") {
    throw new TriggersError(`${JSON.stringify(name)} is not an id or a key.`);
  }
  return encodeURIComponent(name);
}

/** Whether the same request may succeed in a moment, and does no harm if it was carried out already. */
export function isWorthRepeating(error: TriggersError, call: Call): boolean {
  if (error instanceof RateLimited) return true;
  if (error instanceof Refused) return false;
  const mayRepeat = call.repeatable ?? call.method !== "POST";
  return mayRepeat || error instanceof ConnectionFailed;
}

/** The error to throw. If an earlier try may have been carried out, the last one does not tell. */
function final(error: TriggersError, sentBefore: boolean): TriggersError {
  if (!sentBefore || !(error instanceof ConnectionFailed || error instanceof RateLimited)) return error;
  const message = `An earlier try may have been carried out. The last one: ${error.message}`;
  return new OutcomeUnknown(message, { requestId: error.requestId, cause: error });
}

async function read(response: Response, requestId: string): Promise<Answer> {
  const bytes = new Uint8Array(await response.arrayBuffer());
  return new Answer(response.status, response.headers, bytes, requestId);
}

function failure(call: Call, requestId: string, cause: unknown, timeoutSeconds?: number): TriggersError {
  const facts = { requestId, cause };
  if (timeoutSeconds !== undefined) {
    const message = `No complete answer to ${call.method} ${call.path} within ${timeoutSeconds} seconds.`;
    return new OutcomeUnknown(message, facts);
  }
  const reason = cause instanceof Error ? reasonOf(cause) : String(cause);
  if (call.method === "GET" || neverConnected(cause)) {
    return new ConnectionFailed(`Cannot reach the service: ${reason}`, facts);
  }
  return new OutcomeUnknown(`The connection broke during ${call.method} ${call.path}: ${reason}`, facts);
}

function reasonOf(error: Error): string {
  return error.cause instanceof Error && error.cause.message ? error.cause.message : error.message;
}

/** Whether it is certain that the request did not leave this machine. */
function neverConnected(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = (error as { code?: unknown }).code;
  if (typeof code === "string" && NOT_CONNECTED.has(code)) return true;
  // Deno and workerd have no codes.
  return /error \(Connect\)|Connection refused/i.test(error.message) || neverConnected(error.cause);
}

function queryString(query: object | undefined): string {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined && value !== null && value !== false) pairs.set(name, String(value));
  }
  const text = pairs.toString();
  return text && `?${text}`;
}
