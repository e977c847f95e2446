/** A consumer that prints the number of each message that it has handled, until SIGTERM. */

import { type Message, Triggers } from "../dist/index.js";

declare const process: { env: Record<string, string> };

const inbox = new Triggers().inbox(process.env["INBOX"] as string);
const handler = async (message: Message) => {
  await new Promise((resolve) => setTimeout(resolve, 20));
  console.log(message.payload.n);
};
const consumer = inbox.consumer(handler, { concurrency: 4, leaseSeconds: 30 });
await consumer.run();
console.log("stopped");
