/**
 * A consumer whose handler writes down when it begins, ends and is told that its lease is lost, until SIGTERM.
 *
 * Its lines have the form of tests/acceptance/sdk_consumer.py. `hrtime` is the monotonic clock of the machine.
 */

import { type Message, Triggers } from "../dist/index.js";

declare const process: { argv: string[]; pid: number; hrtime: { bigint(): bigint } };

const sleep = (seconds: number) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

function note(what: string, message: Message): void {
  console.log(`${what} ${message.id} ${message.leaseCount} ${process.pid} ${process.hrtime.bigint()}`);
}

/** A handler that goes on after it was told, as one does that does not look. Only the first one may take long. */
async function work(message: Message<{ seconds: number }>): Promise<void> {
  note("begin", message);
  message.leaseLost.addEventListener("abort", () => note("lost", message), { once: true });
  await sleep(message.leaseCount === 1 ? message.payload.seconds : 0.05);
  note("end", message);
}

await new Triggers().inbox("work").consumer(work, { concurrency: 8, leaseSeconds: Number(process.argv[2]) }).run();
