/** The organisation of the key, the search, and the state of the node. */

import type { Organisation } from "../shapes/keys.js";
import type { Readiness, SearchResult } from "../shapes/statistics.js";
import type { Transport } from "../transport.js";

/** `client.service` */
export class Service {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** The organisation of the API key, and the scopes of the key. */
  organisation(): Promise<Organisation> {
    return this.#transport.json<Organisation>({ method: "GET", path: "/v1/org" });
  }

  /** Find events, deliveries, subscriptions and inboxes by ids, names and other texts. */
  search(text: string): Promise<SearchResult> {
    return this.#transport.json<SearchResult>({ method: "GET", path: "/v1/search", query: { q: text } });
  }

  /** Whether the node takes requests. Throws Unavailable at once if it does not. */
  ready(params: { verbose?: boolean | undefined } = {}): Promise<Readiness> {
    return this.#transport.json<Readiness>({ method: "GET", path: "/readyz", query: params, retrySeconds: 0 });
  }

  /** Return if the node answers. Throws ConnectionFailed at once if it does not. */
  async live(): Promise<void> {
    await this.#transport.send({ method: "GET", path: "/livez", retrySeconds: 0 });
  }

  /** The metrics in the text format of Prometheus. */
  async metrics(): Promise<string> {
    return new TextDecoder().decode((await this.#transport.send({ method: "GET", path: "/metrics" })).bytes);
  }
}
