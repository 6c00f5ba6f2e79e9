/**
 * Files: the records of a file that a service hands out, one after another: of a CSV, of JSON, or of a zip of them.
 *
 * What a file is, its content says: a service's files are renamed, and their names differ by language. Sizes, counts and ratios are bounded
 * before anything is unpacked, and a file is never in memory as a whole.
 */

import { InputError } from "../errors.js";
import { shown } from "../events.js";
import { columnOf, fits, TABLES, type Cells, type Table } from "./formats.js";

/** Bytes of a file, and of what a zip file holds; files of it; and how many times one may be larger than what it was packed to, at most. */
const [MOST_BYTES, MOST_MEMBERS, MOST_RATIO] = [2 ** 30, 10_000, 300];
/** Bytes that say which files a zip file has, at most: they are read at once. */
const MOST_DIRECTORY = 2 ** 22;
/** Characters of a cell of CSV, and of a record of it or a value of a JSON list, at most. */
const [MOST_CELL, MOST_RECORD] = [131_072, 2 ** 20];
const HEAD = 2 ** 16;
/** Files of a zip file that are not looked at: what was deleted, what was only liked or planned, a system's own. */
const ASIDE = /(^|\/)(deleted|orphaned|likes|lists|__MACOSX)\/|(^|\/)\./i;
const EMPTY: readonly string[] = [];

/** A file as a picker gives it. */
export type Picked = Blob & { readonly name?: string };

/** A file, or one of a zip file, that a table describes. */
export interface Member {
  readonly table: Table;
  /** Its records, read anew; null: a line of a CSV with more or fewer cells than its header. */
  records(): AsyncGenerator<Cells | null>;
}

/** The files that some table describes, in the order of the tables. */
export async function membersOf(file: Picked): Promise<Member[]> {
  if (file.size > MOST_BYTES) throw new InputError(`the file must have at most ${MOST_BYTES} bytes, got more`);
  const signature = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  const zip = [0x50, 0x4b, 3, 4].every((byte, place) => signature[place] === byte);
  const found: (Member | string)[] = [];
  const opened: [string, () => ReadableStream<Uint8Array>][] = zip ? await unpacked(file) : [[file.name ?? "", () => file.stream()]];
  for (const [name, open] of opened) found.push(await memberOf(name, open));
  const members = found.filter((each): each is Member => typeof each !== "string");
  const services = [...new Set(members.map(({ table }) => table.format))].sort();
  if (services.length > 1) throw new InputError(`the file must be of one service, got ${services.join(", ")}`);
  if (!members.length) throw new InputError(`the file must be of one of ${[...new Set(TABLES.map(({ format }) => format))].join(", ")}, got ${zip ? "a zip file without one" : String(found[0])}`);
  return members.sort((one, other) => TABLES.indexOf(one.table) - TABLES.indexOf(other.table));
}

/** The file with its table, or what it is instead. */
async function memberOf(name: string, open: () => ReadableStream<Uint8Array>): Promise<Member | string> {
  const bytes = await headOf(open());
  const encoding = encodingOf(bytes);
  const head = new TextDecoder(encoding).decode(bytes, { stream: true });
  const texts = () => textsOf(open(), encoding);
  const start = head.trimStart()[0];
  if (start === "<") return "a page: ask the service for JSON or CSV";
  if (start === "[" || start === "{") {
    const [first] = new Objects().add(head);
    const table = TABLES.find((each) => each.json && fits(each, name, Object.keys(first ?? {})));
    return table ? { table, records: () => jsonRecords(texts()) } : "JSON of another kind";
  }
  const line = head.split(/[\r\n]/, 1)[0];
  for (const delimiter of [",", ";", "\t"]) {
    const header = new Lines(delimiter).end(line)[0] ?? EMPTY;
    const table = TABLES.find((each) => !each.json && fits(each, name, header));
    if (table) return { table, records: () => csvRecords(texts(), table, delimiter) };
  }
  return `the columns ${shown(line)}`;
}

async function* jsonRecords(texts: AsyncIterable<string>): AsyncGenerator<Cells> {
  const objects = new Objects();
  for await (const text of texts) for (const value of objects.add(text)) yield (path) => at(value, path);
  objects.end();
}

async function* csvRecords(texts: AsyncIterable<string>, table: Table, delimiter: string): AsyncGenerator<Cells | null> {
  const lines = new Lines(delimiter);
  let header = table.columns ? placesOf(table.columns) : null;
  let length = table.columns?.length ?? 0;
  const read = function* (found: string[][]): Generator<Cells | null> {
    for (const cells of found) {
      if (!cells.some((each) => each)) continue;
      const places = header;
      if (places) yield cells.length === length ? (column) => cell(cells[places.get(column) ?? -1]) : null;
      else [header, length] = [placesOf(cells), cells.length];
    }
  };
  for await (const text of texts) yield* read(lines.add(text));
  yield* read(lines.end());
}

