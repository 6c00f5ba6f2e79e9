/** Loaded: parts of this package that are fetched when they are needed. */

import { UnreachableError } from "../errors.js";
import { shown } from "../events.js";

/** A part that is loaded when it is needed; where that fails, it is asked for anew the next time. */
export function loaded<T>(part: Promise<T>): Promise<T> {
  return part.catch((error: unknown) => {
    throw new UnreachableError(`a part of @palate/web can't be loaded; if this browser is online, a newer version has taken its place: reload the page (${shown(error)})`);
  });
}
