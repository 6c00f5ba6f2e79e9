/**
 * Flower messages: encodes Flower's messages as bytes and decodes them.
 *
 *     ConfigRecord (values)  <-  RecordDict (its name and SHA-256)  <-  Message (metadata)
 *
 * A message is three objects, each named by the SHA-256 of its bytes. Palate's have one record under one name.
 */

import { concat, textOf, utf8 } from "../records/bytes.js";
import { digest } from "../records/canonical.js";
import { allBytes, asDouble, asSigned, blob, double, lastBytes, lastText, lastUint, readProto, text, uint, zigzag, type ProtoFields } from "../records/protobuf.js";

const RECORD = "palate";
const MOST_VALUES = 16;
const HEAD = 64;

export type RecordValue = boolean | bigint | number | string | Uint8Array;
export type FlowerRecord = ReadonlyMap<string, RecordValue>;
/** Name and value of an answer. */
export type Answer = readonly [string, Uint8Array | number];

/** A message that waits for this node: fields of Flower's Metadata, the bytes of its ObjectTree, and its record if that came with it. */
export interface Notice {
  readonly metadata: ProtoFields;
  readonly tree: Uint8Array;
  readonly record: Uint8Array;
}

/** A message from the server to this node. */
export interface ServerMessage {
  readonly kind: string;
  /** Its one record; null if it has none, or isn't one of Palate's messages. */
  readonly record: FlowerRecord | null;
  readonly run: bigint;
  readonly message: string;
  readonly source: bigint;
  readonly group: string;
  readonly created: number;
  readonly ttl: number;
  /** Flower's numbers of the sender's and the receiver's task; null if it has none. */
  readonly tasks: readonly (bigint | null)[];
}

export function messageOf(metadata: ProtoFields, record: FlowerRecord | null): ServerMessage {
  return {
    kind: lastText(metadata, 8),
    record,
    run: lastUint(metadata, 1),
    message: lastText(metadata, 2),
    source: lastUint(metadata, 3),
    group: lastText(metadata, 6),
    created: asDouble(metadata.get(9)?.at(-1) ?? 0n),
    ttl: asDouble(metadata.get(7)?.at(-1) ?? 0n),
    tasks: [10, 11].map((number) => (metadata.has(number) ? lastUint(metadata, number) : null)),
  };
}

/** An answer in the form in which it is sent. */
export interface Reply {
  readonly run: bigint;
  /** SHA-256 -> the bytes of each object. */
  readonly objects: ReadonlyMap<string, Uint8Array>;
  /** Which object contains which. */
  readonly tree: Uint8Array;
  /** The message without its content. */
  readonly slim: Uint8Array;
}

/** Encodes an answer. Its times are the server's plus what has passed since, to hide the device's clock. */
export function replyOf(asked: ServerMessage, node: bigint, answer: Answer | null, elapsed: number): Reply {
  const record = answer ? configRecord(answer) : new Uint8Array();
  const content = record.length ? recordDict(digest(record)) : objectOf("RecordDict", [], utf8("{}"));
  const metadata = concat(
    uint(3, node),
    uint(4, asked.source),
    text(5, asked.message),
    text(6, asked.group),
    double(7, asked.ttl - elapsed),
    text(8, asked.kind),
    double(9, asked.created + elapsed),
    ...asked.tasks.slice().reverse().map((task, place) => (task === null ? new Uint8Array() : uint(10 + place, task, true))),
  );
  const message = objectOf("Message", [digest(content)], blob(1, concat(uint(1, asked.run), metadata)));
  const named = blob(1, concat(uint(1, asked.run), text(2, digest(message)), metadata));
  const objects = new Map([record, content, message].filter((part) => part.length).map((part) => [digest(part), part]));
  const leaf = record.length ? blob(2, text(1, digest(record))) : new Uint8Array();
  const tree = concat(text(1, digest(message)), blob(2, concat(text(1, digest(content)), leaf)));
  return { run: asked.run, objects, tree, slim: concat(named, blob(2, new Uint8Array(), true)) };
}

/** An object: a header line and its body. */
function objectOf(kind: string, children: readonly string[], body: Uint8Array): Uint8Array {
  return concat(utf8(`${kind} ${children.join(",")} ${body.length}\0`), body);
}

/** The object that names the one record. */
export function recordDict(record: string): Uint8Array {
  return objectOf("RecordDict", [record], utf8(`{"${RECORD}": "${record}"}`));
}

function configRecord([name, value]: Answer): Uint8Array {
  const field = typeof value === "number" ? uint(2, zigzag(value), true) : blob(6, value, true);
  return objectOf("ConfigRecord", [], blob(1, concat(text(1, name), blob(2, field))));
}

/** The values of a record; null for a record of another type. Lists of values don't occur and are left out. */
export function valuesOf(data: Uint8Array): FlowerRecord | null {
  const end = data.subarray(0, HEAD).indexOf(0);
  if (end < 0) return null;
  const body = data.subarray(end + 1);
  if (textOf(data.subarray(0, end)) !== `ConfigRecord  ${body.length}`) return null;
  const values = new Map<string, RecordValue>();
  for (const item of allBytes(readProto(body, MOST_VALUES), 1)) {
    const fields = readProto(item);
    const [name, value] = [lastText(fields, 1), readProto(lastBytes(fields, 2))];
    if (value.has(1)) values.set(name, asDouble(value.get(1)?.at(-1) ?? 0n));
    else if (value.has(2)) values.set(name, asSigned(lastUint(value, 2)));
    else if (value.has(3)) values.set(name, lastUint(value, 3));
    else if (value.has(4)) values.set(name, lastUint(value, 4) !== 0n);
    else if (value.has(5)) values.set(name, lastText(value, 5));
    else if (value.has(6)) values.set(name, lastBytes(value, 6).slice());
  }
  return values;
}
