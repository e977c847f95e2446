/** Replays. */

/** A replay, or the backfill of a subscription that starts in the past. */
export interface Replay {
  /** Null for a plan. */
  id: string | null;
  kind: "backfill" | "replay";
  action: "cancel" | "replay" | "retry";
  subscription_id: string;
  /** `push` or `inbox`. */
  subscription_kind: string;
  /** The name, or else the key, or else the host of the URL. */
  subscription_name: string;
  /** `planned`, `running`, `done`, `cancelled` or `failed`. */
  status: string;
  /** Why the replay waits, or how it ended. */
  reason: string | null;
  only: "all" | "dead";
  event_types: string[] | null;
  since: string;
  until: string;
  rate: number;
  /** Expected number of deliveries. Null for a backfill. */
  planned: number | null;
  /** True if `planned` was counted, false if it is an estimate. */
  planned_exact: boolean;
  /** Minimum duration in seconds, at this rate. */
  planned_seconds: number | null;
  /** Number of deliveries created, made due or cancelled so far. */
  made: number;
  /** Completed share of the time range, from 0 to 1. */
  progress: number;
  created_at: string | null;
  updated_at: string | null;
  finished_at: string | null;
}

/** The deliveries to replay. */
export interface NewReplay {
  /** Id of a push subscription or of an inbox. */
  subscription_id: string;
  /** Events accepted at or after this time. Null: all stored ones. */
  since?: string | null | undefined;
  /** Events accepted before this time. Null: until now. */
  until?: string | null | undefined;
  event_types?: string[] | null | undefined;
  /**
   * `dead`: deliveries that are dead, cancelled or expired. `all`: all events that match the current
   * settings of the subscription, delivered or not. Pending deliveries are kept. Default: `"dead"`.
   */
  only?: "all" | "dead" | undefined;
  /**
   * `replay` sends the deliveries again. `retry` makes pending deliveries due now, and `cancel` cancels
   * pending deliveries. `retry` and `cancel` ignore `only`. Default: `"replay"`.
   */
  action?: "cancel" | "replay" | "retry" | undefined;
  /** Maximum deliveries per second. Default: `100`. */
  rate?: number | undefined;
  /** Only return the plan, with status 200, and create nothing. Default: `false`. */
  plan_only?: boolean | undefined;
}
