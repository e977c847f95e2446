/** Events: what is sent, and what is shown of them. */

import type { ConsumerNote, ListedDelivery } from "./deliveries.js";
import type { BatchItem } from "./problems.js";

/** An event to accept. `data` is another name for `payload`. One of them is required. */
export interface NewEvent {
  /** 1 to 255 characters. The prefix `triggers.` is reserved. */
  type: string;
  /** Any JSON value, stored byte for byte. */
  payload?: unknown | undefined;
  /** Another name for `payload`. */
  data?: unknown | undefined;
  /** 1 to 255 characters. Events with the same id are deduplicated. */
  dedup_id?: string | null | undefined;
  /** 1 to 2,048 characters. */
  source?: string | null | undefined;
  /** 1 to 255 characters. */
  subject?: string | null | undefined;
  /** 1 to 255 characters. */
  ordering_key?: string | null | undefined;
  /** RFC 3339 time when the event occurred. */
  occurred_at?: string | null | undefined;
}

/** The answer to an accepted event. If `duplicate` is true, the event was stored before, with this id. */
export interface SentEvent {
  id: string;
  type: string;
  dedup_id: string | null;
  /** Default: `"accepted"`. */
  status?: string | undefined;
  duplicate: boolean;
  created_at: string;
}

/** The outcome of each event of a batch, in the order of the request. */
export interface BatchAnswer {
  results: BatchItem[];
}

/** An event without its payload. */
export interface StoredEvent {
  id: string;
  type: string;
  dedup_id: string | null;
  source: string | null;
  subject: string | null;
  ordering_key: string | null;
  occurred_at: string | null;
  created_at: string;
  payload_size: number;
}

/** An event with its payload and its deliveries. `explanations` is present only with `?explain`. */
export interface EventDetail extends StoredEvent {
  /** `dataschema` and extension attributes of an event that came as a CloudEvent. */
  attributes: Record<string, string | boolean | number> | null;
  /** Omitted if the key has the scope `read` without `events:read`. */
  payload?: unknown | undefined;
  deliveries: DeliveryState[];
  explanations?: Explanation[] | null | undefined;
}

/** The delivery of an event to one subscription. While it is pending, `due_at` is its next attempt. */
export interface DeliveryState {
  subscription_id: string;
  kind: string;
  key: string | null;
  generation: number;
  status: string;
  reason: string | null;
  lease_count: number;
  attempts: number;
  due_at: string | null;
  settled_at: string | null;
  /** Reported by the consumer of an inbox. Null if no consumer reported anything. */
  note: ConsumerNote | null;
}

/** Why a subscription has a delivery of the event, or has none. */
export interface Explanation {
  subscription_id: string;
  kind: string;
  key: string | null;
  status: string;
  matched: boolean;
  why: string;
}

/** The latest generation of a delivery, with its subscription. */
export interface EventDelivery extends ListedDelivery {
  /** The name, or else the key, or else the host of the URL. */
  name: string;
  target_url: string | null;
  /** Seconds before the second attempt, the third, and so on. Null: the default. */
  retry_delays: number[] | null;
}

/** One HTTP request to an endpoint. */
export interface Attempt {
  id: string;
  event_id: string;
  subscription_id: string;
  generation: number;
  /** Number of the attempt of its delivery, from 1. */
  attempt: number;
  began_at: string;
  duration_ms: number;
  outcome: AttemptOutcome;
  reason: string;
  status_code: number | null;
  /**
   * The beginning of the answer's body, with `[malformed]` or another word at its end if the answer could
   * not be read completely. If there was no answer, the error.
   */
  response: string | null;
  retry_at: string | null;
}

/** The outcome of an attempt: the delivery arrived, is retried later, or is a dead letter. */
export type AttemptOutcome = "dead" | "delivered" | "retry";

/** The subscriptions and inboxes that the event would be sent to, and the others, at most 200 of each. */
export interface EventDryRun {
  matched: number;
  matches: MatchedAddressee[];
  unmatched: number;
  others: OtherAddressee[];
  /** Number of these subscriptions by reason, including those that are not shown. */
  reasons: Record<string, number>;
  /**
   * False if some subscriptions were not looked at, because there are more than 10,000 or compiling their
   * filters took too long.
   */
  complete: boolean;
}

/** A subscription or inbox that the event would be sent to. If it is paused, it keeps the event. */
export interface MatchedAddressee {
  subscription_id: string;
  /** `push` or `inbox`. */
  kind: string;
  /** The name, or else the key, or else the host of the URL. */
  name: string;
  status: string;
  /** The failure of the filter on this event. A filter that fails counts as a match. */
  filter_error: string | null;
}

/** A subscription or an inbox that the event is not sent to. */
export interface OtherAddressee {
  subscription_id: string;
  /** `push` or `inbox`. */
  kind: string;
  /** The name, or else the key, or else the host of the URL. */
  name: string;
  status: string;
  /**
   * `type`: its event types do not include the event's type. `filter`: its filter does not match.
   * `disabled`: it is disabled. For a stored event also `created_later`: the subscription was created
   * after the event, and `matches_now`: it would get the event now.
   */
  reason: "created_later" | "disabled" | "filter" | "matches_now" | "type";
}

/** The subscriptions and inboxes without a delivery of the event. The list has at most 200 of them. */
export interface Unmatched {
  unmatched: number;
  /** Number of all those with `changed_since`, including those that are not shown. */
  changed: number;
  others: UnsentAddressee[];
  /** Number of these subscriptions by reason, including those that are not shown. */
  reasons: Record<string, number>;
  /**
   * False if some subscriptions were not looked at, because there are more than 10,000 or compiling their
   * filters took too long.
   */
  complete: boolean;
}

/** A subscription or an inbox that has no delivery of a stored event. */
export interface UnsentAddressee {
  subscription_id: string;
  /** `push` or `inbox`. */
  kind: string;
  /** The name, or else the key, or else the host of the URL. */
  name: string;
  status: string;
  /**
   * `type`: its event types do not include the event's type. `filter`: its filter does not match.
   * `disabled`: it is disabled. For a stored event also `created_later`: the subscription was created
   * after the event, and `matches_now`: it would get the event now.
   */
  reason: "created_later" | "disabled" | "filter" | "matches_now" | "type";
  /** The failure of the filter on this event. A filter that fails counts as a match. */
  filter_error: string | null;
  /**
   * Whether it was created, changed, paused, resumed, enabled or disabled after the event, or one of its
   * deliveries was cancelled. If so, the reason at that time may differ.
   */
  changed_since: boolean;
}
