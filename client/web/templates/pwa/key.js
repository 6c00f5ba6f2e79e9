// The store's key. A browser keeps one that no script can read out, so that a page needs none. A WebView's app gives the phone's key
// store here: then the store can't be opened without this phone, whatever a backup copies.
import { newKey } from "./palate/index.js";

/** The plugin of the phone's key store, with `get(name)` and `set(name, text)`; null: this is a browser. */
const vault = () => globalThis.Capacitor?.Plugins?.SecureStorage ?? null;
const NAME = "palate-key";

const toText = (key) => btoa(String.fromCharCode(...key));
const toKey = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** The key, made at the first time; undefined: the browser keeps its own. */
export async function storeKey() {
  const kept = vault();
  if (!kept) return undefined;
  const { value } = await kept.get({ key: NAME }).catch(() => ({ value: null }));
  if (value) return toKey(value);
  const key = newKey();
  await kept.set({ key: NAME, value: toText(key) });
  return key;
}
