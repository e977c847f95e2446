/** What the tests check with. The same in every runtime. */

import { Triggers, type TriggersOptions } from "../dist/index.js";

/** Where the service is, and the key of an organisation that only this run has. */
export interface Place {
  url: string;
  apiKey: string;
}

/** A test. Its name says what is true if it passes. */
export type Test = (place: Place) => Promise<void>;

let made = 0;

export function check(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(message);
}

export function same(found: unknown, expected: unknown, what = "value"): void {
  const [one, other] = [JSON.stringify(found), JSON.stringify(expected)];
  if (one !== other) throw new Error(`${what}: ${one} instead of ${other}`);
}

/** The error with which a promise is rejected, which has to be of this class. */
export async function rejected<T extends Error>(
  promise: Promise<unknown>,
  kind: abstract new (...given: any[]) => T,
): Promise<T> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof kind) return error;
    throw new Error(`rejected with ${String(error)} instead of ${kind.name}`);
  }
  throw new Error(`not rejected, instead of ${kind.name}`);
}

/** Wait until a condition is true. */
export async function eventually(condition: () => unknown, what: string, seconds = 10): Promise<void> {
  const until = Date.now() + seconds * 1000;
  while (!(await condition())) {
    check(Date.now() < until, `no ${what} within ${seconds} seconds`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A name that no other test has. */
export function freshName(): string {
  return `${Date.now().toString(36)}-${++made}-${Math.random().toString(36).slice(2, 8)}`;
}

export function clientOf(place: Place, options: TriggersOptions = {}): Triggers {
  return new Triggers({ ...place, ...options });
}

/** A new inbox of one event type, and a function that sends events to it. */
export async function inboxOf(client: Triggers) {
  const name = freshName();
  await client.inboxes.create({ key: name, event_types: [name] });
  const send = async (count: number) => {
    const events = Array.from({ length: count }, (_, n) => ({ type: name, payload: { n } }));
    const report = await client.events.sendMany(events);
    report.throwForFailures();
    return report.accepted.map((item) => item.id as string);
  };
  return { name, inbox: client.inbox(name), send };
}
