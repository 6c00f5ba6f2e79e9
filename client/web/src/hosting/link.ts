/** Link: how a device in the page asks its host, wherever that is; and errors as values that can be cloned. */

import * as errors from "../errors.js";
import type { Forbids } from "../policy.js";
import type { Host, Method } from "./host.js";

/** Asks for a method of the host. A call that is aborted may still answer. */
export interface Link {
  /** `forbids` is what a sync asks before each request: the first condition of the app that doesn't hold. */
  call(method: Method, args: readonly unknown[], signal?: AbortSignal, forbids?: Forbids): Promise<unknown>;
  /** Gives the host up; other tabs go on. Later calls fail, by `why`. */
  close(why?: Error): Promise<void>;
}

/** An error as it travels. */
export interface Told {
  readonly code: string;
  readonly message: string;
}

const CLASSES = [
  errors.InputError, errors.WrongKeyError, errors.BudgetError, errors.IntegrityError, errors.ClosedError, errors.ErasedError,
  errors.LockedError, errors.RefusedError, errors.UnreachableError,
];
const BY_CODE = new Map(CLASSES.map((kind) => [new kind("").code, kind]));

export function toldOf(error: unknown): Told {
  if (error instanceof errors.PalateError) return { code: error.code, message: error.message };
  return { code: "failed", message: String(error) };
}

export function errorOf({ code, message }: Told): Error {
  return new (BY_CODE.get(code) ?? errors.PalateError)(message);
}

/** Runs a method of a host. */
export async function run(host: Host, method: Method, args: readonly unknown[], signal: AbortSignal, forbids?: Forbids): Promise<unknown> {
  if (!host.methods.includes(method)) throw new errors.InputError("a device must be asked for what it does, got something else");
  const given = method === "sync" ? [args[0], signal, forbids] : args;
  return (host[method] as (...given: unknown[]) => Promise<unknown>).apply(host, [...given]);
}

/** A link to a host in the same thread. */
export function direct(host: Host): Link {
  let over: Error | null = null;
  return {
    call: async (method, args, signal, forbids) => {
      if (over) throw over;
      return run(host, method, args, signal ?? new AbortController().signal, forbids);
    },
    close: async (why = new errors.ClosedError("the device is closed")) => {
      over ??= why;
      await host.close();
    },
  };
}
