/** Errors as the service describes them, and the outcomes of a batch. */

/** An error in the format of RFC 9457. Optional fields are present only if they apply. */
export interface Problem {
  /**
   * Path of a page that says what to do: the path of the public URL, and `/problems/<slug>`. To recognise
   * an error, compare `code` instead.
   */
  type: string;
  /** The slug of the error, which never changes. */
  code: string;
  title: string;
  status: number;
  /** What is wrong with this request. */
  detail: string;
  /** In a 422: the wrong fields. Default: `[]`. */
  errors?: FieldError[] | undefined;
  /** The `X-Request-Id`, also in the log. */
  request_id?: string | null | undefined;
  /** In a 409: the event that already has the `dedup_id`. */
  original_id?: string | null | undefined;
  /** In a 409 `lease-over`: the messages that the request names, with the reasons. Default: `[]`. */
  not_settled?: UnsettledMessage[] | undefined;
  /** In a 429 `backlog-full`: the subscription or inbox that has most deliveries. */
  subscription_id?: string | null | undefined;
  /** In a 403: the missing scope. */
  scope?: string | null | undefined;
  /** In a 405: the methods of the path. Default: `[]`. */
  allow?: string[] | undefined;
  /** In a 413: maximum bytes of the body. */
  limit?: number | null | undefined;
  /** In a 429: the seconds to wait. */
  retry_after?: number | null | undefined;
  /** If no event of a batch was accepted: the outcome of each event. Default: `[]`. */
  results?: BatchItem[] | undefined;
}

/** A wrong field: its place (a JSON Pointer into the body, or a parameter's name) and the reason. */
export interface FieldError {
  pointer: string;
  detail: string;
}

/** A message that was not settled, with its id as in the request, and the reason. */
export interface UnsettledMessage {
  id: string;
  reason: NotSettledReason;
}

/** Why a request did not settle a message that it names. */
export type NotSettledReason = "already_acknowledged" | "lease_over" | "not_in_lease";

/** The outcome of one event of a batch: its status, and its id or problem. */
export interface BatchItem {
  index: number;
  status: number;
  id?: string | null | undefined;
  problem?: Problem | null | undefined;
}
