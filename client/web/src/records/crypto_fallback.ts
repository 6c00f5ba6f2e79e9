/** Ed25519 and X25519 for browsers whose WebCrypto has neither: noble-curves, which is audited. */

import { ed25519, x25519 } from "@noble/curves/ed25519.js";
import type { Curves } from "./crypto.js";

export const FALLBACK: Curves = {
  ed25519Public: async (secret) => ed25519.getPublicKey(secret),
  ed25519Sign: async (secret, message) => ed25519.sign(message, secret),
  ed25519Verify: async (publicKey, message, signature) => {
    try {
      return ed25519.verify(signature, message, publicKey, { zip215: false });
    } catch {
      return false;
    }
  },
  x25519Public: async (secret) => x25519.getPublicKey(secret),
  x25519: async (secret, other) => x25519.getSharedSecret(secret, other),
};
