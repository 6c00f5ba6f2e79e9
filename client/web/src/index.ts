/** The device of Palate in a browser. */

export * from "./errors.js";
