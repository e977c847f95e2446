/** A leased message. */

import { Refused } from "./errors.js";
import type { Lease } from "./lease.js";
import type { LeasedMessage, Note } from "./shapes/messages.js";

const LONGEST_REASON = 255;

/** An event in an inbox, leased by this consumer. `T` is what the sender sends, which nobody checks. */
export class Message<T = any> {
  /** The id of the event. It is the same each time the message is leased, so deduplicate by it. */
  readonly id: string;
  /** The type of the event. Null if the event is no longer stored. */
  readonly type: string | null;
  readonly payload: T;
  readonly createdAt: string;
  /** How often it was leased, this time included. Leases of consumers that only stopped do not count. */
  readonly leaseCount: number;
  readonly lease: Lease;
  /** What to report when the message is settled. `end` leaves out a note that the service refuses. */
  note: Note | undefined;
  #rejection: string | undefined;

  constructor(lease: Lease, message: LeasedMessage) {
    this.lease = lease;
    this.id = message.id;
    this.type = message.message_attributes.event_type;
    this.payload = message.payload as T;
    this.createdAt = message.created_at;
    this.leaseCount = message.message_attributes.lease_count;
  }

  /** The reason that `reject` was called with. */
  get rejection(): string | undefined {
    return this.#rejection;
  }

  /**
   * Aborted when another consumer may get the message: its lease has ended, or somebody revoked it. Stop then, and
   * have no more effects. Give this signal to what you call, such as `fetch`.
   */
  get leaseLost(): AbortSignal {
    return this.lease.lost;
  }

  /** Whether the message was acknowledged, released or rejected here. */
  get isSettled(): boolean {
    return !this.lease.holds(this.id);
  }

  /** Put the message into quarantine when the handler or the turn of the loop ends, instead of acknowledging it. */
  reject(reason: string): void {
    this.#rejection = asReason(reason);
  }

  /** Acknowledge the message now. */
  async ack(): Promise<void> {
    await this.lease.ack(this.#alone());
  }

  /** Release the message now, for others to lease at once or after `delay_seconds`. */
  async release(body: { delay_seconds?: number } = {}): Promise<void> {
    await this.lease.release({ ...this.#alone(), ...body });
  }

  /** Settle it as its handler ended: reject it if the handler said so, or else do this. */
  async end(how: "ack" | { delay_seconds: number }): Promise<void> {
    if (this.isSettled) return this.lease.settled();
    try {
      await this.#settle(how);
    } catch (error) {
      // The note is wrong, or the service is older than notes. The work is done all the same.
      if (!(error instanceof Refused) || error.status !== 422 || this.note === undefined) throw error;
      this.note = undefined;
      await this.#settle(how);
    }
  }

  async #settle(how: "ack" | { delay_seconds: number }): Promise<void> {
    const alone = this.#alone();
    if (this.#rejection !== undefined) await this.lease.reject({ ...alone, reason: this.#rejection });
    else if (how === "ack") await this.lease.ack(alone);
    else await this.lease.release({ ...alone, ...how });
  }

  #alone(): { message_ids: string[]; note?: Note } {
    return { message_ids: [this.id], ...(this.note && { note: this.note }) };
  }
}

/** A text that the service takes as a reason: 1 to 255 characters, without control characters. */
function asReason(text: string): string {
  const plain = String(text).replace(/[\p{C}\s]+/gu, " ").trim();
  return [...plain].slice(0, LONGEST_REASON).join("") || "no reason given";
}
