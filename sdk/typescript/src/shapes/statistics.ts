/** Statistics, the search, and the state of a node. */

/** Statistics of an organisation or of one of its push subscriptions. */
export interface Statistics {
  range: "14d" | "1h" | "24h";
  subscription_id: string | null;
  /** Time when the first step begins. */
  since: string;
  /** The present time. The last step has not ended yet. */
  until: string;
  step_seconds: number;
  totals: StatisticsNumbers;
  /** One for each step, oldest first: 60 for `1h`, 96 for `24h`, 336 for `14d`. */
  points: StatisticsPoint[];
  /**
   * The subscriptions with the most failed attempts and dead letters, at most 10. For `24h` and `14d`,
   * their numbers count from a full hour on. Empty for a single subscription.
   */
  worst: FailingSubscription[];
  /**
   * Times without numbers, of three minutes or longer, in whole minutes, or in whole hours for `14d`. In
   * these times the service did not run, or it was not able to write its numbers. A gap that begins with
   * the range may also be the time before the service was installed.
   */
  gaps: StatisticsGap[];
}

/** Counts of events and deliveries. */
export interface StatisticsNumbers {
  /** Events that callers sent and that were stored. Null for a single subscription. */
  accepted: number | null;
  /** Events that were duplicates of earlier ones. Null for a single subscription. */
  duplicate: number | null;
  /** Push deliveries that arrived. */
  delivered: number;
  /** Failed attempts, including the last one of a dead letter. */
  failed: number;
  /** Push deliveries that became dead letters. */
  dead: number;
  /**
   * Time from the acceptance of an event to the first attempt of its delivery, estimated from 16 buckets.
   * 65.536 stands for this time or longer. Null if there were no first attempts.
   */
  lag_p50_seconds: number | null;
  /**
   * Time from the acceptance of an event to the first attempt of its delivery, estimated from 16 buckets.
   * 65.536 stands for this time or longer. Null if there were no first attempts.
   */
  lag_p95_seconds: number | null;
}

/** The numbers of one step. */
export interface StatisticsPoint extends StatisticsNumbers {
  /** Time when the step begins. */
  at: string;
  /**
   * Highest sample of the number of unsettled deliveries, for push and in inboxes, counted up to 100,000.
   * One sample is taken per minute. Null without a sample, and for a single subscription.
   */
  backlog: number | null;
}

/** A subscription with failures. */
export interface FailingSubscription {
  subscription_id: string;
  delivered: number;
  failed: number;
  dead: number;
}

/** A time without numbers. */
export interface StatisticsGap {
  since: string;
  until: string;
}

/** The numbers of a push subscription by hour. Each list has 24 numbers, oldest first. */
export interface SubscriptionHours {
  subscription_id: string;
  delivered: number[];
  /** Failed attempts, including the last ones of dead letters. */
  failed: number[];
  dead: number[];
}

/** A thing that was found. */
export interface SearchHit {
  kind: "delivery" | "event" | "inbox" | "subscription";
  id: string;
  /** The name. For an event or a delivery, it is the type of the event. */
  name: string;
  /** The part of the hit that matches `q`. */
  matched: "dedup_id" | "ending" | "host" | "id" | "name" | "part_of_name" | "subject";
}

/** At most 20 hits, the most exact ones first. */
export interface SearchResult {
  data: SearchHit[];
  /**
   * Time of the oldest event whose subject and end of id were looked at, if there are older ones. Null if
   * all were, and for keys that may not list events.
   */
  looked_to: string | null;
}

/** The readiness of a node: `ready`, `degraded` (some background work fails, but send traffic) or `not ready`. */
export interface Readiness {
  status: string;
  checks?: Record<string, string> | null | undefined;
}
