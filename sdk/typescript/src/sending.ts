/** Sending many events: batches, their outcomes, and sending again what the service cannot take yet. */

import { OutcomeUnknown, RateLimited, Refused, TriggersError, Unavailable } from "./errors.js";
import { pause } from "./pause.js";
import type { BatchAnswer, NewEvent } from "./shapes/events.js";
import type { BatchItem, Problem } from "./shapes/problems.js";
import { type Transport, pauseSeconds } from "./transport.js";

/** An event to send. Without a `dedup_id` the library makes one. */
export type EventToSend = Omit<NewEvent, "data" | "payload"> & { payload: unknown };

/** The fields of an event besides its type and its payload. */
export type EventFields = Omit<EventToSend, "type" | "payload">;

/** The outcome of one event: its id, or the error. */
export interface SentItem {
  index: number;
  dedup_id: string;
  id: string | undefined;
  /** Whether an event with this `dedup_id` and this content was stored before. */
  duplicate: boolean;
  error: TriggersError | undefined;
}

/** The outcome of each event, in the order in which they were given. */
export class SendReport {
  constructor(readonly items: readonly SentItem[]) {}

  /** The events that are stored. */
  get accepted(): SentItem[] {
    return this.items.filter((item) => item.error === undefined);
  }

  /**
   * The events with an error. After OutcomeUnknown or Unavailable, an event may be stored or not: send it again with
   * the same `dedup_id`.
   */
  get failed(): SentItem[] {
    return this.items.filter((item) => item.error !== undefined);
  }

  /** Throw the first error, if there is one. */
  throwForFailures(): void {
    for (const item of this.failed) throw item.error;
  }
}

type Identified = EventToSend & { dedup_id: string };
type Waiting = { index: number; event: Identified };

const MOST_EVENTS = 1000;
const MOST_BYTES = 5 * 1024 * 1024;
const utf8 = new TextEncoder();

/** The event with a `dedup_id`. Throws a TriggersError if JSON cannot express its payload. */
export function withDedupId(event: EventToSend): Identified {
  if (!isExpressible(event.payload)) {
    throw new TriggersError("An event needs a payload that JSON can express. To send no data, give {} or null.");
  }
  return { ...event, dedup_id: event.dedup_id ?? crypto.randomUUID() };
}

function isExpressible(payload: unknown): boolean {
  try {
    return JSON.stringify(payload) !== undefined;
  } catch {
    return false; // it refers to itself, or contains a BigInt
  }
}

/** Send events in batches. Throws nothing but a TriggersError for an event that JSON cannot express. */
export async function sendMany(transport: Transport, events: Iterable<EventToSend>): Promise<SendReport> {
  const waiting = Array.from(events, (event, index) => ({ index, event: withDedupId(event) }));
  const items: SentItem[] = [];
  for (const batch of batches(waiting)) items.push(...(await sendBatch(transport, batch)));
  return new SendReport(items.sort((one, other) => one.index - other.index));
}

async function sendBatch(transport: Transport, batch: Waiting[]): Promise<SentItem[]> {
  const until = performance.now() + transport.retrySeconds * 1000;
  const done: SentItem[] = [];
  for (let waiting = batch, repetitions = 0; ; repetitions++) {
    const items = await outcomes(transport, waiting);
    const later = items.filter(isForLater);
    const seconds = Math.max(...later.map(({ error }) => pauseSeconds(error as TriggersError, repetitions)));
    if (!later.length || performance.now() + seconds * 1000 > until) return [...done, ...items];
    done.push(...items.filter((item) => !isForLater(item)));
    await pause(seconds);
    const again = new Set(later.map((item) => item.index));
    waiting = waiting.filter((each) => again.has(each.index));
  }
}

/** The outcomes of one request. If it fails as a whole, each event has its error. */
async function outcomes(transport: Transport, waiting: Waiting[]): Promise<SentItem[]> {
  const body = waiting.map((each) => each.event);
  try {
    const call = { method: "POST", path: "/v1/events/batch", body, repeatable: true } as const;
    const answer = await transport.send(call);
    const results = answer.json<Partial<BatchAnswer> | null>()?.results; // none if another program answered
    return waiting.map((each, place) => sentItem(each, results?.[place], answer.requestId));
  } catch (error) {
    if (!(error instanceof TriggersError)) throw error;
    // If no event was accepted, the answer is a problem that still has the outcome of each event.
    const results = (error as { problem?: Problem }).problem?.results ?? [];
    if (results.length === waiting.length) {
      return waiting.map((each, place) => sentItem(each, results[place], error.requestId));
    }
    return waiting.map((each) => ({ ...nothing(each), error }));
  }
}

function sentItem(waiting: Waiting, item: BatchItem | undefined, requestId: string | undefined): SentItem {
  if (item && item.status < 300 && typeof item.id === "string") {
    return { ...nothing(waiting), id: item.id, duplicate: item.status === 200 };
  }
  const error = item?.problem ? refusal(item.problem, requestId) : new OutcomeUnknown("No outcome.", { requestId });
  return { ...nothing(waiting), error };
}

function nothing({ index, event }: Waiting): SentItem {
  return { index, dedup_id: event.dedup_id, id: undefined, duplicate: false, error: undefined };
}

function refusal(problem: Problem, requestId: string | undefined): TriggersError {
  const kind = problem.status === 429 ? RateLimited : problem.status === 503 ? Unavailable : Refused;
  const facts = { status: problem.status, problem, requestId, retryAfterSeconds: problem.retry_after ?? undefined };
  return new kind(`${problem.status} ${problem.errors?.[0]?.detail ?? problem.detail}`, facts);
}

/** Whether the service may take the event in a moment. */
function isForLater({ error }: SentItem): boolean {
  return error instanceof RateLimited || error instanceof Unavailable;
}

/** The events in groups within the limits of one request. */
function* batches(events: Waiting[]): Generator<Waiting[]> {
  let batch: Waiting[] = [];
  let size = 2;
  for (const each of events) {
    const cost = utf8.encode(JSON.stringify(each.event)).length + 1;
    if (batch.length === MOST_EVENTS || (batch.length && size + cost > MOST_BYTES)) {
      yield batch;
      [batch, size] = [[], 2];
    }
    batch.push(each);
    size += cost;
  }
  if (batch.length) yield batch;
}
