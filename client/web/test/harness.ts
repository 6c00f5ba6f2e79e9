/** What a test needs, in Node and in a browser alike: no framework, because both run the same bundle. */

import { readJson, type Json } from "../src/records/canonical.js";

export interface Environment {
  /** Text of a file of the repository below `docs/`, or of `tests/`. */
  readRepository(path: string): Promise<string>;
  /** Where this runs. */
  readonly place: "node" | "browser";
}

interface Test {
  readonly name: string;
  readonly run: () => void | Promise<void>;
}

const tests: Test[] = [];

/** Registers a test. */
export function test(name: string, run: () => void | Promise<void>): void {
  tests.push({ name, run });
}

export function environment(): Environment {
  return (globalThis as unknown as { palateTests: Environment }).palateTests;
}

/** A file of docs/vectors, read so that no number loses a digit. */
export async function vectors(name: string): Promise<any> {
  return readJson(await environment().readRepository(`docs/vectors/${name}`)) as Json;
}

function shown(value: unknown): string {
  const text = JSON.stringify(value, (_, each) => {
    if (typeof each === "bigint") return `${each}n`;
    if (ArrayBuffer.isView(each)) return Array.from(each as unknown as ArrayLike<number | bigint>, String);
    if (each instanceof Map) return [...each];
    const plain = each && typeof each === "object" && !Array.isArray(each);
    return plain ? Object.fromEntries(Object.entries(each).sort(([a], [b]) => (a < b ? -1 : 1))) : each;
  });
  return text === undefined ? String(value) : text;
}

/** Deep equality by what the values show; 1 and 1n differ, and so do 0 and -0. */
export function equal(actual: unknown, expected: unknown, why = ""): void {
  const [a, b] = [shown(actual), shown(expected)];
  const differ = typeof actual !== typeof expected || (typeof actual === "number" && !Object.is(actual, expected));
  if (a !== b || differ) throw new Error(`${why && `${why}: `}got ${a.slice(0, 300)}, expected ${b.slice(0, 300)}`);
}

export function ok(condition: unknown, why = "must be true"): asserts condition {
  if (!condition) throw new Error(why);
}

/** `act` must fail, with a message that fits. */
export async function refused(act: () => unknown, message: RegExp = /./): Promise<void> {
  let result;
  try {
    result = await act();
  } catch (error) {
    ok(error instanceof Error && message.test(error.message), `failed for another reason: ${String(error)}`);
    return;
  }
  throw new Error(`must be refused, gave ${shown(result).slice(0, 200)}`);
}

/** Runs what was registered; `only` is a part of the names that are meant. */
export async function runTests(only: string, report: (line: string) => void): Promise<{ passed: number; failed: number }> {
  let [passed, failed] = [0, 0];
  for (const { name, run } of tests.filter((each) => each.name.includes(only))) {
    const began = performance.now();
    try {
      await run();
      passed += 1;
      const took = performance.now() - began;
      if (took > 1000 || only) report(`ok ${name} (${Math.round(took)} ms)`);
    } catch (error) {
      failed += 1;
      report(`FAILED ${name}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    }
  }
  return { passed, failed };
}
