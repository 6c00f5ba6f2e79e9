/** Every error that the package raises on purpose. Messages are one line and may change; `code` doesn't. */

export class PalateError extends Error {
  /** Stable identifier of the kind of error. */
  get code(): string { return "failed"; }
  /** The kind's name, by its code: a minified class has lost its own. */
  override get name(): string {
    return this.code === "failed" ? "PalateError" : `${this.code.replace(/(^|-)./g, (start) => start.slice(-1).toUpperCase())}Error`;
  }
}

/** Bad usage or data: "`x` must be ..., got ...". */
export class InputError extends PalateError { override get code(): string { return "input"; } }
/** A key doesn't open the device's store. */
export class WrongKeyError extends InputError { override get code(): string { return "wrong-key"; } }
/** A privacy budget is exhausted. */
export class BudgetError extends PalateError { override get code(): string { return "budget"; } }
/** Bytes are not what was signed, sealed or logged, or are missing. */
export class IntegrityError extends PalateError { override get code(): string { return "integrity"; } }
/** The device's store is closed. */
export class ClosedError extends PalateError { override get code(): string { return "closed"; } }
/** The device's store was erased. */
export class ErasedError extends PalateError { override get code(): string { return "erased"; } }
/** Another tab or process has what is asked for. */
export class LockedError extends PalateError { override get code(): string { return "locked"; } }
/** The device refused a plan. The server only ever sees one constant code. */
export class RefusedError extends PalateError { override get code(): string { return "refused"; } }
/** A server can't be reached, or doesn't answer as it should. */
export class UnreachableError extends PalateError { override get code(): string { return "unreachable"; } }
