/** Verifies webhooks: Standard Webhooks signatures, `v1` (HMAC-SHA256) and `v1a` (ed25519), over WebCrypto. */

import { TriggersError, VerificationFailed } from "./errors.js";

/** Headers as the runtime gives them: of a `Request`, or of Node's `IncomingMessage`. */
export type WebhookHeaders = Headers | Record<string, string | readonly string[] | undefined>;

/** A verified webhook. */
export interface Webhook<T = unknown> {
  /** The id of the event: the same in every attempt and every replay. */
  id: string;
  /** When this attempt was signed. */
  timestamp: Date;
  /** `<webhook-id>.<subscription>.<generation>`: the same in every attempt of one delivery. Deduplicate by it. */
  deliveryKey: string;
  /** The body as JSON. */
  body: T;
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

const utf8 = new TextEncoder();

/**
 * Verify a webhook, and return it. `body` is the body as it arrived, before it is parsed. `secrets` are the signing
 * secrets (`whsec_…`) or public keys (`whpk_…`) of the subscription. During a rotation, give the old one and the new.
 *
 * Throws VerificationFailed if no secret verifies it, or if it is too old.
 */
export async function verify<T = unknown>(
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
  const subscription = header(headers, "triggers-subscription") ?? "";
  const generation = header(headers, "triggers-generation") ?? "";
  const deliveryKey = `${id}.${subscription}.${generation}`;
  return { id, timestamp: new Date(timestamp * 1000), deliveryKey, body: parsed<T>(content) };
}

async function isSigned(signed: Bytes, signatures: string, keys: Key[]): Promise<boolean> {
  for (const each of signatures.split(" ")) {
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
  const [, prefix, text = ""] = /^(whsec_|whpk_|whsk_)(.*)$/.exec(secret) ?? [];
  const bytes = fromBase64(text);
  if (prefix === "whsec_" && bytes?.length) return { scheme: "v1", bytes };
  if (prefix === "whpk_" && bytes?.length === 32) return { scheme: "v1a", bytes };
  // The secret of v1a is the seed and the public key. Only the latter is needed here.
  if (prefix === "whsk_" && bytes?.length === 64) return { scheme: "v1a", bytes: bytes.slice(32) };
  throw new TriggersError("A secret is not valid. It begins with whsec_, whpk_ or whsk_, followed by base64.");
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

function parsed<T>(content: Bytes): T {
  try {
    return JSON.parse(new TextDecoder().decode(content)) as T;
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
