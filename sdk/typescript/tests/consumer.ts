/** A consumer that prints the number of each message that it has handled, until SIGTERM. */

import { Triggers } from "../dist/index.js";

declare const process: { env: Record<string, string> };

const inbox = new Triggers().inbox(process.env["INBOX"] as string);
const consumer = inbox.consumer((message) => console.log(message.payload.n), { concurrency: 4, leaseSeconds: 30 });
await consumer.run();
console.log("stopped");
