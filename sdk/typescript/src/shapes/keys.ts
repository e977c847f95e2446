/** API keys and their organisation. */

/** The organisation of the API key, and the scopes of the key. */
export interface Organisation {
  id: string;
  name: string;
  plan: Plan;
  requests_per_minute: number | null;
  key_id: string;
  key_prefix: string;
  scopes: Scope[];
}

/** A plan bounds the requests per minute of an organisation. */
export type Plan = "business" | "enterprise" | "free" | "pro";

/** A permission of an API key. */
export type Scope = "act" | "admin" | "events:read" | "events:write" | "inbox" | "keys" | "read" | "subscriptions";

/** An API key, without its secret part. */
export interface ApiKey {
  id: string;
  name: string | null;
  prefix: string;
  scopes: Scope[];
  created_at: string;
  expires_at: string | null;
  revoked_at: string | null;
  /** Time of the last use. It is stored within a minute after the use. */
  last_used_at: string | null;
}

/** A new API key. No other answer contains `key`. */
export interface NewApiKey extends ApiKey {
  key: string;
}

/** A new API key. Without `scopes`, it has the scopes of the caller's key except `admin` and `act`. */
export interface ApiKeyRequest {
  name?: string | null | undefined;
  scopes?: Scope[] | null | undefined;
  /** Default: `false`. */
  live?: boolean | undefined;
  expires_at?: string | null | undefined;
}

/** The time for which the old key stays valid. */
export interface RotateBody {
  /** Default: `86400`. */
  overlap_seconds?: number | undefined;
}
