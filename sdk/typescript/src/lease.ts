/** A lease: messages that no other consumer gets until it ends, and the heartbeat that keeps it. */

import { Refused, TriggersError } from "./errors.js";
import type { InboxHandle } from "./inbox.js";
import { Message } from "./message.js";
import { pause } from "./pause.js";
import type { Acked, ExtendBody, Extended, LeaseRequest, Rejected } from "./shapes/messages.js";
import type { RejectBody, ReleaseBody, Released, SettleBody, TakenLease } from "./shapes/messages.js";
import { type Transport, segment } from "./transport.js";

/** How to lease. */
export interface LeaseOptions extends Omit<LeaseRequest, "lease_seconds" | "lease_id"> {
  /** Duration of the lease. Default: 60. It is renewed after each third of it. */
  lease_seconds?: number | undefined;
  /** An id that the caller chose. Repeating the request returns the same lease. Default: a random one. */
  lease_id?: string | undefined;
  /** For how long the lease is renewed at most. 0: it is not renewed. Default: 600. */
  maxSeconds?: number | undefined;
  /** Stops waiting for a message. */
  signal?: AbortSignal | undefined;
}

type Body<T> = Omit<T, "lease_id">;

const DEFAULT_LEASE_SECONDS = 60;
const DEFAULT_MAX_SECONDS = 600;

/** Take a lease of an inbox. */
export async function takeLease(transport: Transport, inbox: InboxHandle, options: LeaseOptions): Promise<Lease> {
  const { maxSeconds = DEFAULT_MAX_SECONDS, signal, ...given } = options;
  const body = { lease_id: crypto.randomUUID(), ...given, lease_seconds: given.lease_seconds ?? DEFAULT_LEASE_SECONDS };
  const path = `/v1/inboxes/${segment(inbox.name)}/messages/lease`;
  const waitSeconds = body.wait_seconds ?? 0;
  const call = { method: "POST", path, body, waitSeconds, signal, repeatable: true } as const;
  const answer = await transport.send(call);
  const lease = new Lease(inbox, answer.json<TakenLease>(), body.lease_seconds, maxSeconds);
  // A lease that an earlier try took is older than this answer, so its end is unknown until it is extended.
  if (answer.isRepeated && lease.messages.length) await lease.renew();
  return lease;
}

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
  #settling = 0;
  #deadline: ReturnType<typeof setTimeout> | undefined;

  /** `seconds`: its duration. `maxSeconds`: for how long it is renewed. */
  constructor(inbox: InboxHandle, taken: TakenLease, seconds: number, maxSeconds: number) {
    this.#inbox = inbox;
    this.#seconds = seconds;
    this.id = taken.lease_id;
    this.messages = taken.results.map((each) => new Message(this, each));
    this.#unsettled = new Set(this.messages.map((each) => each.id));
    if (!this.messages.length) return;
    this.#holdFor(seconds);
    void this.#beat(performance.now() + maxSeconds * 1000).catch(() => undefined); // stopped
  }

  /** Aborted when the lease is gone before its messages are settled. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Whether the lease still holds a message, as far as this consumer knows. */
  holds(messageId: string): boolean {
    return this.#unsettled.has(messageId);
  }

  /** Acknowledge messages: those in `message_ids`, or all. Throws Refused if the lease has ended. */
  async ack(body: Body<SettleBody> = {}): Promise<Acked | undefined> {
    return this.#settle(body, (id, chosen) => this.#inbox.ack(id, chosen, this.#patience()));
  }

  /** Give messages back, at once or after `delay_seconds`. Throws Refused if the lease has ended. */
  async release(body: Body<ReleaseBody> = {}): Promise<Released | undefined> {
    return this.#settle(body, (id, chosen) => this.#inbox.release(id, chosen, this.#patience()));
  }

  /** Quarantine messages, until somebody re-drives them. Throws Refused if the lease has ended. */
  async reject(body: Body<RejectBody>): Promise<Rejected | undefined> {
    return this.#settle(body, (id, chosen) => this.#inbox.reject(id, chosen, this.#patience()));
  }

  /** Let the lease end so many seconds from now. Throws Refused if the lease has ended. */
  async extend(body: Body<ExtendBody> = {}): Promise<Extended | undefined> {
    if (this.id === null) return undefined;
    const seconds = body.lease_seconds ?? this.#seconds;
    const began = performance.now();
    const extended = await this.#inbox.extend(this.id, { lease_seconds: seconds }, this.#patience());
    if (this.#unsettled.size) this.#holdFor(seconds - (performance.now() - began) / 1000);
    return extended;
  }

  /** Extend it by its own length. If it is gone, `lost` is aborted. */
  async renew(): Promise<void> {
    try {
      await this.extend();
    } catch (error) {
      if (error instanceof Refused && this.#unsettled.size && !this.#settling) this.lose(error.message);
      else if (!(error instanceof TriggersError)) throw error;
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

  /**
   * Settle what is not settled yet, as long as the lease lives. Returns the error because of which it could not,
   * if there is one. The messages are then available again when the lease ends.
   */
  async settleRest(how: "ack" | "release", body: Body<ReleaseBody>): Promise<TriggersError | undefined> {
    if (!this.#unsettled.size || this.#lost.signal.aborted) return undefined;
    const rest = { ...body, message_ids: [...this.#unsettled] };
    try {
      await (how === "ack" ? this.ack(rest) : this.release(rest));
      return undefined;
    } catch (error) {
      return error instanceof TriggersError ? error : new TriggersError("The lease has ended.", { cause: error });
    }
  }

  /** Release what is not settled. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.settleRest("release", {});
    this.letGo();
  }

  async #settle<B extends { message_ids?: string[] | null | undefined }, T>(
    body: B,
    send: (id: string, body: B) => Promise<T>,
  ): Promise<T | undefined> {
    const ids = (body.message_ids ?? [...this.#unsettled]).filter((id) => this.#unsettled.has(id));
    if (this.id === null || !ids.length) return undefined;
    this.#settling++;
    try {
      const settled = await send(this.id, { ...body, message_ids: ids });
      for (const id of ids) this.#unsettled.delete(id);
      if (!this.#unsettled.size) this.letGo();
      return settled;
    } catch (error) {
      if (error instanceof Refused && error.code === "lease-over") this.lose(error.message);
      throw error;
    } finally {
      this.#settling--;
    }
  }

  /** Requests about the lease are repeated while it may live. */
  #patience(): { retrySeconds: number; signal: AbortSignal } {
    return { retrySeconds: this.#seconds, signal: this.#over.signal };
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
    const margin = Math.min(1, this.#seconds / 10);
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.lose("The lease has ended."), (seconds - margin) * 1000);
  }
}
