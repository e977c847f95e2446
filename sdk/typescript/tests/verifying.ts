/** Signatures of webhooks. */

import { TriggersError, VerificationFailed, verify } from "../dist/index.js";
import { type Test, check, rejected, same } from "./checks.js";

const BODY = '{"id":"e","type":"t","timestamp":"2026-01-01T00:00:00.000Z","data":{"text":"ü"}}';
const utf8 = new TextEncoder();

export const verifying: Record<string, Test> = {
  "a webhook is verified with any of the secrets": async () => {
    const { secret, headers } = await symmetric();
    const other = (await symmetric()).secret;
    const found = await verify<{ text: string }>(headers, BODY, [other, secret]);
    same([found.id, found.type, found.data.text, found.key], ["e", "t", "ü", "e.s.0"]);
    same((await verify(new Headers(headers), utf8.encode(BODY), secret)).id, "e");
    const rotated = { ...headers, "webhook-signature": `v1,AAAA ${headers["webhook-signature"]}` };
    same((await verify(rotated, BODY, secret)).id, "e");
  },

  "a webhook with anything changed is refused": async () => {
    const { secret, headers } = await symmetric();
    const other = (await symmetric()).secret;
    await rejected(verify(headers, `${BODY} `, secret), VerificationFailed);
    await rejected(verify(headers, BODY, other), VerificationFailed);
    await rejected(verify({ ...headers, "webhook-id": "f" }, BODY, secret), VerificationFailed);
    await rejected(verify({ ...headers, "webhook-signature": "v1,%%% v1" }, BODY, secret), VerificationFailed);
    await rejected(verify({}, BODY, secret), VerificationFailed);
  },

  "a webhook that is too old is refused": async () => {
    const { secret, headers } = await symmetric(Math.floor(Date.now() / 1000) - 400);
    await rejected(verify(headers, BODY, secret), VerificationFailed);
    same((await verify(headers, BODY, secret, { toleranceSeconds: 500 })).id, "e");
    await rejected(verify({ ...headers, "webhook-timestamp": "soon" }, BODY, secret), VerificationFailed);
  },

  "v1a is verified with the public key": async () => {
    const { secret, headers } = await asymmetric();
    same((await verify(headers, BODY, secret)).id, "e");
    await rejected(verify(headers, BODY, (await asymmetric()).secret), VerificationFailed);
    // A public key is no secret, so it verifies no v1.
    const forged = await symmetric(undefined, secret.slice("whpk_".length));
    await rejected(verify(forged.headers, BODY, secret), VerificationFailed);
  },

  "a secret that is none is refused without showing it": async () => {
    for (const secret of ["", "hidden", "whsec_%hidden", "whpk_AAAA", "whsk_hidden"]) {
      const error = await rejected(verify({}, BODY, secret), TriggersError);
      check(!error.message.includes("hidden"), error.message);
    }
    await rejected(verify({}, BODY, []), TriggersError);
  },
};

async function symmetric(timestamp = Math.floor(Date.now() / 1000), text?: string) {
  const bytes = text ? from64(text) : crypto.getRandomValues(new Uint8Array(32));
  const key = await crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const signature = await crypto.subtle.sign("HMAC", key, utf8.encode(`e.${timestamp}.${BODY}`));
  return { secret: `whsec_${to64(bytes)}`, headers: headersOf(timestamp, `v1,${to64(new Uint8Array(signature))}`) };
}

async function asymmetric(timestamp = Math.floor(Date.now() / 1000)) {
  const pair = (await crypto.subtle.generateKey({ name: "Ed25519" }, true, ["sign", "verify"])) as CryptoKeyPair;
  const signature = await crypto.subtle.sign("Ed25519", pair.privateKey, utf8.encode(`e.${timestamp}.${BODY}`));
  const bytes = new Uint8Array((await crypto.subtle.exportKey("raw", pair.publicKey)) as ArrayBuffer);
  return { secret: `whpk_${to64(bytes)}`, headers: headersOf(timestamp, `v1a,${to64(new Uint8Array(signature))}`) };
}

function headersOf(timestamp: number, signature: string) {
  return {
    "webhook-id": "e",
    "webhook-timestamp": String(timestamp),
    "webhook-signature": signature,
    "triggers-subscription": "s",
    "triggers-generation": "0",
  };
}

function to64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

function from64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
}
