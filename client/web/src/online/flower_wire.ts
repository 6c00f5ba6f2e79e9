/**
 * Fleet: a client of Flower's Fleet API. This file has its calls, `flower_messages` its messages.
 *
 *     pull -> ServerMessage -> (the device answers) -> push -> the next ServerMessage
 *
 * At a server of Palate's an answer and the next message are one request, which waits there: fields with numbers that Flower doesn't use,
 * see "An exchange is one request" in docs/wire-protocol.md. At Flower's own each part of a message is a request.
 *
 * Protocol Buffers in HTTP POSTs below `/v1/fleet/`, signed by the node's P-384 key, with contents as objects that are named by their
 * SHA-256. A device never downloads an app bundle, and never runs code that a server sends.
 */

import { IntegrityError, UnreachableError } from "../errors.js";
import { base64, concat, textOf, utf8 } from "../records/bytes.js";
import { digest } from "../records/canonical.js";
import { signP384, type NodeKey } from "../records/crypto.js";
import { allBytes, blob, double, lastBytes, lastText, lastUint, readProto, text, uint, type ProtoFields } from "../records/protobuf.js";
import { messageOf, recordDict, replyOf, valuesOf, type Answer, type FlowerRecord, type Notice, type Reply, type ServerMessage } from "./flower_messages.js";
import { RejectedError, StoppedError, type Https } from "./https.js";

/** The usual interval between heartbeats. After twice this time without one a node counts as offline. */
const HEARTBEAT_SECONDS = 30;
const LONGEST_SECONDS = 900;
export const LEAVE_SECONDS = 3;
/** Seconds in which a server must reply, after the time for which it may wait for a message. */
const REPLY_SECONDS = 30;
/** Seconds for which a signed time is used: a server verifies it once. Flower accepts it for five minutes. */
const SIGNED_SECONDS = 60;
const SMALL = 2 ** 16;
const MEDIA = "application/protobuf";
/** What Palate adds to Flower's messages; the same names and numbers are in Python's `exchange.py`. */
const [KNOWN, WAIT, HAVE, RECORD, OBJECT, NEXT, STAYS, TAKES] = [1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007];
const MOST_STAY = 2 ** 32 - 1;
/** The most bytes of a record that comes with its message, and of the objects that go with an answer. */
const [MOST_RECORD, MOST_INLINE] = [2 ** 18, 40_000];

const monotonic = (): number => performance.now() / 1000;

/** A message, when it arrived, and the SHA-256 of its record: equal ones ask for the same answer. */
export interface Asked extends ServerMessage {
  readonly pulled: number;
  readonly content: string;
}

/** An answer that is being sent to the server. */
export interface Upload {
  readonly reply: Reply;
  /** Whether sending the message was tried before, the server's name of this upload, what it still wants, and what was tried. */
  begun: boolean;
  session: string;
  missing: string[] | null;
  readonly tried: Set<string>;
  /** Seconds for which the server may hold its reply until there is a next message, and whether to wait no longer, and send no more. */
  wait: () => number;
  over?: Over;
  /** The next message, if the server has replied with one. */
  next: Notice | null;
}

/** What a device declares while it is online: a server draws cohorts from those that have the time and the consent. */
export interface Availability {
  /** Seconds for which it takes plans; one that it has taken is finished after that, too. */
  readonly stays: number;
  /** What its user agrees to: the sum of `TRAINING` and `SURVEYS`. */
  readonly takes: number;
}

export const [TRAINING, SURVEYS] = [1, 2];

/** Whether to wait no longer. */
export type Over = () => Promise<boolean>;

interface Call {
  readonly most?: number;
  /** Its time limit; left out: `wait` and some more. */
  readonly seconds?: number;
  readonly wait?: number;
  readonly over?: Over;
}

/** A node that is connected to a SuperLink. */
export class Fleet {
  /** Flower's number of this node; 0 before the activation. */
  node = 0n;
  /** Messages that were answered. */
  exchanges = 0;
  /** Whether the server waits for a message before it replies. */
  holds = false;
  private have = "";
  private signed: { readonly at: number; readonly headers: Readonly<Record<string, string>> } | null = null;
  private beaten = monotonic();
  private interval = HEARTBEAT_SECONDS;

  constructor(
    private readonly https: Https,
    private readonly key: NodeKey,
    private readonly most: number,
    /** Seconds since 1970; a server accepts an error of five minutes. */
    private readonly clock: () => number = () => Date.now() / 1000,
    /** For how long the device takes plans now, and for what. */
    private readonly declares: () => Availability | Promise<Availability> = () => ({ stays: 0, takes: 0 }),
  ) {}

