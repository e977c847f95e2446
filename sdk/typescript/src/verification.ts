/** Verifies webhooks: Standard Webhooks signatures, `v1` (HMAC-SHA256) and `v1a` (ed25519), over WebCrypto. */

import { TriggersError, VerificationFailed } from "./errors.js";

/** Headers as the runtime gives them: of a `Request`, or of Node's `IncomingMessage`. */
export type WebhookHeaders = Headers | Record<string, string | readonly string[] | undefined>;

/** A webhook whose signature is right. */
export interface Webhook<T = any> {
  /** The id of the event: the same in every attempt and every replay. */
  id: string;
  /** The type of the event. Null in the format `raw`, where `data` is the body. */
  type: string | null;
  data: T;
  /** When this attempt was signed. */
  sentAt: Date;
  subscription: string;
  generation: string;
  /**
   * The same for all attempts of one delivery, and another one for each replay and subscription. The signature
   * covers only the id. Use the rest for nothing but deduplication.
   */
  key: string;
  body: Uint8Array<ArrayBuffer>;
}

/** How strictly to verify. */
export interface VerifyOptions {
  /** How far the timestamp may be from the clock of this machine. Default: 300. */
  toleranceSeconds?: number;
}

type Bytes = Uint8Array<ArrayBuffer>;

interface Key {
  scheme: "v1" | "v1a";
  bytes: Bytes;
}

const MOST_SIGNATURES = 20;
const utf8 = new TextEncoder();

/**
 * Verify a webhook, and return it. `body` is the body as it arrived, before it is parsed. `secrets` are the signing
 * secrets (`whsec_…`) or public keys (`whpk_…`) of the subscription. During a rotation, give the old one and the new.
 *
 * Throws VerificationFailed if no secret verifies it, or if it is too old.
 */
export async function verify<T = any>(
  headers: WebhookHeaders,
  body: string | Uint8Array | ArrayBuffer,
  secrets: string | readonly string[],
  options: VerifyOptions = {},
): Promise<Webhook<T>> {
  const keys = (typeof secrets === "string" ? [secrets] : secrets).map(keyOf);
  if (!keys.length) throw new TriggersError("verify needs at least one secret.");
  const id = required(headers, "webhook-id");
  const timestamp = checkedTimestamp(required(headers, "webhook-timestamp"), options.toleranceSeconds ?? 300);
  const content = bytesOf(body);
  const signed = joined(utf8.encode(`${id}.${timestamp}.`), content);
  if (!(await isSigned(signed, required(headers, "webhook-signature"), keys))) {
    throw new VerificationFailed("No signature matches one of the secrets.");
  }
  const { type, data } = typeAndData(id, parsed(content), header(headers, "content-type") ?? "");
  const subscription = header(headers, "triggers-subscription") ?? "";
  const generation = header(headers, "triggers-generation") ?? "";
  const key = `${id}.${subscription}.${generation}`;
  const sentAt = new Date(timestamp * 1000);
  return { id, type, data: data as T, sentAt, subscription, generation, key, body: content };
}

/** The formats `standard` and `cloudevents` name the type. Otherwise the body is the payload. */
function typeAndData(id: string, found: unknown, contentType: string): { type: string | null; data: unknown } {
  const raw = { type: null, data: found };
  if (typeof found !== "object" || found === null) return raw;
  const event = found as { id?: unknown; type?: unknown; data?: unknown };
  if (event.id !== id || typeof event.type !== "string") return raw;
  const isStandard = Object.keys(event).sort().join() === "data,id,timestamp,type";
  if (!isStandard && !contentType.startsWith("application/cloudevents+json")) return raw;
  return { type: event.type, data: event.data };
}

async function isSigned(signed: Bytes, signatures: string, keys: Key[]): Promise<boolean> {
  // A stranger may send many, so only some are looked at.
  for (const each of signatures.split(" ", MOST_SIGNATURES)) {
    const [scheme, text = ""] = each.split(",", 2);
    const signature = fromBase64(text);
    if (signature === undefined) continue;
    for (const key of keys) {
      if (key.scheme === scheme && (await matches(key, signature, signed))) return true;
    }
  }
  return false;
}

/** `crypto.subtle.verify` compares in constant time. */
async function matches(key: Key, signature: Bytes, signed: Bytes): Promise<boolean> {
  const { subtle } = crypto;
  if (key.scheme === "v1") {
    const hmac = { name: "HMAC", hash: "SHA-256" };
    return subtle.verify("HMAC", await subtle.importKey("raw", key.bytes, hmac, false, ["verify"]), signature, signed);
  }
  let imported: CryptoKey;
  try {
    imported = await subtle.importKey("raw", key.bytes, { name: "Ed25519" }, false, ["verify"]);
  } catch (cause) {
    throw new TriggersError("The WebCrypto of this runtime has no Ed25519, which v1a needs.", { cause });
  }
  return subtle.verify("Ed25519", imported, signature, signed);
}

function keyOf(secret: string): Key {
  const [, prefix, text = ""] = /^(whsec_|whpk_|whsk_)(.*)$/s.exec(secret) ?? [];
  if (prefix === "whsk_") {
    throw new TriggersError("whsk_ is the secret that signs. A receiver needs the public key, whpk_.");
  }
  const bytes = fromBase64(text);
  if (prefix === "whsec_" && bytes?.length) return { scheme: "v1", bytes };
  if (prefix === "whpk_" && bytes?.length === 32) return { scheme: "v1a", bytes };
  throw new TriggersError("A secret must be whsec_ or whpk_ and base64.");
}

function checkedTimestamp(text: string, toleranceSeconds: number): number {
  const timestamp = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!(Math.abs(Date.now() / 1000 - timestamp) <= toleranceSeconds)) {
    throw new VerificationFailed("webhook-timestamp is too far from the clock of this machine.");
  }
  return timestamp;
}

function required(headers: WebhookHeaders, name: string): string {
  const value = header(headers, name);
  if (!value) throw new VerificationFailed(`The header ${name} is missing.`);
  return value;
}

function header(headers: WebhookHeaders, name: string): string | undefined {
  if (headers instanceof Headers) return headers.get(name) ?? undefined;
  const found = Object.entries(headers).find(([each]) => each.toLowerCase() === name)?.[1];
  return typeof found === "string" ? found : found?.join(",");
}

function parsed(content: Bytes): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(content));
  } catch (cause) {
    throw new VerificationFailed("The body is signed, but it is not JSON.", { cause });
  }
}

function bytesOf(body: string | Uint8Array | ArrayBuffer): Bytes {
  return typeof body === "string" ? utf8.encode(body) : new Uint8Array(body as ArrayBuffer);
}

function joined(one: Bytes, other: Bytes): Bytes {
  const all = new Uint8Array(one.length + other.length);
  all.set(one);
  all.set(other, one.length);
  return all;
}

function fromBase64(text: string): Bytes | undefined {
  try {
    return Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
  } catch {
    return undefined;
  }
}
