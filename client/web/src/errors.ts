/** Every error that the package raises on purpose. Messages are one line and may change; `code` doesn't. */

export class PalateError extends Error {
  /** Stable identifier of the kind of error. */
  readonly code: string = "failed";
  /** The kind's name, by its code: a minified class has lost its own. */
  override get name(): string {
    return this.code === "failed" ? "PalateError" : `${this.code.replace(/(^|-)./g, (start) => start.slice(-1).toUpperCase())}Error`;
  }
}

/** Bad usage or data: "`x` must be ..., got ...". */
export class InputError extends PalateError { override readonly code: string = "input"; }
/** A key doesn't open the device's store. */
export class WrongKeyError extends InputError { override readonly code = "wrong-key"; }
/** A privacy budget is exhausted. */
export class BudgetError extends PalateError { override readonly code = "budget"; }
/** Bytes are not what was signed, sealed or logged, or are missing. */
export class IntegrityError extends PalateError { override readonly code = "integrity"; }
/** The device's store is closed. */
export class ClosedError extends PalateError { override readonly code = "closed"; }
/** The device's store was erased. */
export class ErasedError extends PalateError { override readonly code = "erased"; }
/** Another tab or process has what is asked for. */
export class LockedError extends PalateError { override readonly code = "locked"; }
/** The device refused a plan. The server only ever sees one constant code. */
export class RefusedError extends PalateError { override readonly code = "refused"; }
/** A server can't be reached, or doesn't answer as it should. */
export class UnreachableError extends PalateError { override readonly code = "unreachable"; }

/** What a failed request says, which in a browser is hardly anything: it names what may be the cause. */
export function unanswered(address: string, error: unknown): UnreachableError {
  const { location } = globalThis as { location?: { readonly origin: string } };
  const silent = location && error instanceof TypeError;
  const causes = silent ? `; a browser doesn't say why: nobody is there, its certificate isn't trusted here, or \`gateway.origins\` lacks ${location.origin}` : "";
  return new UnreachableError(`${address} must answer, got ${String(error).slice(0, 200)}${causes}`);
}
