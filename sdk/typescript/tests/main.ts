/** Runs the tests in Node, Deno and Bun: the service is named by TRIGGERS_URL and TRIGGERS_API_KEY. */

import { run } from "./suite.js";

declare const process: { env: Record<string, string> };

const place = { url: process.env["TRIGGERS_URL"] as string, apiKey: process.env["TRIGGERS_API_KEY"] as string };
console.log(JSON.stringify(await run(place)));
