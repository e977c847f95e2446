/** Inboxes and their settings. */

/** An inbox. */
export interface Inbox {
  id: string;
  key: string;
  status: string;
  paused_reason: string | null;
  event_types: string[] | null;
  filter: string | null;
  /** The last failure of the filter. An event on which it fails counts as a match. */
  filter_error: string | null;
  filter_error_at: string | null;
  notification_url: string | null;
  /** The same URL with its host in Unicode. Null unless the host is an internationalised name. */
  notification_url_unicode: string | null;
  notifications: Notifications | null;
  max_leases: number | null;
  default_lease_seconds: number;
  retention_seconds: number | null;
  created_at: string;
  status_at: string;
  /** When the service deletes the inbox. Null: never. */
  expires_at: string | null;
  /** Present only if it was asked for. */
  backlog?: InboxBacklog | undefined;
}

/** The notifications of an inbox. They are deliveries of the push subscription with this id. */
export interface Notifications {
  subscription_id: string;
  status: string;
  status_reason: string | null;
}

/** The messages of an inbox, counted up to 1,000 each. */
export interface InboxBacklog {
  /** Number of unsettled messages, including leased ones. */
  messages: number;
  /** False if there are more. */
  messages_exact: boolean;
  leased: number;
  /** False if there are more. */
  leased_exact: boolean;
  quarantined: number;
  /** False if there are more. */
  quarantined_exact: boolean;
  /** Time when the oldest unsettled message was put into the inbox. */
  oldest_message: string | null;
}

/** An inbox with the secret that signs its new notifications. No other answer contains the secret. */
export interface NotifyingInbox extends Inbox {
  notification_secret: string;
}

/** The settings of an inbox. */
export interface NewInbox {
  /** Name of the inbox in paths. It must not contain `/`, or be `.`, `..` or a UUID. */
  key: string;
  event_types?: string[] | null | undefined;
  max_leases?: number | null | undefined;
  filter?: string | null | undefined;
  notification_url?: string | null | undefined;
  /** Duration of a lease in seconds, if the request that takes or extends it names none. Default: `300`. */
  default_lease_seconds?: number | undefined;
  /** Seconds until the service deletes the inbox, from now on. Null: never. */
  expires_in_seconds?: number | null | undefined;
}

/** Changes of an inbox. Omitted fields stay as they are. */
export interface InboxChange {
  event_types?: string[] | null | undefined;
  filter?: string | null | undefined;
  notification_url?: string | null | undefined;
  /** Duration of a lease in seconds, if the request that takes or extends it names none. */
  default_lease_seconds?: number | undefined;
  /** Seconds until the service deletes the inbox, from now on. Null: never. */
  expires_in_seconds?: number | null | undefined;
}

/** An event in the default inbox that is not acknowledged. */
export interface InboxEvent {
  id: string;
  type: string;
  payload: unknown;
  created_at: string;
  delivery_status: string;
  lease_count: number;
}

/** The number of ids for each outcome, and the outcome of each id in the order of the request. */
export interface Acknowledgement {
  acknowledged: number;
  already_acknowledged: number;
  failed: number;
  results: AcknowledgementResult[];
}

/** An id and its outcome: `acknowledged`, `already_acknowledged`, or `failed` if it is not there. */
export interface AcknowledgementResult {
  id: string;
  status: string;
}