  /** Goes online; gives Flower's number of the node. `earlier` goes offline first, if the server says that it is online. */
  async activate(earlier = 0n): Promise<bigint> {
    const request = concat(blob(1, utf8(this.key.publicPem)), double(2, HEARTBEAT_SECONDS), await this.declared());
    let found: ProtoFields;
    try {
      found = await this.call("activate-node", request);
    } catch (error) {
      if (!(error instanceof RejectedError) || error.status !== 412 || !earlier) throw error;
      this.node = earlier;
      await this.leave();
      found = await this.call("activate-node", request);
    }
    this.node = lastUint(found, 1);
    [this.beaten, this.interval] = [monotonic(), HEARTBEAT_SECONDS];
    return this.node;
  }

  /** Goes offline, whatever the app's stop says. If the request fails, the server notices by the missing heartbeats. */
  async leave(): Promise<void> {
    const node = this.node;
    this.node = 0n;
    if (!node) return;
    try {
      await this.call("deactivate-node", uint(1, node), { seconds: LEAVE_SECONDS });
    } catch (error) {
      if (!(error instanceof UnreachableError)) throw error;
    }
  }

  /** Sends a heartbeat, if it is time to. `silent`: seconds in which the node may send nothing, because it computes. */
  async beat(silent = 0): Promise<void> {
    const interval = Math.min(Math.max(HEARTBEAT_SECONDS, silent), LONGEST_SECONDS);
    if (interval > this.interval || monotonic() - this.beaten > HEARTBEAT_SECONDS * 0.8) {
      await this.call("send-node-heartbeat", concat(this.own(), double(2, interval)));
      [this.beaten, this.interval] = [monotonic(), interval];
    }
  }

  /** The next message for this node, without its content, or null. Each comes only once. The server may wait `wait` seconds for one. */
  async pull(wait = 0, over?: Over): Promise<Notice | null> {
    return this.notice(await this.call("pull-messages", concat(this.own(), await this.waits(wait)), { wait, over }));
  }

  /** Downloads a message's content, if it didn't come with it. Called again, it continues. */
  async take(notice: Notice): Promise<Asked> {
    // Flower's own node now asks the server to delete its copy. This one doesn't, as in Python: all messages of an attempt share their
    // content, and the server may still be storing what it would delete.
    const [pulled, content] = [monotonic(), recordOf(notice)];
    return { ...messageOf(notice.metadata, content ? await this.record(notice, content) : null), pulled, content };
  }

  /** Encodes an answer, once: each attempt to send it sends the same bytes. */
  reply(asked: Asked, answer: Answer | null): Upload {
    const reply = replyOf(asked, this.node, answer, monotonic() - asked.pulled);
    return { reply, begun: false, session: "", missing: null, tried: new Set(), wait: () => 0, next: null };
  }

  /**
   * Sends the missing objects of an answer. Called again, it continues; the server counts the answer once.
   *
   * Small objects go with the message; then `upload.next` may be the next message, for which the server waits.
   *
   * A ServerApp may take the message before it has the objects. From then on the server doesn't say which are missing, so that each
   * is sent until the server answers. If the answer with the session's name was lost, all are sent without it.
   */
  async deliver(upload: Upload): Promise<void> {
    const { reply } = upload;
    if (!upload.missing) {
      const [again, wait] = [upload.begun, upload.wait()];
      upload.begun = true;
      const inside = inline(reply.objects);
      const parts = [...inside.values()].map((data) => blob(OBJECT, data));
      const body = concat(this.own(), blob(2, reply.slim), blob(3, reply.tree), ...parts, await this.waits(wait));
      const found = await this.call("push-messages", body, { wait, over: upload.over });
      if (!found.has(2)) throw new UnreachableError("the server must say that it has heard an answer, got nothing");
      const named = new Set(allBytes(found, 3).map((name) => textOf(name)));
      upload.session = named.size || !again ? lastText(found, 4) : "";
      const known = found.has(KNOWN);
      upload.missing = [...reply.objects.keys()].filter((name) => named.has(name) || (again && !named.size && !(known && inside.has(name))));
      if (known) {
        upload.next = this.following(lastBytes(found, NEXT));
        this.holds = true;
      }
    }
    while (upload.missing.length) {
      // The server may have held its reply for long: whoever revoked meanwhile sends nothing more.
      if (await upload.over?.()) throw new StoppedError("an answer must be wanted still, and is not");
      const name = upload.missing[0];
      const again = upload.tried.has(name);
      upload.tried.add(name);
      const fields = concat(uint(2, reply.run), text(3, name), blob(4, reply.objects.get(name) as Uint8Array), text(5, upload.session));
      const stored = lastUint(await this.call("push-object", concat(this.own(), fields)), 1);
      if (!stored && !again && upload.session) {
        upload.missing = null;
        throw new UnreachableError("the server must keep what is sent, got that it did not");
      }
      upload.missing.shift(); // if the server refuses an object the second time, it has it
    }
    this.exchanges += 1;
  }

