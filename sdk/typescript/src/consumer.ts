/** Consumes an inbox: leases, calls the handler, and settles. */

import { RateLimited, Refused, TriggersError } from "./errors.js";
import type { InboxHandle } from "./inbox.js";
import type { Lease } from "./lease.js";
import type { Message } from "./message.js";
import { pause } from "./pause.js";
import type { Note } from "./shapes/messages.js";
import { stopSignals } from "./stop_signals.js";
import { pauseSeconds } from "./transport.js";

/** Processes one message. When it returns, the message is acknowledged. When it throws, it is released. */
export type Handler = (message: Message) => unknown;

/** Options of a consumer. */
export interface ConsumerOptions {
  /** How many messages are handled at once, 1 to 500. Default: 8. */
  concurrency?: number;
  /** Duration of a lease. It is renewed after each third of it. Default: 60. */
  leaseSeconds?: number;
  /** For how long the lease of a message is renewed at most. Default: 600. */
  maxSeconds?: number;
  /**
   * A message is rejected if the handler fails in this lease of it. Leases of consumers that only stopped do not
   * count. Default: 10.
   */
  maxAttempts?: number;
  /** How long one request waits for a message. Default: 20. */
  waitSeconds?: number;
  /** How long handlers may go on after `stop()`. Then their messages are released. Default: 25. */
  drainSeconds?: number;
  /** Name of the consumer, shown with its leases. */
  name?: string;
  /** Whether SIGTERM and SIGINT stop the consumer, if the runtime has them. Default: true. */
  handleSignals?: boolean;
  /** Is called for each error of a handler, with its message, and each failed request. Default: `console.error`. */
  onError?: (error: unknown, message?: Message) => void;
}

const LONGEST_RELEASE_SECONDS = 300;
/** Maximum time for which a `Retry-After` of a 429 idles a slot. */
const LONGEST_RATE_LIMIT_SECONDS = 60;
const LONGEST_PAUSE_SECONDS = 2;
const PAUSED_SECONDS = 5;
const RACE_SECONDS = 0.3;
const GIVE_BACK_SECONDS = 2;
/** For so long a consumer that gives up tries to release its messages. */
const END_SECONDS = 4;

/** A consumer of one inbox. */
export class Consumer {
  readonly #inbox: InboxHandle;
  readonly #handler: Handler;
  readonly #options: Required<Omit<ConsumerOptions, "name">> & { name: string | undefined };
  readonly #stopping = new AbortController();
  readonly #givingUp = new AbortController();
  readonly #held = new Set<Lease>();
  readonly #leasing = new Set<Promise<Lease | undefined>>();
  #failure: unknown;
  #isRunning = false;

