/** Leases, the loop over messages, and the consumer. */

import { type Message, Refused, TriggersError } from "../dist/index.js";
import { type Test, check, clientOf, eventually, freshName, inboxOf, rejected, same } from "./checks.js";

const quiet = { handleSignals: false, waitSeconds: 1, onError: () => undefined } as const;

export const consuming: Record<string, Test> = {
  "a lease that is left is released, except what was acknowledged": async (place) => {
    const { inbox, send } = await inboxOf(clientOf(place));
    const [first, second] = await send(2);
    {
      await using lease = await inbox.lease({ consumer: "test" });
      same(lease.messages.map((message) => message.id), [first, second]);
      same((await inbox.leases().toArray()).map((each) => each.consumer), ["test"]);
      await lease.messages[0]?.ack();
      check(lease.messages[0]?.isSettled && !lease.messages[1]?.isSettled, "one is settled");
    }
    same((await inbox.messages({ status: "available" }).toArray()).map((each) => each.id), [second]);
    await using again = await inbox.lease();
    same([again.messages[0]?.leaseCount, again.messages[0]?.payload], [2, { n: 1 }]);
    await again.ack();
    await using nothing = await inbox.lease();
    same([nothing.id, nothing.messages], [null, []]);
  },

  "a loop acknowledges each message whose turn ended, and releases the one at which it is left": async (place) => {
    const { inbox, send } = await inboxOf(clientOf(place));
    const sent = await send(3);
    const seen: string[] = [];
    for await (const message of inbox.receive({ wait_seconds: 2 })) {
      seen.push(message.id);
      if (seen.length === 3) break;
    }
    same(seen, sent);
    same((await inbox.messages().toArray()).map((each) => [each.id, each.status]), [[sent[2], "available"]]);
  },

  "a signal ends a loop that waits": async (place) => {
    const { inbox } = await inboxOf(clientOf(place));
    const loop = (async () => {
      for await (const _ of inbox.receive({ signal: AbortSignal.timeout(100) })) throw new Error("a message");
    })();
    await rejected(loop, Error);
  },

  "a consumer acknowledges, repeats what failed, rejects what fails too often, and stops": async (place) => {
    const { inbox, send } = await inboxOf(clientOf(place));
    const sent = await send(12);
    const done: string[] = [];
    let most = 0;
    let now = 0;
    const errors: unknown[] = [];
    const handler = async (message: Message<{ n: number }>) => {
      most = Math.max(most, ++now);
      await new Promise((resolve) => setTimeout(resolve, 20));
      now--;
      if (message.payload.n === 1 && message.leaseCount === 1) throw new Error("once");
      if (message.payload.n === 2) throw new Error("always\nfails");
      if (message.payload.n === 3) return message.reject("not\u0000for me");
      done.push(message.id);
    };
    const onError = (error: unknown) => errors.push(error);
    const consumer = inbox.consumer(handler, { ...quiet, concurrency: 4, maxAttempts: 2, onError });
    const running = consumer.run();
    await eventually(async () => !(await inbox.messages({ status: "available" }).toArray(1)).length && done.length === 10, "end");
    await eventually(async () => (await inbox.messages({ status: "quarantined" }).toArray()).length === 2, "rejections");
    consumer.stop();
    await running;
    same([...done].sort(), sent.filter((_, n) => n !== 2 && n !== 3).sort());
    check(most > 1 && most <= 4, `${most} at once`);
    same(errors.map((error) => (error as Error).message).sort(), ["always\nfails", "always\nfails", "once"]);
    const reasons = (await inbox.messages({ status: "quarantined" }).toArray()).map((each) => each.message_attributes.error_message);
    same(reasons, ["Error: always fails", "not for me"]);
    await rejected(consumer.run(), TriggersError);
  },

  "a lease is renewed while the handler works": async (place) => {
    const { inbox, send } = await inboxOf(clientOf(place));
    await send(1);
    let count = 0;
    const consumer = inbox.consumer(
      async (message) => {
        await new Promise((resolve) => setTimeout(resolve, 3200));
        check(!message.leaseLost.aborted, "the lease is kept");
        count = message.leaseCount;
      },
      { ...quiet, leaseSeconds: 2 },
    );
    const running = consumer.run();
    await eventually(() => count, "message");
    consumer.stop();
    await running;
    same([count, await inbox.messages().toArray()], [1, []]);
  },

  "a lease is kept although the service asks for a longer pause": async (place) => {
    let extensions = 0;
    const headers = { "content-type": "application/problem+json", "retry-after": "2" };
    const client = clientOf(place, {
      fetch: (url, init) => {
        if (!url.endsWith("/extend") || extensions++) return fetch(url, init);
        return Promise.resolve(new Response("{}", { status: 503, headers }));
      },
    });
    const { inbox, send } = await inboxOf(client);
    await send(1);
    let wasLost: boolean | undefined;
    const handler = async (message: Message) => {
      await eventually(() => extensions > 1 || message.leaseLost.aborted, "second extension");
      wasLost = message.leaseLost.aborted;
      consumer.stop();
    };
    const consumer = inbox.consumer(handler, { ...quiet, concurrency: 1, leaseSeconds: 3 });
    await consumer.run();
    same(wasLost, false);
  },

  "a lease is extended whether or not three divides its length": async (place) => {
    const { inbox, send } = await inboxOf(clientOf(place));
    await send(3);
    for (const lease_seconds of [4, 5, 10]) {
      await using lease = await inbox.lease({ lease_seconds, lease_limit: 1 });
      same((await lease.extend())?.lease_id, lease.id);
      await lease.ack();
    }
  },

  "a handler is told that its lease is gone, and settles nothing then": async (place) => {
    const { inbox, send } = await inboxOf(clientOf(place));
    const [id] = await send(1);
    const handler = async (message: Message) => {
      if (message.leaseCount > 1) return;
      await inbox.revoke(message.lease.id as string);
      await new Promise((resolve) => message.leaseLost.addEventListener("abort", resolve, { once: true }));
      consumer.stop(); // else this consumer would get it again
    };
    const consumer = inbox.consumer(handler, { ...quiet, concurrency: 1, leaseSeconds: 2 });
    await consumer.run();
    same((await inbox.messages({ status: "available" }).toArray()).map((each) => each.id), [id]);
  },

  "a lease that nobody renews is lost before it ends": async (place) => {
    const { inbox, send } = await inboxOf(clientOf(place));
    await send(1);
    const askedAt = Date.now();
    const lease = await inbox.lease({ lease_seconds: 2, maxSeconds: 0 });
    await new Promise((resolve) => lease.lost.addEventListener("abort", resolve, { once: true }));
    check(Date.now() - askedAt < 2000, "lost before another consumer can have it");
    await rejected(lease.ack(), TriggersError);
    same((await inbox.messages().toArray()).length, 1);
  },

  "a consumer that stops releases what takes too long": async (place) => {
    let held: Message | undefined;
    let wasToldFirst: boolean | undefined;
    let note: unknown;
    const client = clientOf(place, {
      fetch: (url, init) => {
        if (url.endsWith("/release")) {
          wasToldFirst ??= held?.leaseLost.aborted;
          note = (JSON.parse(init.body as string) as { note?: unknown }).note;
        }
        return fetch(url, init);
      },
    });
    const { inbox, send } = await inboxOf(client);
    const [id] = await send(1);
    const handler = (message: Message) => {
      held = message;
      message.note = { text: "half done" };
      return new Promise(() => undefined);
    };
    const consumer = inbox.consumer(handler, { ...quiet, concurrency: 1, drainSeconds: 0.1 });
    const running = consumer.run();
    await eventually(() => held, "message");
    consumer.stop();
    await running;
    check(wasToldFirst, "the handler is told before another consumer can have the message");
    same(note, { text: "half done" });
    same((await inbox.messages({ status: "available" }).toArray()).map((each) => each.id), [id]);
  },

  "a consumer that stops at once has released what it was about to lease": async (place) => {
    const ended: string[] = [];
    let isAsking = false;
    const client = clientOf(place, {
      fetch: async (url, init) => {
        isAsking ||= url.endsWith("/lease");
        const answer = await fetch(url, init);
        ended.push(url.slice(url.lastIndexOf("/")));
        return answer;
      },
    });
    const { inbox } = await inboxOf(client);
    const consumer = inbox.consumer(() => undefined, { ...quiet, concurrency: 1, waitSeconds: 20 });
    const running = consumer.run();
    await eventually(() => isAsking, "request for a lease");
    consumer.stop({ now: true });
    await running;
    check(ended.includes("/release"), "run() does not return before the release");
  },

  "a handler is told of an outage before another consumer begins": async (place) => {
    let isDown = false;
    const cutOff = clientOf(place, {
      fetch: (url, init) => (isDown ? Promise.reject(new TypeError("fetch failed")) : fetch(url, init)),
    });
    const { name, inbox, send } = await inboxOf(cutOff);
    await send(1);
    const order: string[] = [];
    const handler = async (message: Message) => {
      isDown = true;
      message.leaseLost.addEventListener("abort", () => order.push("told"), { once: true });
      await eventually(() => order.includes("begun"), "handler of the other consumer"); // it goes on
      first.stop();
    };
    const options = { ...quiet, concurrency: 1, leaseSeconds: 1 };
    const first = inbox.consumer(handler, options);
    const second = clientOf(place).inbox(name).consumer(() => {
      order.push("begun");
      second.stop();
    }, options);
    const running = first.run();
    await eventually(() => isDown, "message");
    await second.run();
    isDown = false;
    await running;
    same([order, await inbox.messages().toArray()], [["told", "begun"], []]);
  },

  "a message is not handled in a lease of which it is not known when it began": async (place) => {
    const leases: string[] = [];
    const client = clientOf(place, {
      fetch: async (url, init) => {
        if (url.endsWith("/extend")) throw new TypeError("fetch failed");
        const answer = await fetch(url, init);
        if (!url.endsWith("/lease")) return answer;
        leases.push((JSON.parse(init.body as string) as { lease_id: string }).lease_id);
        if (leases.length === 1) throw new TypeError("fetch failed"); // the answer is lost
        return answer;
      },
    });
    const { inbox, send } = await inboxOf(client);
    await send(1);
    let handled: string | null = null;
    const consumer = inbox.consumer((message) => {
      handled = message.lease.id;
      consumer.stop();
    }, { ...quiet, concurrency: 1, leaseSeconds: 1 });
    await consumer.run();
    check(leases[0] === leases[1] && handled !== leases[0], "the lease is asked for again, and given up");
    same(await inbox.messages().toArray(), []);
  },

  "a lease of a consumer that stops does not count": async (place) => {
    const { inbox, send } = await inboxOf(clientOf(place));
    await send(1);
    const counts: number[] = [];
    for (let deployment = 1; deployment <= 3; deployment++) {
      const handler = (message: Message) => {
        counts.push(message.leaseCount);
        return new Promise(() => undefined);
      };
      const consumer = inbox.consumer(handler, { ...quiet, concurrency: 1, maxAttempts: 1 });
      const running = consumer.run();
      await eventually(() => counts.length === deployment, "message");
      consumer.stop();
      consumer.stop({ now: true });
      await running;
    }
    same(counts, [1, 1, 1]);
    const [left] = await inbox.messages().toArray();
    same(left?.status, "available");
    same([left?.message_attributes.lease_count, left?.message_attributes.possible_duplicate_data], [0, true]);
  },

  "a note that the service refuses keeps no message from being acknowledged": async (place) => {
    const { inbox, send } = await inboxOf(clientOf(place));
    await send(1);
    let count = 0;
    const handler = (message: Message) => {
      message.note = { text: "x".repeat(1025) };
      count = message.leaseCount;
    };
    const consumer = inbox.consumer(handler, { ...quiet, concurrency: 1 });
    const running = consumer.run();
    await eventually(() => count, "message");
    consumer.stop();
    await running;
    same([count, await inbox.messages().toArray()], [1, []]);
  },

  "a consumer of an inbox that does not exist fails": async (place) => {
    const consumer = clientOf(place).inbox(freshName()).consumer(() => undefined, { ...quiet, concurrency: 3 });
    same((await rejected(consumer.run(), Refused)).status, 404);
  },

  "an inbox says how many messages become available": async (place) => {
    const { inbox, send } = await inboxOf(clientOf(place));
    await send(2);
    let seen = 0;
    for await (const frame of inbox.watch()) {
      seen += frame.count;
      if (seen >= 2) break;
    }
    const watched = (async () => {
      for await (const _ of clientOf(place).inbox(freshName()).watch()) break;
    })();
    same((await rejected(watched, Refused)).status, 404);
  },
};
