/** Runs the tests in workerd. The request names the service. */

import type { Place } from "./checks.js";
import { run } from "./suite.js";

export default {
  async fetch(request: Request): Promise<Response> {
    if (request.method !== "POST") return new Response("ready");
    return Response.json(await run((await request.json()) as Place));
  },
};
