/** Replays: sending many past deliveries again, as a job of the service. */

import type { Pages } from "../pages.js";
import type { NewReplay, Replay } from "../shapes/replays.js";
import { type Transport, segment } from "../transport.js";
import { type ListParams, pagesOf } from "./listing.js";

/** Which replays to list. */
export interface ReplayListParams extends ListParams {
  subscription_id?: string | undefined;
  status?: string | undefined;
}

/** `client.replays` */
export class Replays {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Start a replay. It is not repeated if its outcome is unknown. */
  create(replay: NewReplay): Promise<Replay> {
    const repeatable = replay.plan_only === true;
    return this.#transport.json<Replay>({ method: "POST", path: "/v1/replays", body: replay, repeatable });
  }

  /** What a replay would do. Nothing is created. */
  plan(replay: NewReplay): Promise<Replay> {
    return this.create({ ...replay, plan_only: true });
  }

  /** A replay with its progress. */
  get(id: string): Promise<Replay> {
    return this.#transport.json<Replay>({ method: "GET", path: `/v1/replays/${segment(id)}` });
  }

  /** List replays, the newest first. */
  list(params: ReplayListParams = {}): Pages<Replay> {
    return pagesOf(this.#transport, "/v1/replays", params);
  }

  /** Stop a replay. Deliveries that it has created stay. */
  cancel(id: string): Promise<Replay> {
    return this.#transport.json<Replay>({ method: "DELETE", path: `/v1/replays/${segment(id)}` });
  }
}
