/** Streams: Server-Sent Events, read with fetch. */

import { Refused, TriggersError } from "./errors.js";
import { pause } from "./pause.js";
import { type Transport, isWorthRepeating, pauseSeconds } from "./transport.js";

/** Something that happened in the organisation. */
export type Change =
  | { kind: "accepted"; event_id: string; type: string }
  | {
      kind: "attempt";
      event_id: string;
      /** Null if the event was deleted meanwhile. */
      type: string | null;
      subscription_id: string;
      generation: number;
      attempt: number;
      outcome: "delivered" | "retry" | "dead";
    }
  | { kind: "dead"; event_id: string; type: string | null; subscription_id: string; generation: number }
  /** There were more than 50 frames in a second. */
  | { kind: "sampled"; left_out: number }
  /** Changes may be missing here. */
  | { kind: "gap"; reason: "reconnected" | "too_many" };

/** So many messages of an inbox have become available. */
export interface MessagesAvailable {
  kind: "message";
  inbox_id: string;
  count: number;
}

/** How to read a stream. */
export interface StreamOptions {
  /** Ends the loop with the reason of this signal. */
  signal?: AbortSignal | undefined;
}

const RECONNECT_SECONDS = 1;
/** The service sends something every 15 seconds at least. */
const SILENCE_SECONDS = 40;
/** A longer line cannot come from the service. */
const LONGEST_LINE = 1024 * 1024;

/**
 * A stream that connects again when it ends. Leaving the loop closes it. The loop ends with an error if the
 * service refuses the request, for example because the API key was revoked or the inbox was deleted.
 */
export class Stream<T> implements AsyncIterable<T> {
  readonly #transport: Transport;
  readonly #path: string;
  readonly #query: object;
  readonly #signal: AbortSignal | undefined;
  #lastId: string | undefined;

  constructor(transport: Transport, path: string, query: object, options: StreamOptions) {
    this.#transport = transport;
    this.#path = path;
    this.#query = query;
    this.#signal = options.signal;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (let failures = 0; ; failures++) {
      let seconds = RECONNECT_SECONDS;
      try {
        for await (const each of this.#connection()) {
          failures = 0;
          yield each;
        }
      } catch (error) {
        this.#signal?.throwIfAborted();
        if (!(error instanceof TriggersError) || error instanceof Refused) throw error;
        if (!isWorthRepeating(error, { method: "GET", path: this.#path })) throw error;
        seconds = Math.max(seconds, pauseSeconds(error, failures));
      }
      await pause(seconds, this.#signal);
    }
  }

  async *#connection(): AsyncGenerator<T, void, undefined> {
    const silence = new AbortController();
    const signals = [silence.signal, this.#signal].filter((each) => each !== undefined);
    const restart = () => setTimeout(() => silence.abort(), SILENCE_SECONDS * 1000);
    let timer = restart();
    try {
      const headers: Record<string, string> = { accept: "text/event-stream" };
      if (this.#lastId !== undefined) headers["last-event-id"] = this.#lastId;
      const call = { method: "GET", path: this.#path, query: this.#query, headers } as const;
      const response = await this.#transport.open({ ...call, signal: AbortSignal.any(signals) });
      for await (const line of lines(response)) {
        clearTimeout(timer);
        timer = restart();
        const found = this.#frame(line);
        if (found !== undefined) yield found;
      }
    } catch (error) {
      // A connection that is cut or silent is opened again like one that the service ended.
      if (error instanceof TriggersError || this.#signal?.aborted) throw error;
    } finally {
      clearTimeout(timer);
      silence.abort();
    }
  }

  #name = "message";
  #data: string[] = [];

  /** The frame that a line ends, if it ends one. */
  #frame(line: string): T | undefined {
    if (line === "") {
      const [kind, data] = [this.#name, this.#data.join("\n")];
      [this.#name, this.#data] = ["message", []];
      return data ? ({ kind, ...JSON.parse(data) } as T) : undefined;
    }
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
    if (field === "event") this.#name = value ?? "";
    if (field === "data") this.#data.push(value ?? "");
    if (field === "id") this.#lastId = value;
    return undefined;
  }
}

async function* lines(response: Response): AsyncGenerator<string, void, undefined> {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const found = (rest + part.value).split("\n");
      rest = found.pop() ?? "";
      if (rest.length > LONGEST_LINE) throw new TriggersError("A line of the stream is too long.");
      for (const line of found) yield line.replace(/\r$/, "");
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