function placesOf(cells: readonly string[]): Map<string, number> {
  return new Map(cells.map((each, place) => [columnOf(each), place]));
}

/** A cell's text; ="..." is how some write text for Excel. */
function cell(text = ""): string {
  const found = text.trim();
  return found.length > 2 && found.startsWith('="') && found.endsWith('"') ? found.slice(2, -1) : found;
}

/** The cells of each line of a CSV (RFC 4180), of text that comes in pieces; a quote within a cell that doesn't begin with one is text. */
class Lines {
  private cells: string[] = [];
  private cell = "";
  private size = 0;
  private state: "start" | "in" | "quoted" | "quote" = "start";

  constructor(private readonly delimiter: string) {}

  add(text: string): string[][] {
    const found: string[][] = [];
    for (const letter of text) {
      if (this.state === "quoted") {
        if (letter === '"') this.state = "quote";
        else this.put(letter);
      } else if (letter === '"' && this.state !== "in") {
        if (this.state === "quote") this.put(letter);
        this.state = "quoted";
      } else if (letter === this.delimiter) this.next();
      else if (letter === "\n" || letter === "\r") found.push(this.line());
      else {
        this.put(letter);
        this.state = "in";
      }
    }
    return found;
  }

  end(text = ""): string[][] {
    return [...this.add(text), this.line()];
  }

  private put(letter: string): void {
    this.cell += letter;
    if (this.cell.length > MOST_CELL) throw new InputError(`a cell of the file must have at most ${MOST_CELL} characters, got more`);
  }

  private next(): void {
    this.cells.push(this.cell);
    this.size += this.cell.length + 1;
    [this.cell, this.state] = ["", "start"];
    if (this.size > MOST_RECORD) throw new InputError(`a line of the file must have at most ${MOST_RECORD} characters, got more`);
  }

  private line(): string[] {
    this.next();
    const { cells } = this;
    [this.cells, this.size] = [[], 0];
    return cells;
  }
}

/** The objects of a JSON list, or those of lines, of text that comes in pieces. */
class Objects {
  private rest = "";
  private read = 0;
  private depth = 0;
  private quoted = false;

  add(text: string): Record<string, unknown>[] {
    const found: Record<string, unknown>[] = [];
    let [whole, begin] = [this.rest + text, 0];
    for (; this.read < whole.length; this.read += 1) {
      const letter = whole[this.read];
      if (this.quoted) {
        if (letter === "\\") this.read += 1;
        else if (letter === '"') this.quoted = false;
      } else if (letter === '"' && this.depth) this.quoted = true;
      else if (letter === "{" || (letter === "[" && this.depth)) {
        if (!this.depth) begin = this.read;
        this.depth += 1;
      } else if ((letter === "}" || letter === "]") && this.depth) {
        this.depth -= 1;
        if (this.depth) continue;
        found.push(parsed(whole.slice(begin, this.read + 1)));
        begin = this.read + 1;
      } else if (!this.depth) {
        if (!" \t\r\n,[]\ufeff".includes(letter)) throw new InputError(`the file must be JSON, got something else: ${shown(letter)}`);
        begin = this.read + 1;
      }
    }
    whole = whole.slice(begin);
    this.read -= begin;
    if (whole.length > MOST_RECORD) throw new InputError(`a value of the file must have at most ${MOST_RECORD} characters, got more`);
    this.rest = whole;
    return found;
  }

  end(): void {
    if (this.rest) throw new InputError("the file must be JSON, got one that ends within a value");
  }
}

function parsed(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch (error) {
    throw new InputError(`the file must be JSON, got something else: ${shown(error)}`);
  }
}

/** What is at a path of keys and places, such as `movie.ids.imdb`. */
function at(value: unknown, path: string): string {
  for (const name of path.split(".")) {
    if (typeof value !== "object" || value === null) return "";
    value = Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : null;
  }
  if (typeof value === "string") return value.trim();
  return typeof value === "number" && Math.abs(value) < 1e15 ? String(value) : "";
}

/** Spreadsheets write UTF-16, or what Windows once wrote. */
function encodingOf(head: Uint8Array): string {
  if (head[0] === 0xff && head[1] === 0xfe) return "utf-16le";
  if (head[0] === 0xfe && head[1] === 0xff) return "utf-16be";
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(head, { stream: true });
    return "utf-8";
  } catch {
    return "windows-1252";
  }
}

