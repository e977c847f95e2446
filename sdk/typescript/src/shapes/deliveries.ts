/** Deliveries, and what is undelivered. */

import type { Attempt } from "./events.js";

/** What the consumer of an inbox reported when it settled the message the last time. */
export interface ConsumerNote {
  status_code: number | null;
  duration_ms: number | null;
  text: string | null;
  reported_at: string;
}

/** One generation of a delivery. The first is 0; each replay or retry of a settled delivery adds 1. */
export interface DeliveryRecord {
  generation: number;
  status: string;
  /** Why the last attempt failed, or how the delivery ended. */
  reason: string | null;
  attempts: number;
  lease_count: number;
  accepted_at: string;
  /** Null if there was no attempt, and for deliveries that an earlier version settled. */
  first_attempt_at: string | null;
  due_at: string | null;
  settled_at: string | null;
  /**
   * Why an unsettled delivery waits: `its_turn`, `retry_time`, `failing_endpoint`, `earlier_of_its_key`,
   * `subscription_paused`, `subscription_disabled`, `subscription_deleting`. In an inbox: `consumer` or
   * `delay`.
   */
  waiting_for: string | null;
  /** Time of the next attempt, if it depends only on time. */
  next_at: string | null;
  /** Reported by the consumer of an inbox. Null if no consumer reported anything. */
  note: ConsumerNote | null;
}

/** A delivery in a list. */
export interface ListedDelivery extends DeliveryRecord {
  id: string;
  event_id: string;
  /** Null if the event is no longer stored. */
  event_type: string | null;
  subscription_id: string;
  /** Kind of the subscription: `push` or `inbox`. */
  kind: string;
}

/** The latest generation of a delivery, its last attempt, and the earlier generations. */
export interface DeliveryDetail extends ListedDelivery {
  /** The present URL of the subscription. Null for an inbox. */
  target_url: string | null;
  /** The last request of any generation, with the answer. */
  last_attempt: Attempt | null;
  earlier: DeliveryRecord[];
}

/** A subscription or an inbox that has undelivered events. */
export interface Undelivered {
  subscription_id: string;
  /** `push` or `inbox`. */
  kind: string;
  /** The name, or else the key, or else the host of the URL. */
  name: string;
  status: string;
  failing_since: string | null;
  /** Number of unsettled deliveries, including leased messages. */
  pending: number;
  /** False if there are more. Each number is counted up to 1,000. */
  pending_exact: boolean;
  /** Number of dead deliveries, without those that were sent again since. */
  dead: number;
  /** False if there are more. Each number is counted up to 1,000. */
  dead_exact: boolean;
  /** Time when the delivery of the oldest undelivered event was made. */
  oldest_pending: string | null;
  /** The failure of the last attempt. If there is none, the reason of the newest dead delivery. */
  last_reason: string | null;
  last_status_code: number | null;
}
