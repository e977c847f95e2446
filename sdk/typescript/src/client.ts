/** The client: where the service is, and everything that can be asked of it. */

import { TriggersError } from "./errors.js";
import { InboxHandle } from "./inbox.js";
import { Deliveries } from "./resources/deliveries.js";
import { Events } from "./resources/events.js";
import { Inboxes } from "./resources/inboxes.js";
import { Keys } from "./resources/keys.js";
import { Replays } from "./resources/replays.js";
import { Service } from "./resources/service.js";
import { StatisticsOf } from "./resources/statistics.js";
import { Subscriptions } from "./resources/subscriptions.js";
import { Transport } from "./transport.js";

/** Options of a client. */
export interface TriggersOptions {
  /** URL of the service. Default: `TRIGGERS_URL`, or else `http://127.0.0.1:8080`. */
  url?: string | undefined;
  /** Default: `TRIGGERS_API_KEY`. */
  apiKey?: string | undefined;
  /** How long one try of a request may take. Default: 30. */
  timeoutSeconds?: number | undefined;
  /** How long a request is repeated if it fails. 0: never. Default: 30. */
  retrySeconds?: number | undefined;
  /** Makes the requests. Default: the `fetch` of the runtime. */
  fetch?: ((url: string, init: RequestInit) => Promise<Response>) | undefined;
}

const DEFAULT_URL = "http://127.0.0.1:8080";

/** A client of one service, with one API key. */
export class Triggers {
  readonly events: Events;
  readonly subscriptions: Subscriptions;
  readonly deliveries: Deliveries;
  readonly inboxes: Inboxes;
  readonly replays: Replays;
  readonly keys: Keys;
  readonly statistics: StatisticsOf;
  readonly service: Service;
  readonly #transport: Transport;

  /** Throws a TriggersError if there is no API key, or if the key or the URL cannot be right. */
  constructor(options: TriggersOptions = {}) {
    const transport = new Transport({
      url: checkedUrl(options.url ?? (environment("TRIGGERS_URL") || DEFAULT_URL)),
      apiKey: checkedKey(options.apiKey ?? environment("TRIGGERS_API_KEY")),
      timeoutSeconds: options.timeoutSeconds ?? 30,
      retrySeconds: options.retrySeconds ?? 30,
      // workerd refuses a fetch that is called as a method of another object.
      fetch: options.fetch ?? ((url, init) => fetch(url, init)),
    });
    this.events = new Events(transport);
    this.subscriptions = new Subscriptions(transport);
    this.deliveries = new Deliveries(transport);
    this.inboxes = new Inboxes(transport);
    this.replays = new Replays(transport);
    this.keys = new Keys(transport);
    this.statistics = new StatisticsOf(transport);
    this.service = new Service(transport);
    this.#transport = transport;
  }

  /** One inbox, by its key or its id, to lease messages from and to consume. */
  inbox(name: string): InboxHandle {
    return new InboxHandle(this.#transport, name);
  }
}

function environment(name: string): string | undefined {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  return process?.env?.[name];
}

function checkedKey(given: string | undefined): string {
  const key = (given ?? "").trim();
  if (/^[!-~]+$/.test(key)) return key;
  throw new TriggersError(
    "The API key is missing, or contains a character that no key has, such as a space." +
      " Set TRIGGERS_API_KEY, or give apiKey.",
  );
}

function checkedUrl(url: string): string {
  try {
    const { protocol, username, password, search, hash } = new URL(url);
    const isPlain = !username && !password && !search && !hash;
    if (/^https?:$/.test(protocol) && isPlain) return url.replace(/\/+$/, "");
  } catch {
    // The message is the same, and does not repeat the value, which may contain a password.
  }
  throw new TriggersError("The URL must be like http://127.0.0.1:8080. Set TRIGGERS_URL, or give url.");
}