async function headOf(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  const [reader, head] = [stream.getReader(), new Uint8Array(HEAD)];
  let length = 0;
  try {
    for (let read = await reader.read(); !read.done && length < HEAD; read = await reader.read()) {
      const part = read.value.subarray(0, HEAD - length);
      head.set(part, length);
      length += part.length;
    }
  } catch (error) {
    throw damaged(error);
  }
  await reader.cancel().catch(() => undefined);
  return head.subarray(0, length);
}

async function* textsOf(stream: ReadableStream<Uint8Array>, encoding: string): AsyncGenerator<string> {
  const [reader, decoder] = [stream.getReader(), new TextDecoder(encoding)];
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error: unknown) => Promise.reject(damaged(error)));
      yield decoder.decode(value, { stream: !done });
      if (done) return;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function damaged(error: unknown): InputError {
  return error instanceof InputError ? error : new InputError(`the file must be whole, got one that can't be read: ${shown(error)}`);
}

/** Names of the files in a zip file that may be looked at, and what opens them (APPNOTE.TXT 6.3, without ZIP64). */
async function unpacked(file: Blob): Promise<[string, () => ReadableStream<Uint8Array>][]> {
  const tail = await viewOf(file, Math.max(0, file.size - 22 - 65_535), file.size);
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== 0x06054b50) end -= 1;
  if (end < 0) throw new InputError("the file must be whole, got a zip file without an end");
  const [count, size, start] = [tail.getUint16(end + 10, true), tail.getUint32(end + 12, true), tail.getUint32(end + 16, true)];
  if (count > MOST_MEMBERS) throw new InputError(`a zip file must have at most ${MOST_MEMBERS} files, got ${count}`);
  if (size > MOST_DIRECTORY) throw new InputError(`a zip file must have at most ${MOST_MEMBERS} files, got ${size} bytes of names`);
  const directory = await viewOf(file, start, start + size);
  const found: [string, () => ReadableStream<Uint8Array>][] = [];
  let [place, total] = [0, 0];
  for (let n = 0; n < count; n += 1) {
    if (place + 46 > directory.byteLength || directory.getUint32(place, true) !== 0x02014b50) throw new InputError("the file must be whole, got a zip file with a damaged directory");
    const [flags, method, crc, packed, length] = [directory.getUint16(place + 8, true), directory.getUint16(place + 10, true), ...[16, 20, 24].map((each) => directory.getUint32(place + each, true))];
    const [named, extra, comment] = [28, 30, 32].map((each) => directory.getUint16(place + each, true));
    const name = new TextDecoder().decode(new Uint8Array(directory.buffer, place + 46, Math.min(named, directory.byteLength - place - 46)));
    const local = directory.getUint32(place + 42, true);
    place += 46 + named + extra + comment;
    if (!/\.(csv|json|jsonl)$/i.test(name) || ASIDE.test(name)) continue;
    if (flags & 1 || (method !== 0 && method !== 8)) throw new InputError("a zip file must be packed in the usual way and without a password, got another");
    total += length;
    if (total > MOST_BYTES) throw new InputError(`a zip file must have at most ${MOST_BYTES} bytes when unpacked, got more`);
    if (length > HEAD + MOST_RATIO * packed) throw new InputError(`a zip file must be as a service packs it, got one packed over ${MOST_RATIO} times`);
    const header = await viewOf(file, local, local + 30);
    if (header.byteLength < 30) throw new InputError("the file must be whole, got a zip file that ends too early");
    const first = local + 30 + header.getUint16(26, true) + header.getUint16(28, true);
    found.push([name.split("/").at(-1) as string, () => checked(file.slice(first, first + packed).stream(), method, length, crc)]);
  }
  return found;
}

async function viewOf(file: Blob, start: number, end: number): Promise<DataView> {
  return new DataView(await file.slice(start, end).arrayBuffer());
}

/** The bytes of a file in a zip file, which must be as many as it says, with the sum that it says. */
function checked(packed: ReadableStream<Uint8Array>, method: number, length: number, crc: number): ReadableStream<Uint8Array> {
  let [read, sum] = [0, 0xffffffff];
  const check = new TransformStream<Uint8Array, Uint8Array>({
    transform(part, controller) {
      read += part.length;
      if (read > length) throw new InputError("the file must be whole, got a zip file with more in it than it says");
      for (const byte of part) sum = CRC[(sum ^ byte) & 255] ^ (sum >>> 8);
      controller.enqueue(part);
    },
    flush() {
      if (read !== length || (sum ^ 0xffffffff) >>> 0 !== crc) throw new InputError("the file must be whole, got a zip file that is damaged");
    },
  });
  const bytes = method ? packed.pipeThrough(new DecompressionStream("deflate-raw") as unknown as TransformStream<Uint8Array, Uint8Array>) : packed;
  return bytes.pipeThrough(check);
}

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit += 1) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});