  /** The message in a reply, or null. */
  private notice(found: ProtoFields): Notice | null {
    this.holds = found.has(KNOWN);
    if (this.holds) this.beaten = monotonic(); // the server takes the request for a heartbeat
    const [messages, trees] = [allBytes(found, 2), allBytes(found, 3)];
    if (!messages.length || !trees.length) return null;
    const metadata = readProto(lastBytes(readProto(messages[0]), 1));
    this.have = lastText(metadata, 2);
    return { metadata, tree: trees[0], record: lastBytes(found, RECORD) };
  }

  /** The next message in the reply to an answer; what isn't a message is none. */
  private following(data: Uint8Array): Notice | null {
    try {
      return this.notice(readProto(data));
    } catch (error) {
      if (error instanceof IntegrityError) return null;
      throw error;
    }
  }

  /** What a server needs to know to wait for this node's next message, and to draw it for a cohort. */
  private async waits(wait: number): Promise<Uint8Array> {
    return concat(uint(WAIT, Math.trunc(1000 * Math.max(0, wait)), true), text(HAVE, this.have), await this.declared());
  }

  private async declared(): Promise<Uint8Array> {
    const { stays, takes } = await this.declares();
    return concat(uint(STAYS, Math.trunc(Math.min(1000 * Math.max(0, stays), MOST_STAY)), true), uint(TAKES, takes));
  }

  /** The record of a message, downloaded if it didn't come with it; null if it is of another type. */
  private async record({ metadata, record }: Notice, name: string): Promise<FlowerRecord | null> {
    if (record.length && digest(record) === name) return valuesOf(record);
    const fields = concat(this.own(), uint(2, lastUint(metadata, 1)), text(3, name));
    const found = await this.call("pull-object", fields, { most: this.most });
    const data = lastBytes(found, 3);
    if (!lastUint(found, 1) || digest(data) !== name) throw new UnreachableError("the server must have what it asks with, got something else");
    return valuesOf(data);
  }

  /** The node's number, with which most requests begin. */
  private own(): Uint8Array {
    return blob(1, uint(1, this.node), true);
  }

  private async call(name: string, body: Uint8Array, { most = SMALL, seconds, wait = 0, over }: Call = {}): Promise<ProtoFields> {
    const [limit, held] = wait ? [REPLY_SECONDS + wait, Math.min(this.most, MOST_RECORD) + SMALL] : [seconds, most];
    const reply = await this.https.request("POST", `/v1/fleet/${name}`, { body, headers: await this.headers(), most: held + SMALL, seconds: limit, over });
    if (reply.status !== 200) {
      this.signed = null;
      throw new RejectedError(name, reply.status);
    }
    return readProto(reply.body);
  }

  /** Headers with a time that this node has signed not long ago. */
  private async headers(): Promise<Readonly<Record<string, string>>> {
    const at = this.clock();
    if (this.signed && at >= this.signed.at && at - this.signed.at < SIGNED_SECONDS) return this.signed.headers;
    const said = `${new Date(1000 * at).toISOString().slice(0, -1)}000+00:00`;
    const headers = {
      "content-type": MEDIA,
      accept: MEDIA,
      "flwr-public-key": base64(utf8(this.key.publicPem)),
      "flwr-timestamp": said,
      "flwr-signature": base64(await signP384(this.key.secret, utf8(said))),
    };
    this.signed = { at, headers };
    return headers;
  }
}

/** The SHA-256 of a message's one record; empty if it doesn't have exactly one, or one of another name. */
function recordOf({ tree }: Notice): string {
  const content = allBytes(readProto(tree), 2).map((each) => readProto(each));
  const records = content.length === 1 ? allBytes(content[0], 2).map((each) => readProto(each)) : [];
  const name = records.length === 1 ? lastText(records[0], 1) : "";
  return name && lastText(content[0], 1) === digest(recordDict(name)) ? name : "";
}

/** The objects that go with a message: the smallest first, as far as they fit. */
function inline(objects: ReadonlyMap<string, Uint8Array>): ReadonlyMap<string, Uint8Array> {
  const chosen = new Map<string, Uint8Array>();
  let size = 0;
  for (const [name, data] of [...objects].sort(([, one], [, other]) => one.length - other.length)) {
    size += data.length;
    if (size <= MOST_INLINE) chosen.set(name, data);
  }
  return chosen;
}
