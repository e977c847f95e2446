/** Numbers over time. */

import type { Page } from "../pages.js";
import { Pages } from "../pages.js";
import type { Statistics, SubscriptionHours } from "../shapes/statistics.js";
import type { Transport } from "../transport.js";
import type { ListParams } from "./listing.js";

/** The time range, and the subscription if it is not all of them. */
export interface StatisticsParams {
  range?: "1h" | "24h" | "14d" | undefined;
  subscription?: string | undefined;
}

/** A page of subscriptions with their numbers of the last 24 hours. */
export interface SubscriptionHoursPage extends Page<SubscriptionHours> {
  /** Time when the first hour begins. */
  since: string;
  /** The present time. The last hour has not ended yet. */
  until: string;
}

/** `client.statistics` */
export class StatisticsOf {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** The numbers of the organisation, or of one subscription. */
  get(params: StatisticsParams = {}): Promise<Statistics> {
    return this.#transport.json<Statistics>({ method: "GET", path: "/v1/stats", query: params });
  }

  /** The last 24 hours of each push subscription. */
  subscriptions(params: ListParams = {}): Pages<SubscriptionHours, SubscriptionHoursPage> {
    return new Pages((cursor) => {
      const query = { ...params, cursor: cursor ?? params.cursor };
      return this.#transport.json<SubscriptionHoursPage>({ method: "GET", path: "/v1/stats/subscriptions", query });
    });
  }
}
