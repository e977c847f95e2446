/** Calls every method of the client once, and prints which routes answered. */

import { Triggers } from "../dist/index.js";
import { check, freshName } from "./checks.js";

declare const process: { env: Record<string, string> };

const answered: string[] = [];
const client = new Triggers({
  fetch: async (url, init) => {
    const answer = await fetch(url, init);
    if (answer.ok) answered.push(`${init.method} ${new URL(url).pathname}`);
    return answer;
  },
});
const target_url = process.env["RECEIVER"] as string;
const type = freshName();

async function first<T>(things: AsyncIterable<T>): Promise<T | undefined> {
  for await (const each of things) return each;
  return undefined;
}

async function subscriptions(): Promise<string> {
  const { subscriptions: these } = client;
  const made = await these.create({ target_url, event_types: [type] });
  const ensured = await these.ensure({ target_url, key: freshName(), event_types: ["none"] });
  check(ensured.secret, "the secret of a new subscription");
  await these.get(made.id);
  await these.list({ status: "active" }).first();
  await these.change(made.id, { name: "changed" });
  await these.rotateSecret(made.id);
  await these.dryRun({ event_types: [type] });
  await these.samples({ type: "*" });
  check((await these.test(made.id)).attempt, "the attempt of a test");
  await these.attempts(made.id).first();
  await these.pause(made.id);
  await these.resume(made.id);
  await these.disable(ensured.id, { reason: "for a test" });
  await these.enable(ensured.id);
  await these.delete(ensured.id);
  return made.id;
}

async function events(subscription: string): Promise<void> {
  const { events: these, deliveries } = client;
  const changes = first(these.stream({ type }));
  await these.dryRun(type, 1);
  await client.subscriptions.pause(subscription);
  await these.sendMany([{ type, payload: 1 }]);
  const { id } = await these.send(type, { n: 1 });
  await these.get(id);
  await these.explain(id);
  await these.payload(id);
  await these.list({ type, undelivered: true }).first();
  check((await these.deliveries(id)).data.length, "deliveries");
  await these.unmatched(id);
  await these.attempts(id).first();
  await deliveries.list({ subscription_id: subscription }).first();
  await deliveries.undelivered().first();
  const delivery = `${id}.${subscription}`;
  await deliveries.get(delivery);
  await deliveries.cancel(delivery);
  await deliveries.retry(delivery);
  await these.sendMany(Array.from({ length: 3 }, () => ({ type, payload: 2 })));
  check(await changes, "a change");
}

async function inboxes(): Promise<void> {
  const { inboxes: these } = client;
  const key = freshName();
  await these.create({ key, event_types: [type] });
  const inbox = client.inbox(key);
  const { id } = await client.events.send(type, { n: 3 });
  await these.ensure({ key, event_types: [type] });
  await these.list({ key, backlog: true }).first();
  check((await these.get(key, { backlog: true })).backlog?.messages, "a backlog");
  check(await first(inbox.watch()), "a count of messages");
  check(await first(these.unacknowledged()), "an event of the default inbox");
  await these.acknowledge([id]);
  await inbox.messages().first();
  const revoked = await inbox.lease();
  await inbox.leases().first();
  await inbox.revoke(revoked.id as string);
  revoked.letGo();
  const released = await inbox.lease();
  await released.extend();
  await released.release();
  const rejected = await inbox.lease();
  await rejected.reject({ reason: "for a test" });
  await inbox.redrive();
  const lease = await inbox.lease();
  await lease.ack();
  await these.change(key, { filter: "payload.n > 1" });
  await these.pause(key);
  await these.resume(key);
  await these.delete(key);
}

async function others(subscription: string): Promise<void> {
  const { replays, keys, service, statistics } = client;
  await replays.plan({ subscription_id: subscription });
  const replay = await replays.create({ subscription_id: subscription, only: "all" });
  await replays.get(replay.id as string);
  await replays.list({ subscription_id: subscription }).first();
  await replays.cancel(replay.id as string);
  const key = await keys.create({ name: "for a test", scopes: ["inbox"] });
  await keys.list().first();
  await keys.rotate(key.id, { overlap_seconds: 0 });
  await keys.revoke(key.id);
  await service.organisation();
  await service.search(type);
  await service.ready({ verbose: true });
  await service.live();
  await service.metrics();
  await statistics.get({ range: "1h" });
  await statistics.subscriptions().first();
}

const subscription = await subscriptions();
await events(subscription);
await inboxes();
await others(subscription);
console.log(JSON.stringify(answered));
