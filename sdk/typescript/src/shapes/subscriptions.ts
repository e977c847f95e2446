/** Push subscriptions and trying them out. */

import type { AttemptOutcome } from "./events.js";

/** A subscription. Answers never contain the values of its headers. */
export interface Subscription {
  id: string;
  key: string | null;
  name: string | null;
  target_url: string;
  /** The same URL with its host in Unicode. Null unless the host is an internationalised name. */
  target_url_unicode: string | null;
  status: string;
  status_reason: string | null;
  status_at: string;
  event_types: string[] | null;
  filter: string | null;
  /** The last failure of the filter. An event on which it fails counts as a match. */
  filter_error: string | null;
  filter_error_at: string | null;
  format: string;
  header_names: string[];
  signature: string;
  /** With v1a: the public key that verifies signatures. */
  public_key: string | null;
  /** After a rotation: when the old secret stops signing, or stopped. */
  old_secret_ends_at: string | null;
  ordering: string;
  ordering_key: string | null;
  max_concurrency: number;
  rate_limit: number | null;
  retry: Retry;
  expires_at: string | null;
  /** Id of the inbox whose notifications this subscription sends. */
  notifies_inbox: string | null;
  created_at: string;
  changed_at: string;
  last_success_at: string | null;
  failing_since: string | null;
  /** When the oldest undelivered event was accepted. */
  oldest_pending: string | null;
  /** When the next delivery is due. Null if there is none, or nothing may be sent. */
  next_attempt: string | null;
}

/** The times at which a failed delivery is retried. */
export interface Retry {
  delays?: number[] | null | undefined;
  deadline?: number | null | undefined;
}

/** A subscription with its signing secret, which no other answer contains. */
export interface SubscriptionWithSecret extends Subscription {
  secret: string;
}

/** A new subscription. Fields that are null or omitted have their default. */
export interface NewSubscription {
  /** URL that deliveries are sent to, with POST. A host in Unicode is stored in its ASCII form (`xn--…`). */
  target_url: string;
  key?: string | null | undefined;
  name?: string | null | undefined;
  event_types?: string[] | null | undefined;
  filter?: string | null | undefined;
  format?: "cloudevents" | "raw" | "standard" | null | undefined;
  headers?: Record<string, string> | null | undefined;
  secret?: string | null | undefined;
  signature?: "v1" | "v1a" | null | undefined;
  ordering?: "key" | "none" | null | undefined;
  ordering_key?: string | null | undefined;
  max_concurrency?: number | null | undefined;
  rate_limit?: number | null | undefined;
  retry?: Retry | null | undefined;
  start?: string | null | undefined;
  expires_at?: string | null | undefined;
  /** Another name for `expires_at`. */
  expiration_date?: string | null | undefined;
}

/** Changes of a subscription. Omitted fields stay as they are; null resets a field to its default. */
export interface SubscriptionChange {
  /** URL that deliveries are sent to, with POST. A host in Unicode is stored in its ASCII form (`xn--…`). */
  target_url?: string | undefined;
  name?: string | null | undefined;
  event_types?: string[] | null | undefined;
  filter?: string | null | undefined;
  format?: "cloudevents" | "raw" | "standard" | null | undefined;
  headers?: Record<string, string> | null | undefined;
  ordering?: "key" | "none" | null | undefined;
  ordering_key?: string | null | undefined;
  max_concurrency?: number | null | undefined;
  rate_limit?: number | null | undefined;
  retry?: Retry | null | undefined;
  expires_at?: string | null | undefined;
  expiration_date?: string | null | undefined;
}

/** Why the subscription is disabled. `status_reason` shows it. */
export interface DisableBody {
  /** Default: `"disabled by request"`. */
  reason?: string | undefined;
}

/** An enabled subscription, and the time range in which it matched nothing. */
export interface EnabledSubscription extends Subscription {
  missed_since: string | null;
  missed_until: string | null;
  hint: string | null;
}

/** The new secret, which the service creates if it is omitted, and how long the old secret also signs. */
export interface RotateSecretBody {
  secret?: string | null | undefined;
  /** Scheme of the new secret. Null keeps the scheme. */
  signature?: "v1" | "v1a" | null | undefined;
  /** Default: `86400`. */
  overlap_seconds?: number | undefined;
}

/** The newest events that match, newest first. */
export interface DryRun {
  /** Number of events that were looked at, as `among` says. */
  judged: number;
  matched: number;
  /** Number of matches caused by a failing filter. */
  failed: number;
  /**
   * False if older events were not tried: the dry run took too long, or fewer than `last` of the newest
   * 20,000 events of all types have these types.
   */
  complete: boolean;
  matches: DryRunMatch[];
}

/** An event that would be delivered. `filter_error` is set if the filter failed on it. */
export interface DryRunMatch {
  id: string;
  type: string;
  created_at: string;
  filter_error: string | null;
}

/** Event types, a filter to try on the newest events, and the number of these events. */
export interface DryRunRequest {
  event_types?: string[] | null | undefined;
  filter?: string | null | undefined;
  /** Number of events to look at. Default: `100`. */
  last?: number | undefined;
  /**
   * The newest events to look at: those of `event_types`, or those of all types. With `all`, an event of
   * another type is one that does not match. Default: `"types"`.
   */
  among?: "all" | "types" | undefined;
}

/** The delivery of the test, and its first attempt if there was one within 20 seconds. */
export interface TestDelivery {
  delivery_id: string;
  event_id: string;
  attempt: TestAttempt | null;
}

/** The HTTP request of the test. */
export interface TestAttempt {
  id: string;
  attempt: number;
  outcome: AttemptOutcome;
  reason: string;
  status_code: number | null;
  response: string | null;
  duration_ms: number;
  began_at: string;
  retry_at: string | null;
}
