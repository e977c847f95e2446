/** Inboxes: settings, and the default inbox without leases. */

import { Pages } from "../pages.js";
import type { Acknowledgement, Inbox, InboxChange, InboxEvent } from "../shapes/inboxes.js";
import type { NewInbox, NotifyingInbox } from "../shapes/inboxes.js";
import { type Transport, segment } from "../transport.js";
import { type ListParams, pagesOf } from "./listing.js";

/** An inbox, with the secret that signs its notifications if this request made one. */
export type InboxWithSecret = Inbox & Partial<Pick<NotifyingInbox, "notification_secret">>;

/** Which inboxes to list. */
export interface InboxListParams extends ListParams {
  key?: string | undefined;
  status?: string | undefined;
  /** Whether to count the messages of each inbox. */
  backlog?: boolean | undefined;
}

/** Which events of the default inbox to list. */
export interface UnacknowledgedParams extends ListParams {
  status?: "available" | "leased" | "quarantined" | undefined;
  order?: "asc" | "desc" | undefined;
}

const PATH = "/v1/inboxes";

/** `client.inboxes`. An inbox is named by its key or its id. */
export class Inboxes {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Create an inbox. It collects the events that are accepted from now on. */
  create(inbox: NewInbox): Promise<InboxWithSecret> {
    return this.#transport.json<InboxWithSecret>({ method: "POST", path: PATH, body: inbox });
  }

  /** Create an inbox unless one with this key exists. Throws Refused if it exists and has other settings. */
  ensure(inbox: NewInbox): Promise<InboxWithSecret> {
    return this.#transport.json<InboxWithSecret>({ method: "PUT", path: PATH, body: inbox });
  }

  /** List inboxes in the order of their creation. */
  list(params: InboxListParams = {}): Pages<Inbox> {
    return pagesOf(this.#transport, PATH, params);
  }

  /** One inbox. With `backlog` its messages are counted. */
  get(inbox: string, params: { backlog?: boolean | undefined } = {}): Promise<Inbox> {
    return this.#transport.json<Inbox>({ method: "GET", path: `${PATH}/${segment(inbox)}`, query: params });
  }

  /** Change settings. What is not given stays as it is. */
  change(inbox: string, changes: InboxChange): Promise<InboxWithSecret> {
    return this.#transport.json<InboxWithSecret>({ method: "PATCH", path: `${PATH}/${segment(inbox)}`, body: changes });
  }

  /** Delete an inbox. Its messages are cancelled. */
  delete(inbox: string): Promise<Inbox> {
    return this.#transport.json<Inbox>({ method: "DELETE", path: `${PATH}/${segment(inbox)}` });
  }

  /** Keep new messages until `resume`. */
  pause(inbox: string): Promise<Inbox> {
    return this.#transport.json<Inbox>({ method: "POST", path: `${PATH}/${segment(inbox)}/pause` });
  }

  /** Lease new messages again after `pause`. */
  resume(inbox: string): Promise<Inbox> {
    return this.#transport.json<Inbox>({ method: "POST", path: `${PATH}/${segment(inbox)}/resume` });
  }

  /** List the events of the inbox `default` that are not acknowledged. Nothing is leased. */
  unacknowledged(params: UnacknowledgedParams = {}): Pages<InboxEvent> {
    return new Pages(async (cursor) => {
      const query = { ...params, cursor: cursor ?? params.cursor };
      const call = { method: "GET", path: "/v1/inbox", query } as const;
      const page = await this.#transport.json<{ events: InboxEvent[]; next_cursor: string | null }>(call);
      return { data: page.events, next_cursor: page.next_cursor };
    });
  }

  /** Acknowledge events of the inbox `default` without a lease, at most 1,000. */
  acknowledge(eventIds: readonly string[]): Promise<Acknowledgement> {
    const call = { method: "POST", path: "/v1/ack", body: { event_ids: eventIds }, repeatable: true } as const;
    return this.#transport.json<Acknowledgement>(call);
  }
}
