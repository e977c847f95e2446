/** A leased message. */

import type { Lease } from "./lease.js";
import type { LeasedMessage, Note } from "./shapes/messages.js";

/** A message that is leased for this consumer. */
export class Message<T = unknown> {
  /** The id of the event. It is the same each time the message is leased, so deduplicate by it. */
  readonly id: string;
  /** The type of the event. Null if the event is no longer stored. */
  readonly type: string | null;
  readonly payload: T;
  readonly createdAt: string;
  /** How often the message was leased, including now. */
  readonly leaseCount: number;
  /** The reason of the last rejection, if there was one. */
  readonly errorMessage: string | undefined;
  readonly lease: Lease;

  constructor(lease: Lease, message: LeasedMessage) {
    this.lease = lease;
    this.id = message.id;
    this.type = message.message_attributes.event_type;
    this.payload = message.payload as T;
    this.createdAt = message.created_at;
    this.leaseCount = message.message_attributes.lease_count;
    this.errorMessage = message.message_attributes.error_message ?? undefined;
  }

  /**
   * Aborted when the lease is gone: it has ended, or somebody revoked it. Another consumer may then have the
   * message, so stop working on it. Give this signal to what you call, such as `fetch`.
   */
  get leaseLost(): AbortSignal {
    return this.lease.lost;
  }

  /** Whether the message was acknowledged, released or rejected here. */
  get isSettled(): boolean {
    return !this.lease.holds(this.id);
  }

  /** Acknowledge the message now, before the handler returns. */
  async ack(body: { note?: Note } = {}): Promise<void> {
    await this.lease.ack({ ...body, message_ids: [this.id] });
  }

  /** Give the message back, at once or after `delay_seconds`. */
  async release(body: { delay_seconds?: number; note?: Note } = {}): Promise<void> {
    await this.lease.release({ ...body, message_ids: [this.id] });
  }

  /** Quarantine the message, until somebody re-drives it. `reason` is at most 255 characters. */
  async reject(reason: string, body: { note?: Note } = {}): Promise<void> {
    await this.lease.reject({ ...body, reason, message_ids: [this.id] });
  }
}
