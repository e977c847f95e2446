/** Messages of inboxes, and leases. */

import type { UnsettledMessage } from "./problems.js";

/** A message in a list. A leased message also has its lease, the end of the lease, and the consumer. */
export interface ListedMessage {
  id: string;
  created_at: string;
  status: string;
  message_attributes: MessageAttributes;
  lease_id: string | null;
  leased_until: string | null;
  consumer: string | null;
}

/** Attributes of a message. */
export interface MessageAttributes {
  /** Number of leases, without those that were released with `counted` false. */
  lease_count: number;
  event_type: string | null;
  error_message?: string | null | undefined;
  /** Whether a consumer had the message before, and may have processed it. */
  possible_duplicate_data: boolean;
}

/** A lease of messages until `leased_until`. If no message was available, its id and time are null. */
export interface TakenLease {
  lease_id: string | null;
  leased_until: string | null;
  results: LeasedMessage[];
  inbox_attributes: InboxAttributes;
}

/** A leased message with its payload. */
export interface LeasedMessage {
  id: string;
  created_at: string;
  status: string;
  message_attributes: MessageAttributes;
  payload: unknown;
}

/** The state of the inbox at the time of the lease. */
export interface InboxAttributes {
  status: string;
  paused_reason: string | null;
}

/** A lease to take. The caller can choose the `lease_id`; repeating the request returns the same lease. */
export interface LeaseRequest {
  lease_seconds?: number | null | undefined;
  /** Default: `10`. */
  lease_limit?: number | undefined;
  /** Default: `0`. */
  wait_seconds?: number | undefined;
  lease_id?: string | null | undefined;
  consumer?: string | null | undefined;
}

/** The lease, and the messages that were acknowledged now. */
export interface Acked {
  acked_id: string;
  results: SettledMessage[];
  /**
   * Only in a 201: the messages that the request names but did not settle, with the reasons.
   * `already_acknowledged`: the message was acknowledged before, in any way. `not_in_lease`: the lease
   * does not hold the message. `lease_over`: the lease has ended.
   */
  not_settled?: UnsettledMessage[] | undefined;
}

/** A message that is no longer leased, and its status. */
export interface SettledMessage {
  id: string;
  status: string;
}

/** What the consumer reports of its work. It is shown as reported by the consumer. */
export interface Note {
  status_code?: number | null | undefined;
  duration_ms?: number | null | undefined;
  /** At most 1 KiB. */
  text?: string | null | undefined;
}

/** The messages of a lease to acknowledge: without `message_ids`, all messages of the lease. */
export interface SettleBody {
  lease_id: string;
  message_ids?: string[] | null | undefined;
  note?: Note | null | undefined;
}

/** The lease, and the messages that were released now. */
export interface Released {
  released_id: string;
  results: SettledMessage[];
  /**
   * Only in a 201: the messages that the request names but did not settle, with the reasons.
   * `already_acknowledged`: the message was acknowledged before, in any way. `not_in_lease`: the lease
   * does not hold the message. `lease_over`: the lease has ended.
   */
  not_settled?: UnsettledMessage[] | undefined;
}

/**
 * The messages of a lease to release, and when they are available again. Without `message_ids`, all
 * messages of the lease are released.
 */
export interface ReleaseBody extends SettleBody {
  /** Default: `0`. */
  delay_seconds?: number | undefined;
  /**
   * Whether the lease counts for `lease_count`, and so for `max_leases`. False: the consumer did not fail, but
   * stops, or never began. Default: `true`. Older services do not know this field.
   */
  counted?: boolean | undefined;
}

/** A lease that has not ended. `consumer` is the name that the consumer gave itself, or null. */
export interface HeldLease {
  lease_id: string;
  /** Number of messages that the lease holds. */
  messages: number;
  leased_until: string;
  consumer: string | null;
}

/** The lease that was ended, and its messages, which are available again. */
export interface Revoked {
  revoked_id: string;
  results: SettledMessage[];
}

/** The lease, and the messages that were quarantined now. */
export interface Rejected {
  rejected_id: string;
  results: SettledMessage[];
  /**
   * Only in a 201: the messages that the request names but did not settle, with the reasons.
   * `already_acknowledged`: the message was acknowledged before, in any way. `not_in_lease`: the lease
   * does not hold the message. `lease_over`: the lease has ended.
   */
  not_settled: UnsettledMessage[];
}

/**
 * The messages of a lease to quarantine, and why. Without `message_ids`, all messages of the lease are
 * quarantined.
 */
export interface RejectBody extends SettleBody {
  /** Shown as the `error_message` of the messages. */
  reason: string;
}

/** The lease and its new end, which is null if all its messages were acknowledged before. */
export interface Extended {
  lease_id: string;
  leased_until: string | null;
}

/** The new duration of a lease, from now on. */
export interface ExtendBody {
  lease_id: string;
  lease_seconds?: number | null | undefined;
}

/** The messages that are available again. */
export interface Redriven {
  results: SettledMessage[];
  next_cursor: string | null;
}

/** The quarantined messages to re-drive. Without `message_ids`, the oldest 1,000 are re-driven. */
export interface RedriveBody {
  message_ids?: string[] | null | undefined;
  cursor?: string | null | undefined;
}
