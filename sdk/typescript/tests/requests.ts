/** Sending, listing, errors and retries. */

import { ConnectionFailed, OutcomeUnknown, RateLimited, Refused, Triggers, TriggersError } from "../dist/index.js";
import { type Test, check, clientOf, freshName, rejected, same } from "./checks.js";

const json = { "content-type": "application/problem+json" };

export const requests: Record<string, Test> = {
  "an event is sent, found again, and its payload has the bytes that were sent": async (place) => {
    const client = clientOf(place);
    const type = freshName();
    const sent = await client.events.send(type, { text: "ü", n: 1.5 }, { subject: "s" });
    same(sent.duplicate, false);
    check(sent.dedup_id, "a dedup_id is made");
    same(new TextDecoder().decode(await client.events.payload(sent.id)), '{"text":"ü","n":1.5}');
    same((await client.events.get(sent.id)).subject, "s");
    check((await client.events.explain(sent.id)).explanations?.length, "explanations");
    const again = await client.events.send(type, { text: "ü", n: 1.5 }, { subject: "s", dedup_id: sent.dedup_id });
    same([again.id, again.duplicate], [sent.id, true]);
  },

  "each event of a batch has its outcome": async (place) => {
    const type = freshName();
    const events = [
      { type, payload: 1 },
      { type: "", payload: 2 },
      { type, payload: null },
    ];
    const report = await clientOf(place).events.sendMany(events);
    same(report.items.map((item) => [item.index, typeof item.id]), [[0, "string"], [1, "undefined"], [2, "string"]]);
    check(report.failed[0]?.error instanceof Refused, "Refused");
    await rejected((async () => report.throwForFailures())(), Refused);
    const alone = await clientOf(place).events.sendMany(events.slice(1, 2));
    same((alone.failed[0]?.error as Refused).status, 422);
    same((await clientOf(place).events.sendMany([])).items, []);
  },

  "more events than one request may have are sent in several": async (place) => {
    const client = clientOf(place);
    const type = freshName();
    const report = await client.events.sendMany(Array.from({ length: 1201 }, (_, n) => ({ type, payload: n })));
    same([report.accepted.length, report.items.at(-1)?.index], [1201, 1200]);
    same(new Set(report.items.map((item) => item.id)).size, 1201);
  },

  "a list goes through all pages, and stops when the loop is left": async (place) => {
    const client = clientOf(place);
    const type = freshName();
    await client.events.sendMany(Array.from({ length: 7 }, (_, n) => ({ type, payload: n })));
    const list = client.events.list({ type, limit: 3, order: "asc" });
    const ids: string[] = [];
    for await (const event of list) ids.push(event.id);
    same(ids.length, 7);
    const sizes: number[] = [];
    for await (const page of list.pages()) sizes.push(page.data.length);
    same(sizes.reduce((sum, each) => sum + each, 0), 7);
    check(sizes.length >= 3, "three pages");
    same((await list.toArray(2)).map((each) => each.id), ids.slice(0, 2));
    same((await list.first()).data.length, 3);
  },

  "a refusal has its status, its code and the id of the request": async (place) => {
    const client = clientOf(place);
    const missing = await rejected(client.inboxes.get(freshName()), Refused);
    same([missing.status, missing.code], [404, "not-found"]);
    check(missing.requestId && missing.requestId === missing.problem?.request_id, "the id of the request");
    const wrong = await rejected(client.events.send("", 1), Refused);
    check(wrong.message.includes("/type"), wrong.message);
    const stranger = clientOf(place, { apiKey: "zap_test_nobody" });
    same((await rejected(stranger.service.organisation(), Refused)).status, 401);
  },

  "what cannot be right is refused before anything is sent": async (place) => {
    const client = clientOf(place, { fetch: () => Promise.reject(new Error("asked")) });
    for (const id of ["", ".", ".."]) await rejected((async () => client.events.get(id))(), TriggersError);
    const circular: unknown[] = [];
    circular.push(circular);
    for (const payload of [undefined, 1n, circular]) await rejected(client.events.send("a", payload), TriggersError);
    for (const apiKey of ["", "two words", "line\nbreak"]) {
      await rejected((async () => new Triggers({ ...place, apiKey }))(), TriggersError);
    }
    for (const url of ["nowhere", "ftp://x", "http://user:secret@x"]) {
      const error = await rejected((async () => new Triggers({ ...place, url }))(), TriggersError);
      check(!error.message.includes("secret"), error.message);
    }
  },

  "an id with any characters stays one segment of the path": async (place) => {
    let path = "";
    const client = clientOf(place, {
      fetch: (url, init) => {
        path = new URL(url).pathname;
        return fetch(url, init);
      },
    });
    await rejected(client.inboxes.get("../keys?x#y"), Refused);
    same(path, "/v1/inboxes/..%2Fkeys%3Fx%23y");
  },

  "nobody listens: the connection failed": async (place) => {
    const nowhere = clientOf(place, { url: "http://127.0.0.1:49151", retrySeconds: 0 });
    await rejected(nowhere.service.organisation(), ConnectionFailed);
    // workerd does not tell whether a connection was made, so there the outcome of a POST is unknown.
    const isEdge = globalThis.navigator?.userAgent === "Cloudflare-Workers";
    const error = await rejected(nowhere.events.send("a", 1), isEdge ? OutcomeUnknown : ConnectionFailed);
    check(error.requestId, "the id of the request");
  },

  "a 503 and a 429 are repeated with the same dedup_id, and a 409 is not": async (place) => {
    const type = freshName();
    const bodies: string[] = [];
    const client = clientOf(place, {
      fetch: (url, init) => {
        bodies.push(String(init.body));
        if (bodies.length > 2) return fetch(url, init);
        const headers = { ...json, "retry-after": "0" };
        return Promise.resolve(new Response('{"code": "x", "detail": "y"}', { status: bodies.length === 1 ? 503 : 429, headers }));
      },
    });
    const sent = await client.events.send(type, 1);
    same([bodies.length, new Set(bodies).size, sent.duplicate], [3, 1, false]);
    const dedup_id = sent.dedup_id;
    const conflict = await rejected(client.events.send(type, 2, { dedup_id }), Refused);
    same([conflict.code, conflict.problem?.original_id, bodies.length], ["dedup-conflict", sent.id, 4]);
  },

  "a limit that lasts longer than the retries is told": async (place) => {
    const headers = { ...json, "retry-after": "120" };
    const answer = () => new Response('{"code": "rate-limited", "detail": "y"}', { status: 429, headers });
    const client = clientOf(place, { fetch: () => Promise.resolve(answer()) });
    same((await rejected(client.events.send("a", 1), RateLimited)).retryAfterSeconds, 120);
  },

  "a lost answer is found again for an event, and is unknown for a new subscription": async (place) => {
    let lost = 0;
    const client = clientOf(place, {
      fetch: async (url, init) => {
        const answer = await fetch(url, init);
        if (init.method !== "POST" || lost++) return answer;
        await answer.arrayBuffer();
        throw new TypeError("the connection broke");
      },
    });
    const sent = await client.events.send(freshName(), 1);
    same(sent.duplicate, true); // the first try had stored it
    lost = 0;
    const subscription = { target_url: "https://example.com/", key: freshName() };
    await rejected(client.subscriptions.create(subscription), OutcomeUnknown);
    same((await client.subscriptions.list({ key: subscription.key }).toArray()).length, 1);
  },

  "an answer that takes too long is given up": async (place) => {
    const client = clientOf(place, {
      timeoutSeconds: 0.0333,
      retrySeconds: 0,
      fetch: (_, init) => new Promise((_, reject) => init.signal?.addEventListener("abort", () => reject(init.signal?.reason))),
    });
    await rejected(client.events.send("a", 1), OutcomeUnknown);
  },

  "another program is recognised": async (place) => {
    for (const body of ["{}", "null", "[]", "<html>"]) {
      const answer = () => new Response(body, { headers: { "content-type": "application/json" } });
      const client = clientOf(place, { fetch: () => Promise.resolve(answer()), retrySeconds: 0 });
      const report = await client.events.sendMany([{ type: "a", payload: 1 }]);
      check(report.failed[0]?.error instanceof OutcomeUnknown, body);
      await rejected(client.inbox("a").lease(), OutcomeUnknown);
    }
  },

  "a try that was not answered makes the outcome unknown, unless it only reads": async (place) => {
    let tries = 0;
    const headers = { ...json, "retry-after": "0" };
    const client = clientOf(place, {
      retrySeconds: 0.2,
      fetch: () => {
        if (tries++ % 2) return Promise.reject(Object.assign(new TypeError("refused"), { code: "ECONNREFUSED" }));
        return Promise.resolve(new Response("{}", { status: 503, headers }));
      },
    });
    const lastOf = async (promise: Promise<unknown>) => {
      tries = 0;
      return (await rejected(promise, TriggersError)).name;
    };
    same(await lastOf(client.service.organisation()), "ConnectionFailed");
    same(await lastOf(client.events.send("a", 1)), "OutcomeUnknown");
    const unavailable = clientOf(place, {
      retrySeconds: 0,
      fetch: () => Promise.resolve(new Response("{}", { status: 503, headers })),
    });
    same(await lastOf(unavailable.events.send("a", 1)), "Unavailable");
  },

  "a redirect is refused, because the key is for this service alone": async (place) => {
    const answer = () => new Response(null, { status: 302, headers: { location: "http://127.0.0.1:1/" } });
    const client = clientOf(place, { fetch: () => Promise.resolve(answer()) });
    await rejected(client.service.organisation(), TriggersError);
  },
};
