/** API keys of the organisation. */

import type { Pages } from "../pages.js";
import type { ApiKey, ApiKeyRequest, NewApiKey, RotateBody } from "../shapes/keys.js";
import { type Transport, segment } from "../transport.js";
import { type ListParams, pagesOf } from "./listing.js";

/** `client.keys` */
export class Keys {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Create a key. Only this answer has it. It is not repeated if its outcome is unknown. */
  create(key: ApiKeyRequest = {}): Promise<NewApiKey> {
    return this.#transport.json<NewApiKey>({ method: "POST", path: "/v1/keys", body: key });
  }

  /** List keys. */
  list(params: ListParams = {}): Pages<ApiKey> {
    return pagesOf(this.#transport, "/v1/keys", params);
  }

  /** Make a new key with the same scopes. The old one stays valid for `overlap_seconds`. */
  rotate(id: string, body: RotateBody = {}): Promise<NewApiKey> {
    return this.#transport.json<NewApiKey>({ method: "POST", path: `/v1/keys/${segment(id)}/rotate`, body });
  }

  /** Revoke a key. It stops working within a second. */
  revoke(id: string): Promise<ApiKey> {
    return this.#transport.json<ApiKey>({ method: "DELETE", path: `/v1/keys/${segment(id)}` });
  }
}
