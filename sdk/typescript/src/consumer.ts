/** Consumes an inbox: leases, calls the handler, and settles. */

import { Refused, TriggersError } from "./errors.js";
import type { InboxHandle } from "./inbox.js";
import type { Lease } from "./lease.js";
import type { Message } from "./message.js";
import { pause } from "./pause.js";
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
  /** A message is rejected if the handler fails in this lease of it. Default: 10. */
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
/** Maximum time for which a `Retry-After` of the service, or of a proxy before it, idles a slot. */
const LONGEST_PAUSE_SECONDS = 60;
const PAUSED_SECONDS = 5;
const RACE_SECONDS = 0.3;

/** A consumer of one inbox. */
export class Consumer {
  readonly #inbox: InboxHandle;
  readonly #handler: Handler;
  readonly #options: Required<Omit<ConsumerOptions, "name">> & { name: string | undefined };
  readonly #stopping = new AbortController();
  readonly #held = new Set<Lease>();
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
    const forget = this.#options.handleSignals ? stopSignals(() => this.stop()) : () => undefined;
    try {
      const slots = Array.from({ length: this.#options.concurrency }, () => this.#slot());
      await Promise.race([Promise.all(slots), this.#drained(finished.signal)]);
    } finally {
      finished.abort();
      forget();
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Take no more messages. `run()` returns when those in work are settled. */
  stop(): void {
    this.#stopping.abort(new TriggersError("The consumer stops."));
  }

  get #isStopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  async #slot(): Promise<void> {
    try {
      while (!this.#isStopping) {
        const lease = await this.#take();
        const [message] = lease?.messages ?? [];
        // A lease that could not be confirmed is over, so another consumer may have the message.
        if (lease && message && !lease.lost.aborted) await this.#process(lease, message);
      }
    } catch (error) {
      if (!this.#isStopping) this.#failure ??= error;
      this.stop();
    }
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
      if (this.#isStopping) await this.#giveUp(id);
      throw error;
    }
  }

  /** Each try uses the same id, so that a lease whose answer was lost is found again. */
  async #tryToTake(id: string, failures: number): Promise<Lease | undefined | "again"> {
    try {
      const lease = await this.#lease(id);
      if (failures && lease.messages.length) await lease.renew();
      return lease;
    } catch (error) {
      if (!(error instanceof TriggersError) || this.#isStopping) throw error;
      if (error instanceof Refused) {
        if (error.code !== "inbox-paused") throw error;
        await pause(PAUSED_SECONDS, this.#stopping.signal);
        return undefined;
      }
      this.#options.onError(error);
      const seconds = Math.min(pauseSeconds(error, failures), LONGEST_PAUSE_SECONDS);
      await pause(seconds, this.#stopping.signal);
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
      ...(name === undefined ? {} : { consumer: name }),
      signal: this.#stopping.signal,
    });
  }

  /** Release a lease that may have been taken at the moment when its request was cut off. */
  async #giveUp(id: string): Promise<void> {
    for (let tries = 0; tries < 2; tries++) {
      try {
        await this.#inbox.release(id, {}, { retrySeconds: 0 });
        return;
      } catch {
        await pause(RACE_SECONDS); // nothing was leased, or it is about to be
      }
    }
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
      if (message.leaseCount >= maxAttempts && message.rejection === undefined) message.reject(String(error));
      return { delay_seconds: Math.min(LONGEST_RELEASE_SECONDS, 2 ** Math.min(message.leaseCount - 1, 20)) };
    }
  }

  /** Resolves when a stop has waited long enough for handlers, and their messages are released. */
  async #drained(finished: AbortSignal): Promise<void> {
    await new Promise((resolve) => this.#stopping.signal.addEventListener("abort", resolve, { once: true }));
    await pause(this.#options.drainSeconds, finished).catch(() => undefined);
    await Promise.all([...this.#held].map((lease) => this.#giveBack(lease)));
  }

  /** Tell the handler to stop before another consumer can have its message. A settlement under way ends first. */
  async #giveBack(lease: Lease): Promise<void> {
    await lease.settled();
    if (lease.id === null || lease.messages.every((each) => each.isSettled)) return;
    lease.lose("The consumer stops.");
    await this.#giveUp(lease.id);
  }
}

function reportError(error: unknown, message?: Message): void {
  console.error(message ? `triggers: message ${message.id} failed:` : "triggers:", error);
}
