/** Events: sending, listing, and finding out what became of one. */

import { type Page, Pages } from "../pages.js";
import { type EventFields, type EventToSend, type SendReport, sendMany, withDedupId } from "../sending.js";
import type { Attempt, EventDelivery, EventDetail, EventDryRun } from "../shapes/events.js";
import type { SentEvent, StoredEvent, Unmatched } from "../shapes/events.js";
import { type Change, Stream, type StreamOptions } from "../stream.js";
import { type Transport, segment } from "../transport.js";
import { type ListParams, pagesOf } from "./listing.js";

/** Which changes to stream. */
export interface ChangeStreamParams {
  /** Only events of this type, which may be a pattern such as `order.*`. */
  type?: string | undefined;
  /** `accepted`, `attempt` and `dead`, separated by commas. Default: all of them. */
  kind?: string | undefined;
}

/** Which events to list. Types may be patterns, such as `order.*`. */
export interface EventListParams extends ListParams {
  type?: string | undefined;
  subject?: string | undefined;
  dedup_id?: string | undefined;
  /** Only events that have an unsettled or dead delivery. */
  undelivered?: boolean | undefined;
  since?: string | undefined;
  until?: string | undefined;
  order?: "asc" | "desc" | undefined;
}

/** A page of events. `looked_to` is the time of the last event that was looked at. */
export interface EventPage extends Page<StoredEvent> {
  looked_to: string | null;
}

/** The deliveries of an event, at most `limit`. */
export interface EventDeliveryList {
  data: EventDelivery[];
  /** Number of all deliveries, including those that are not shown. */
  total: number;
  /** Number of subscriptions and inboxes that have no delivery of the event. */
  unsent: number;
}

interface RawEventPage {
  events: StoredEvent[];
  next_cursor: string | null;
  looked_to: string | null;
}

/** `client.events` */
export class Events {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Send an event. When the promise resolves, the event is committed. Without a `dedup_id` the library makes
   * one, so that it can repeat the request. `payload` is any JSON value.
   */
  async send(type: string, payload: unknown, fields: EventFields = {}): Promise<SentEvent> {
    const body = withDedupId({ ...fields, type, payload });
    return this.#transport.json<SentEvent>({ method: "POST", path: "/v1/events", body, repeatable: true });
  }

  /**
   * Send many events, in requests of at most 1,000 events and 5 MiB. The report has the outcome of each event.
   * Events that the service cannot take now are sent again for a while.
   */
  sendMany(events: Iterable<EventToSend>): Promise<SendReport> {
    return sendMany(this.#transport, events);
  }

  /** List events, the newest first unless `order` says otherwise. */
  list(params: EventListParams = {}): Pages<StoredEvent, EventPage> {
    return new Pages(async (cursor) => {
      const query = { ...params, cursor: cursor ?? params.cursor };
      const { events, ...rest } = await this.#transport.json<RawEventPage>({ method: "GET", path: "/v1/events", query });
      return { data: events, ...rest };
    });
  }

  /** An event with its payload and its deliveries. `payload` gives the exact bytes. */
  get(id: string): Promise<EventDetail> {
    return this.#transport.json<EventDetail>({ method: "GET", path: `/v1/events/${segment(id)}` });
  }

  /** The same, and for each subscription why it has a delivery of the event, or has none. */
  explain(id: string): Promise<EventDetail> {
    const path = `/v1/events/${segment(id)}`;
    return this.#transport.json<EventDetail>({ method: "GET", path, query: { explain: true } });
  }

  /** The payload, byte for byte as it was sent. */
  async payload(id: string): Promise<Uint8Array<ArrayBuffer>> {
    return (await this.#transport.send({ method: "GET", path: `/v1/events/${segment(id)}/payload` })).bytes;
  }

  /** The latest generation of each delivery of an event. */
  deliveries(id: string, params: { limit?: number | undefined } = {}): Promise<EventDeliveryList> {
    const path = `/v1/events/${segment(id)}/deliveries`;
    return this.#transport.json<EventDeliveryList>({ method: "GET", path, query: params });
  }

  /** The attempts to deliver an event. */
  attempts(id: string, params: AttemptListParams = {}): Pages<Attempt> {
    return pagesOf(this.#transport, `/v1/events/${segment(id)}/attempts`, params);
  }

  /** The subscriptions and inboxes without a delivery of an event, with the reasons. */
  unmatched(id: string): Promise<Unmatched> {
    return this.#transport.json<Unmatched>({ method: "GET", path: `/v1/events/${segment(id)}/unmatched` });
  }

  /** The subscriptions and inboxes that an event would be sent to. Nothing is stored. */
  dryRun(type: string, payload: unknown, fields: EventFields = {}): Promise<EventDryRun> {
    const body = { ...fields, type, payload };
    return this.#transport.json<EventDryRun>({ method: "POST", path: "/v1/events/dry-run", body, repeatable: true });
  }

  /** What happens in the organisation while the loop runs. It is not a log: read the lists for what was before. */
  stream(params: ChangeStreamParams = {}, options: StreamOptions = {}): Stream<Change> {
    return new Stream<Change>(this.#transport, "/v1/stream", params, options);
  }
}

/** Which attempts of an event to list. */
export interface AttemptListParams extends ListParams {
  subscription_id?: string | undefined;
}
