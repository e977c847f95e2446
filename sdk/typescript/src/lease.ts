/** A lease: messages that no other consumer gets until it ends, and the heartbeat that keeps it. */

import { Refused, TriggersError } from "./errors.js";
import type { InboxHandle } from "./inbox.js";
import { Message } from "./message.js";
import { pause } from "./pause.js";
import type { Acked, ExtendBody, Extended, LeaseRequest, Rejected } from "./shapes/messages.js";
import type { RejectBody, ReleaseBody, Released, SettleBody, TakenLease } from "./shapes/messages.js";

/** How to lease. */
export interface LeaseOptions extends Omit<LeaseRequest, "lease_seconds" | "lease_id" | "wait_seconds"> {
  /** Duration of the lease. It is renewed after each third of it. Default: 60. */
  lease_seconds?: number | undefined;
  /** An id that the caller chose. Repeating the request returns the same lease. Default: a random one. */
  lease_id?: string | undefined;
  /** How long the service waits for a message. Default: 0. */
  wait_seconds?: number | undefined;
  /** For how long the lease is renewed. 0: it is not renewed. Default: 600. */
  maxSeconds?: number | undefined;
  /** For how long the request is repeated if it fails. Default: that of the client. */
  retrySeconds?: number | undefined;
  /** Stops waiting for a message. */
  signal?: AbortSignal | undefined;
}

/** How long a lease is, for how long it is renewed, and how much of it is left at least. */
export interface LeaseTerm {
  seconds: number;
  maxSeconds: number;
  leftSeconds: number;
}

/** How long one try to settle messages may take. */
const CALL_SECONDS = 10;

type Body<T> = Omit<T, "lease_id">;

/** Messages that are leased for this consumer. */
export class Lease {
  /** Null if no message was available. */
  readonly id: string | null;
  readonly messages: readonly Message[];
  readonly #inbox: InboxHandle;
  readonly #seconds: number;
  readonly #lost = new AbortController();
  readonly #over = new AbortController();
  readonly #unsettled: Set<string>;
  readonly #requests = new Set<Promise<unknown>>();
  #deadline: ReturnType<typeof setTimeout> | undefined;

  constructor(inbox: InboxHandle, taken: TakenLease, term: LeaseTerm) {
    this.#inbox = inbox;
    this.#seconds = term.seconds;
    this.id = taken.lease_id;
    this.messages = taken.results.map((each) => new Message(this, each));
    this.#unsettled = new Set(this.messages.map((each) => each.id));
    if (!this.messages.length) return;
    this.#holdFor(term.leftSeconds);
    this.#beat(performance.now() + term.maxSeconds * 1000).catch(() => undefined); // it was let go
  }

  /** Aborted when the lease is gone before its messages are settled. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Whether a message of the lease is not settled yet, as far as this consumer knows. */
  holds(messageId: string): boolean {
    return this.#unsettled.has(messageId);
  }

  /** Acknowledge messages: those in `message_ids`, or all. Throws Refused if the lease has ended. */
  ack(body: Body<SettleBody> = {}): Promise<Acked | undefined> {
    return this.#settle(body, (id, chosen) => this.#inbox.ack(id, chosen, this.#patience()));
  }

  /** Give messages back, at once or after `delay_seconds`. Throws Refused if the lease has ended. */
  release(body: Body<ReleaseBody> = {}): Promise<Released | undefined> {
    return this.#settle(body, (id, chosen) => this.#inbox.release(id, chosen, this.#patience()));
  }

  /** Quarantine messages, until somebody re-drives them. Throws Refused if the lease has ended. */
  reject(body: Body<RejectBody>): Promise<Rejected | undefined> {
    return this.#settle(body, (id, chosen) => this.#inbox.reject(id, chosen, this.#patience()));
  }

  /** Let the lease end so many seconds from now. Throws Refused if the lease has ended. */
  async extend(body: Body<ExtendBody> = {}): Promise<Extended | undefined> {
    if (this.id === null) return undefined;
    const seconds = body.lease_seconds ?? this.#seconds;
    const began = performance.now();
    // A try that hangs, or a long pause, must leave time for another one before the lease ends.
    const timeoutSeconds = Math.max(1, this.#seconds / 3);
    const options = { ...this.#patience(), timeoutSeconds, longestPauseSeconds: this.#seconds / 6 };
    const extended = await this.#inbox.extend(this.id, { lease_seconds: seconds }, options);
    if (this.#unsettled.size) this.#holdFor(seconds - (performance.now() - began) / 1000);
    return extended;
  }

  /** Extend it by its own length. If it is gone, `lost` is aborted. */
  async renew(): Promise<void> {
    try {
      await this.extend();
    } catch (error) {
      if (!(error instanceof TriggersError)) throw error;
      if (error instanceof Refused && this.#unsettled.size) this.lose(error.message);
    }
  }

  /**
   * Extend it, because it may have begun long ago. If that fails, another consumer may have its messages, and `lost`
   * is aborted.
   */
  async confirm(): Promise<void> {
    try {
      if (this.messages.length) await this.extend();
    } catch (error) {
      if (!(error instanceof TriggersError)) throw error;
      this.lose(error.message);
    }
  }

  /** Renew it no longer. */
  letGo(): void {
    clearTimeout(this.#deadline);
    this.#over.abort(new TriggersError("The lease has ended."));
  }

  /** Abort `lost`, and settle nothing any more. */
  lose(why: string): void {
    this.letGo();
    this.#lost.abort(new TriggersError(why));
  }

  /** Wait until the requests that settle its messages have ended, whatever their outcome. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#requests);
  }

  /** Release what is not settled. It does not throw: what cannot be released is available when the lease ends. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.settled();
    await this.release().catch(() => undefined);
    this.letGo();
  }

  async #settle<B extends { message_ids?: string[] | null | undefined }, T>(
    body: B,
    send: (id: string, body: B) => Promise<T>,
  ): Promise<T | undefined> {
    const ids = (body.message_ids ?? [...this.#unsettled]).filter((id) => this.#unsettled.has(id));
    if (this.id === null || !ids.length) return undefined;
    this.lost.throwIfAborted();
    // They leave at once, so that nothing settles them a second time, and no heartbeat takes their end for a loss.
    for (const id of ids) this.#unsettled.delete(id);
    const request = send(this.id, { ...body, message_ids: ids });
    this.#requests.add(request);
    try {
      const answer = await request;
      if (!this.#unsettled.size) this.letGo();
      return answer;
    } catch (error) {
      for (const id of ids) this.#unsettled.add(id);
      if (error instanceof Refused && error.code === "lease-over") this.lose(error.message);
      throw error;
    } finally {
      this.#requests.delete(request);
    }
  }

  /** Requests about the lease are repeated while it may live. */
  #patience(): { retrySeconds: number; timeoutSeconds: number; signal: AbortSignal } {
    return { retrySeconds: this.#seconds, timeoutSeconds: CALL_SECONDS, signal: this.#over.signal };
  }

  async #beat(until: number): Promise<void> {
    for (;;) {
      await pause(this.#seconds / 3, this.#over.signal);
      if (performance.now() > until) return;
      await this.renew();
    }
  }

  /** The lease counts as lost a little before it ends, so that the handler knows before another one begins. */
  #holdFor(seconds: number): void {
    const margin = Math.min(0.5, this.#seconds / 10);
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.lose("The lease has ended."), (seconds - margin) * 1000);
  }
}
