/** One inbox: messages, leases, and the consumer. */

import { Consumer, type ConsumerOptions, type Handler } from "./consumer.js";
import { OutcomeUnknown } from "./errors.js";
import { Lease, type LeaseOptions } from "./lease.js";
import type { Message } from "./message.js";
import type { Pages } from "./pages.js";
import { type ListParams, pagesOf } from "./resources/listing.js";
import type { Acked, ExtendBody, Extended, HeldLease, ListedMessage } from "./shapes/messages.js";
import type { RedriveBody, Redriven, RejectBody, Rejected } from "./shapes/messages.js";
import type { ReleaseBody, Released, Revoked, SettleBody, TakenLease } from "./shapes/messages.js";
import { type MessagesAvailable, Stream, type StreamOptions } from "./stream.js";
import { type Transport, segment } from "./transport.js";

/** Which messages to list. */
export interface MessageListParams extends ListParams {
  status?: "available" | "leased" | "quarantined" | undefined;
}

/** How to receive messages in a loop. */
export type ReceiveOptions = Omit<LeaseOptions, "lease_limit" | "lease_id">;

/** The messages of one inbox, which is named by its key or its id. */
export class InboxHandle {
  readonly #transport: Transport;
  readonly #path: string;

  constructor(
    transport: Transport,
    readonly name: string,
  ) {
    this.#transport = transport;
    this.#path = `/v1/inboxes/${segment(name)}`;
  }

  /**
   * Consume the messages of this inbox with a function. Call `run()` of the result.
   *
   * A message is acknowledged when the handler returns. When it throws, the message is released for 1, 2, 4 … 300
   * seconds, and rejected after `maxAttempts` leases.
   */
  consumer(handler: Handler, options: ConsumerOptions = {}): Consumer {
    return new Consumer(this, handler, options);
  }

  /**
   * Messages one by one, as they arrive: `for await (const message of inbox.receive())`. A message is acknowledged
   * when the body of the loop ends, and released if the loop is left by `break`, `return` or an error.
   */
  async *receive(options: ReceiveOptions = {}): AsyncGenerator<Message, void, undefined> {
    for (;;) {
      const lease = await this.lease({ wait_seconds: 20, ...options, lease_limit: 1 });
      const [message] = lease.messages;
      if (message === undefined || lease.lost.aborted) continue; // another consumer may have it
      let isDone = false;
      try {
        yield message;
        isDone = true;
      } finally {
        // A message whose lease was lost comes again.
        await message.end(isDone ? "ack" : { delay_seconds: 0 }).catch(() => undefined);
        lease.letGo();
      }
    }
  }

  /**
   * Lease messages, oldest first. With `wait_seconds` the service waits for one. If no message is there, the lease
   * has none. `await using lease = await inbox.lease()` releases at the end what was not settled.
   */
  async lease(options: LeaseOptions = {}): Promise<Lease> {
    const { maxSeconds = 600, retrySeconds, signal, ...given } = options;
    const seconds = given.lease_seconds ?? 60;
    const body = { lease_id: crypto.randomUUID(), ...given, lease_seconds: seconds };
    const path = `${this.#path}/messages/lease`;
    const waitSeconds = given.wait_seconds ?? 0;
    const askedAt = performance.now();
    const taken = await this.#transport.json<TakenLease>({
      method: "POST",
      path,
      body,
      waitSeconds,
      signal,
      repeatable: true,
      ...(retrySeconds === undefined ? {} : { retrySeconds }),
    });
    if (!Array.isArray(taken?.results)) {
      throw new OutcomeUnknown("The answer does not come from Triggers: it is not a lease. Check TRIGGERS_URL.");
    }
    // The lease began at any time since it was asked for. If that is long ago, only an extension tells its end.
    const passed = (performance.now() - askedAt) / 1000;
    const isFresh = passed < seconds / 3;
    const lease = new Lease(this, taken, { seconds, maxSeconds, leftSeconds: isFresh ? seconds - passed : seconds });
    if (!isFresh) await lease.confirm();
    return lease;
  }

  /** List messages without their payloads, oldest first. Nothing is leased. */
  messages(params: MessageListParams = {}): Pages<ListedMessage> {
    return pagesOf(this.#transport, `${this.#path}/messages`, params);
  }

  /** List the leases that have not ended. */
  leases(params: ListParams = {}): Pages<HeldLease> {
    return pagesOf(this.#transport, `${this.#path}/leases`, params);
  }

  /** Acknowledge messages of a lease. Throws Refused with the code `lease-over` if the lease has ended. */
  ack(leaseId: string, body: Omit<SettleBody, "lease_id"> = {}, options: SettleOptions = {}): Promise<Acked> {
    return this.#post<Acked>("ack", { lease_id: leaseId, ...body }, options);
  }

  /** Give messages of a lease back, at once or after `delay_seconds`. Throws as `ack`. */
  release(leaseId: string, body: Omit<ReleaseBody, "lease_id"> = {}, options: SettleOptions = {}): Promise<Released> {
    return this.#post<Released>("release", { lease_id: leaseId, ...body }, options);
  }

  /** Quarantine messages of a lease, until somebody re-drives them. Throws as `ack`. */
  reject(leaseId: string, body: Omit<RejectBody, "lease_id">, options: SettleOptions = {}): Promise<Rejected> {
    return this.#post<Rejected>("reject", { lease_id: leaseId, ...body }, options);
  }

  /** Let a lease end so many seconds from now. Throws as `ack`. */
  extend(leaseId: string, body: Omit<ExtendBody, "lease_id"> = {}, options: SettleOptions = {}): Promise<Extended> {
    return this.#post<Extended>("extend", { lease_id: leaseId, ...body }, options);
  }

  /** End a lease of another consumer. Its messages are available again. */
  revoke(leaseId: string): Promise<Revoked> {
    return this.#transport.json<Revoked>({
      method: "POST",
      path: `${this.#path}/messages/revoke`,
      body: { lease_id: leaseId },
    });
  }

  /** Make quarantined messages available again. */
  redrive(body: RedriveBody = {}): Promise<Redriven> {
    const path = `${this.#path}/messages/redrive`;
    // Without ids, a repetition would make the next 1,000 messages available.
    const repeatable = body.message_ids != null;
    return this.#transport.json<Redriven>({ method: "POST", path, body, repeatable });
  }

  /** Follow how many messages become available. Nothing is leased. */
  watch(options: StreamOptions = {}): Stream<MessagesAvailable> {
    return new Stream<MessagesAvailable>(this.#transport, `${this.#path}/events`, {}, options);
  }

  #post<T>(what: string, body: object, options: SettleOptions): Promise<T> {
    // Repeating is safe: a message that is settled already is not settled again.
    return this.#transport.json<T>({
      method: "POST",
      path: `${this.#path}/messages/${what}`,
      body,
      repeatable: true,
      ...options,
    });
  }
}

/** How patiently a lease is settled. */
export interface SettleOptions {
  /** For how long the request is repeated. Default: that of the client. */
  retrySeconds?: number;
  /** How long one try may take. Default: that of the client. */
  timeoutSeconds?: number;
  /** Maximum pause before the request is repeated, even if the service asks for a longer one. */
  longestPauseSeconds?: number;
  signal?: AbortSignal;
}