  constructor(inbox: InboxHandle, handler: Handler, options: ConsumerOptions) {
    this.#inbox = inbox;
    this.#handler = handler;
    this.#options = {
      concurrency: 8,
      leaseSeconds: 60,
      maxSeconds: 600,
      maxAttempts: 10,
      waitSeconds: 20,
      drainSeconds: 25,
      handleSignals: true,
      onError: reportError,
      name: undefined,
      ...options,
    };
    const { concurrency, leaseSeconds, maxAttempts } = this.#options;
    if (!(concurrency >= 1 && concurrency <= 500)) throw new RangeError("concurrency must be 1 to 500.");
    if (!(leaseSeconds >= 1 && leaseSeconds <= 3600)) throw new RangeError("leaseSeconds must be 1 to 3600.");
    if (!(maxAttempts >= 1)) throw new RangeError("maxAttempts must be 1 or more.");
  }

  /**
   * Consume until `stop()`, SIGTERM or SIGINT. Then messages in work are finished or released.
   *
   * Throws Refused if the service refuses to lease, for example because the key was revoked or the inbox deleted.
   */
  async run(): Promise<void> {
    if (this.#isRunning) throw new TriggersError("This consumer runs already. Make another one.");
    this.#isRunning = true;
    const finished = new AbortController();
    const forget = this.#options.handleSignals ? stopSignals((options) => this.stop(options)) : () => undefined;
    try {
      const slots = Array.from({ length: this.#options.concurrency }, () => this.#slot());
      await Promise.race([Promise.all(slots), this.#drained(finished.signal)]);
    } finally {
      finished.abort();
      forget();
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  /**
   * Take no more messages. `run()` returns when those in work are settled. With `now`, handlers get no time to
   * finish.
   */
  stop(options: { now?: boolean } = {}): void {
    this.#stopping.abort(new TriggersError("The consumer stops."));
    if (options.now) this.#givingUp.abort(this.#stopping.signal.reason);
  }

  get #isStopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  async #slot(): Promise<void> {
    try {
      while (!this.#isStopping) {
        const next = this.#next();
        this.#leasing.add(next);
        const lease = await next.finally(() => this.#leasing.delete(next));
        const [message] = lease?.messages ?? [];
        if (lease && message) await this.#process(lease, message);
      }
    } catch (error) {
      if (!this.#isStopping) this.#failure ??= error;
      this.stop();
    }
  }

  /** A lease whose message can be handled, or undefined if there is none now. */
  async #next(): Promise<Lease | undefined> {
    const lease = await this.#take();
    // If a lease could not be confirmed, another consumer may have the message.
    if (!lease?.messages.length || !(lease.lost.aborted || this.#isStopping)) return lease;
    await this.#giveUp(lease);
    return undefined;
  }

  /** A lease of one message, or undefined if there is none now. Throws Refused, or the reason of the stop. */
  async #take(): Promise<Lease | undefined> {
    const id = crypto.randomUUID();
    try {
      for (let failures = 0; ; failures++) {
        const found = await this.#tryToTake(id, failures);
        if (found !== "again") return found;
      }
    } catch (error) {
      if (this.#isStopping) await this.#release(id);
      throw error;
    }
  }

  /** Each try uses the same id, so that a lease whose answer was lost is found again. */
  async #tryToTake(id: string, failures: number): Promise<Lease | undefined | "again"> {
    try {
      const lease = await this.#lease(id);
      if (failures) await lease.confirm(); // an earlier try may have begun it
      return lease;
    } catch (error) {
      if (!(error instanceof TriggersError) || this.#isStopping) throw error;
      if (error instanceof Refused) {
        if (error.code !== "inbox-paused") throw error;
        await pause(PAUSED_SECONDS, this.#stopping.signal);
        return undefined;
      }
      this.#options.onError(error);
      const longest = error instanceof RateLimited ? LONGEST_RATE_LIMIT_SECONDS : LONGEST_PAUSE_SECONDS;
      await pause(Math.min(pauseSeconds(error, failures), longest), this.#stopping.signal);
      return "again";
    }
  }

  #lease(id: string): Promise<Lease> {
    const { leaseSeconds, maxSeconds, waitSeconds, name } = this.#options;
    return this.#inbox.lease({
      lease_id: id,
      lease_limit: 1,
      lease_seconds: leaseSeconds,
      wait_seconds: waitSeconds,
      maxSeconds,
      retrySeconds: 0, // `#take` repeats it
      ...(name === undefined ? {} : { consumer: name }),
      signal: this.#stopping.signal,
    });
  }

  /** Release a lease without counting it. It may have been taken at the moment when its request was cut off. */
  async #release(id: string, note?: Note): Promise<void> {
    const options = { retrySeconds: 0, timeoutSeconds: GIVE_BACK_SECONDS };
    let body: { counted?: boolean; note?: Note } = { counted: false, ...(note && { note }) };
    for (let failures = 0; failures < 2; ) {
      try {
        await this.#inbox.release(id, body, options);
        return;
      } catch (error) {
        const isWrong = error instanceof Refused && error.status === 422;
        if (isWrong && body.note) body = { counted: false };
        else if (isWrong && body.counted === false) body = {}; // the service is older than `counted`
        else if (++failures < 2) await pause(RACE_SECONDS); // nothing was leased, or it is about to be
      }
    }
  }

  /** Release the message of a lease that nobody works on any more. */
  async #giveUp(lease: Lease): Promise<void> {
    lease.lose("The consumer stops.");
    if (lease.id !== null) await this.#release(lease.id, lease.messages[0]?.note);
  }

  async #process(lease: Lease, message: Message): Promise<void> {
    this.#held.add(lease);
    try {
      await message.end(await this.#handle(message));
    } catch (error) {
      this.#options.onError(error, message); // it comes again when the lease has ended
    } finally {
      lease.letGo();
      this.#held.delete(lease);
    }
  }

  /** What becomes of the message after its handler has ended. */
  async #handle(message: Message): Promise<"ack" | { delay_seconds: number }> {
    const { maxAttempts, onError } = this.#options;
    if (message.leaseCount > maxAttempts) {
      message.reject(`Leased ${message.leaseCount} times, and never finished`);
      return "ack";
    }
    try {
      await this.#handler(message);
      return "ack";
    } catch (error) {
      onError(error, message);
      if (message.leaseCount >= maxAttempts && message.rejection === undefined) message.reject(textOf(error));
      return { delay_seconds: Math.min(LONGEST_RELEASE_SECONDS, 2 ** Math.min(message.leaseCount - 1, 20)) };
    }
  }

  /** Resolves when a stop has waited long enough for handlers, and their messages are released. */
  async #drained(finished: AbortSignal): Promise<void> {
    await new Promise((resolve) => this.#stopping.signal.addEventListener("abort", resolve, { once: true }));
    const signal = AbortSignal.any([finished, this.#givingUp.signal]);
    await pause(this.#options.drainSeconds, signal).catch(() => undefined);
    // A request for a lease that the stop cut off may have leased a message, which is released too.
    const released = Promise.allSettled([...this.#leasing, ...[...this.#held].map((lease) => this.#giveBack(lease))]);
    await Promise.race([released, pause(END_SECONDS, finished).catch(() => undefined)]);
  }

  /** Tell the handler to stop before another consumer can have its message. A settlement under way ends first. */
  async #giveBack(lease: Lease): Promise<void> {
    await lease.settled();
    if (!lease.messages.every((each) => each.isSettled)) await this.#giveUp(lease);
  }
}

function textOf(error: unknown): string {
  try {
    return String(error);
  } catch {
    return "The handler threw something that has no text.";
  }
}

function reportError(error: unknown, message?: Message): void {
  console.error(message ? `triggers: message ${message.id} failed:` : "triggers:", error);
}
