/** Curves: Ed25519 and X25519, whichever library has them. */

/** Both curves: WebCrypto's own, or what stands in for them. */
export interface Curves {
  ed25519(secret: Uint8Array): Promise<Signer>;
  ed25519Verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): Promise<boolean>;
  /** The key of a secret, or a fresh one. */
  x25519(secret?: Uint8Array): Promise<Agreeing>;
}

/** An Ed25519 key. */
export interface Signer {
  readonly publicKey: Uint8Array;
  sign(message: Uint8Array): Promise<Uint8Array>;
}

/** An X25519 key. */
export interface Agreeing {
  readonly secret: Uint8Array;
  readonly publicKey: Uint8Array;
  /** The shared secret; all zeros are an error. */
  agree(other: Uint8Array): Promise<Uint8Array>;
}
