/** triggers-client: a client of the event service Triggers. */

export { Triggers, type TriggersOptions } from "./client.js";
export { Consumer, type ConsumerOptions, type Handler } from "./consumer.js";
export * from "./errors.js";
export { InboxHandle, type MessageListParams, type ReceiveOptions, type SettleOptions } from "./inbox.js";
export { Lease, type LeaseOptions } from "./lease.js";
export { Message } from "./message.js";
export { type Page, Pages } from "./pages.js";
export type * from "./resources/deliveries.js";
export type * from "./resources/events.js";
export type * from "./resources/inboxes.js";
export type * from "./resources/keys.js";
export type * from "./resources/listing.js";
export type * from "./resources/replays.js";
export type * from "./resources/service.js";
export type * from "./resources/statistics.js";
export type * from "./resources/subscriptions.js";
export { type EventFields, type EventToSend, SendReport, type SentItem } from "./sending.js";
export type * from "./shapes/index.js";
export { type Change, type MessagesAvailable, Stream, type StreamOptions } from "./stream.js";
export { type VerifyOptions, type Webhook, type WebhookHeaders, verify } from "./verification.js";
export { version } from "./version.js";
