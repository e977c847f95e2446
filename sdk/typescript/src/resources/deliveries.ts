/** Deliveries: what is undelivered, and sending it again. */

import type { Pages } from "../pages.js";
import type { DeliveryDetail, ListedDelivery, Undelivered } from "../shapes/deliveries.js";
import { type Transport, segment } from "../transport.js";
import { type ListParams, pagesOf } from "./listing.js";

/** Which deliveries to list. Without a `status`, the pending ones. */
export interface DeliveryListParams extends ListParams {
  status?: string | undefined;
  subscription_id?: string | undefined;
  kind?: string | undefined;
  since?: string | undefined;
  until?: string | undefined;
}

/** Which subscriptions with undelivered events to list. */
export interface UndeliveredListParams extends ListParams {
  kind?: string | undefined;
  subscription_id?: string | undefined;
}

/** `client.deliveries` */
export class Deliveries {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** List deliveries. */
  list(params: DeliveryListParams = {}): Pages<ListedDelivery> {
    return pagesOf(this.#transport, "/v1/deliveries", params);
  }

  /** A delivery with its last attempt. Its id is `<event id>.<subscription id>`. */
  get(id: string): Promise<DeliveryDetail> {
    return this.#transport.json<DeliveryDetail>({ method: "GET", path: `/v1/deliveries/${segment(id)}` });
  }

  /** Send a dead, cancelled or expired delivery again, or a pending one at once. */
  retry(id: string): Promise<DeliveryDetail> {
    return this.#transport.json<DeliveryDetail>({ method: "POST", path: `/v1/deliveries/${segment(id)}/retry` });
  }

  /** Cancel a pending delivery. */
  cancel(id: string): Promise<DeliveryDetail> {
    return this.#transport.json<DeliveryDetail>({ method: "POST", path: `/v1/deliveries/${segment(id)}/cancel` });
  }

  /** The subscriptions that have pending or dead deliveries, worst first. */
  undelivered(params: UndeliveredListParams = {}): Pages<Undelivered> {
    return pagesOf(this.#transport, "/v1/undelivered", params);
  }
}
