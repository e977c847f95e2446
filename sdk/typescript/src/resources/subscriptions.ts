/** Push subscriptions: their settings, their state, and trying them out. */

import type { Pages } from "../pages.js";
import type { Attempt } from "../shapes/events.js";
import type { DisableBody, DryRun, DryRunRequest, EnabledSubscription } from "../shapes/subscriptions.js";
import type { NewSubscription, RotateSecretBody, Subscription } from "../shapes/subscriptions.js";
import type { SubscriptionChange, SubscriptionWithSecret, TestDelivery } from "../shapes/subscriptions.js";
import { type Transport, segment } from "../transport.js";
import { type ListParams, pagesOf } from "./listing.js";

/** Which subscriptions to list. */
export interface SubscriptionListParams extends ListParams {
  key?: string | undefined;
  status?: string | undefined;
  /** Only subscriptions whose endpoint fails. */
  failing?: boolean | undefined;
}

/** Which samples to show, and how many. */
export interface SampleParams {
  type?: string | undefined;
  format?: "cloudevents" | "raw" | "standard" | undefined;
  limit?: number | undefined;
}

const PATH = "/v1/subscriptions";

/** `client.subscriptions` */
export class Subscriptions {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Create a subscription. Only this answer has the secret. It is not repeated if its outcome is unknown. */
  create(subscription: NewSubscription): Promise<SubscriptionWithSecret> {
    return this.#transport.json<SubscriptionWithSecret>({ method: "POST", path: PATH, body: subscription });
  }

  /** Create the subscription with this `key`, or return it if it exists. The answer has a `secret` if it is new. */
  ensure(subscription: NewSubscription & { key: string }): Promise<Subscription & { secret?: string }> {
    return this.#transport.json<Subscription & { secret?: string }>({ method: "PUT", path: PATH, body: subscription });
  }

  /** A subscription. */
  get(id: string): Promise<Subscription> {
    return this.#transport.json<Subscription>({ method: "GET", path: `${PATH}/${segment(id)}` });
  }

  /** List subscriptions. */
  list(params: SubscriptionListParams = {}): Pages<Subscription> {
    return pagesOf(this.#transport, PATH, params);
  }

  /** Change settings. Fields that are left out stay as they are. */
  change(id: string, changes: SubscriptionChange): Promise<Subscription> {
    const path = `${PATH}/${segment(id)}`;
    return this.#transport.json<Subscription>({ method: "PATCH", path, body: changes, repeatable: true });
  }

  /** Delete a subscription. It may be repeated. */
  async delete(id: string): Promise<void> {
    await this.#transport.send({ method: "DELETE", path: `${PATH}/${segment(id)}` });
  }

  /** Stop sending. Events keep collecting. */
  pause(id: string): Promise<Subscription> {
    return this.#transport.json<Subscription>({ method: "POST", path: `${PATH}/${segment(id)}/pause` });
  }

  /** Send again, beginning with the events that have collected. */
  resume(id: string): Promise<Subscription> {
    return this.#transport.json<Subscription>({ method: "POST", path: `${PATH}/${segment(id)}/resume` });
  }

  /** Disable a subscription. It matches no events until it is enabled. */
  disable(id: string, body: DisableBody = {}): Promise<Subscription> {
    const path = `${PATH}/${segment(id)}/disable`;
    return this.#transport.json<Subscription>({ method: "POST", path, body, repeatable: true });
  }

  /** Enable a subscription. The answer has the time range in which it matched nothing. */
  enable(id: string): Promise<EnabledSubscription> {
    return this.#transport.json<EnabledSubscription>({ method: "POST", path: `${PATH}/${segment(id)}/enable` });
  }

  /** Make a new signing secret. Only this answer has it. Both secrets sign for `overlap_seconds`. */
  rotateSecret(id: string, body: RotateSecretBody = {}): Promise<SubscriptionWithSecret> {
    const path = `${PATH}/${segment(id)}/rotate-secret`;
    return this.#transport.json<SubscriptionWithSecret>({ method: "POST", path, body });
  }

  /** Send an event of the type `triggers.test`, and wait up to 20 seconds for its first attempt. */
  test(id: string): Promise<TestDelivery> {
    const path = `${PATH}/${segment(id)}/test`;
    return this.#transport.json<TestDelivery>({ method: "POST", path, waitSeconds: 20 });
  }

  /** The requests to the endpoint of a subscription, the newest first. */
  attempts(id: string, params: ListParams = {}): Pages<Attempt> {
    return pagesOf(this.#transport, `${PATH}/${segment(id)}/attempts`, params);
  }

  /** Which of the newest events a filter would match. Nothing is changed. */
  dryRun(body: DryRunRequest = {}): Promise<DryRun> {
    return this.#transport.json<DryRun>({ method: "POST", path: `${PATH}/dry-run`, body, repeatable: true });
  }

  /** The newest events, each exactly as it would be delivered. */
  samples(params: SampleParams = {}): Promise<unknown[]> {
    return this.#transport.json<unknown[]>({ method: "GET", path: "/v1/samples", query: params });
  }
}
