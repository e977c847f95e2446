/** The types of requests and answers. Their fields have the names of the HTTP API. */

export type * from "./deliveries.js";
export type * from "./events.js";
export type * from "./inboxes.js";
export type * from "./keys.js";
export type * from "./messages.js";
export type * from "./problems.js";
export type * from "./replays.js";
export type * from "./statistics.js";
export type * from "./subscriptions.js";
