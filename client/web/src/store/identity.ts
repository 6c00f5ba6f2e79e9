/** Identity: the name of a store, by its app and by whose account it is. It doesn't say who the user is. */

import { InputError } from "../errors.js";
import { hex, utf8 } from "../records/bytes.js";
import { sha256 } from "../records/sha256.js";

/** What the store of this app's user is named by; without a user, that of nobody's account. */
export function identityOf(app: string, user?: string): string {
  return user === undefined ? app : `${app}\n${knownAs(user)}`;
}

/** In Node: the folder of a user's store. */
export function folderOf(folder: string, user?: string): string {
  return user === undefined ? folder : `${folder}/users/${knownAs(user)}`;
}

function knownAs(user: string): string {
  if (typeof user !== "string" || !/^[^\u0000-\u001f\u007f]{1,100}$/u.test(user)) throw new InputError("`user` must be a name of 1 to 100 printable characters");
  return hex(sha256(utf8(`palate user\n${user}`))).slice(0, 32);
}
