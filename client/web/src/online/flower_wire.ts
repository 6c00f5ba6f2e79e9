/**
 * Fleet: a client of Flower's Fleet API. This file has its calls, `flower_messages` its messages.
 *
 *     pull -> ServerMessage -> (the device answers) -> push
 *
 * Protocol Buffers in HTTP POSTs below `/v1/fleet/`, signed by the node's P-384 key, with contents as objects that are named by their
 * SHA-256. A device never downloads an app bundle, and never runs code that a server sends.
 */

import { UnreachableError } from "../errors.js";
import { base64, concat, textOf, utf8 } from "../records/bytes.js";
import { digest } from "../records/canonical.js";
import { signP384, type NodeKey } from "../records/crypto.js";
import { allBytes, blob, double, lastBytes, lastText, lastUint, readProto, text, uint, type ProtoFields } from "../records/protobuf.js";
import { messageOf, recordDict, replyOf, valuesOf, type Answer, type FlowerRecord, type Notice, type Reply, type ServerMessage } from "./flower_messages.js";
import { RejectedError, type Https } from "./https.js";

/** The usual interval between heartbeats. After twice this time without one a node counts as offline. */
const HEARTBEAT_SECONDS = 30;
const LONGEST_SECONDS = 900;
export const LEAVE_SECONDS = 3;
const SMALL = 2 ** 16;
const MEDIA = "application/protobuf";

const monotonic = (): number => performance.now() / 1000;

/** A message, and when it arrived. */
export interface Asked extends ServerMessage {
  readonly pulled: number;
}

/** An answer that is being sent to the server. */
export interface Upload {
  readonly reply: Reply;
  /** Whether sending the message was tried before, the server's name of this upload, what it still wants, and what was tried. */
  begun: boolean;
  session: string;
  missing: string[] | null;
  readonly tried: Set<string>;
}

/** A node that is connected to a SuperLink. */
export class Fleet {
  /** Flower's number of this node; 0 before the activation. */
  node = 0n;
  /** Messages that were answered. */
  exchanges = 0;
  private beaten = monotonic();
  private interval = HEARTBEAT_SECONDS;

  constructor(
    private https: Https,
    private readonly key: NodeKey,
    private readonly most: number,
    /** Seconds since 1970; a server accepts an error of five minutes. */
    private readonly clock: () => number = () => Date.now() / 1000,
  ) {}

  /** Goes online; gives Flower's number of the node. `earlier` goes offline first, if the server says that it is online. */
  async activate(earlier = 0n): Promise<bigint> {
    const request = concat(blob(1, utf8(this.key.publicPem)), double(2, HEARTBEAT_SECONDS));
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
      await this.call("deactivate-node", uint(1, node), SMALL, LEAVE_SECONDS);
    } catch (error) {
      if (!(error instanceof UnreachableError)) throw error;
    }
  }

  /** The app's stop no longer holds: the device signs off. */
  farewell(): void {
    this.https = this.https.farewell();
  }

  /** Sends a heartbeat, if it is time to. `silent`: seconds in which the node may send nothing, because it computes. */
  async beat(silent = 0): Promise<void> {
    const interval = Math.min(Math.max(HEARTBEAT_SECONDS, silent), LONGEST_SECONDS);
    if (interval > this.interval || monotonic() - this.beaten > HEARTBEAT_SECONDS * 0.8) {
      await this.call("send-node-heartbeat", concat(this.own(), double(2, interval)));
      [this.beaten, this.interval] = [monotonic(), interval];
    }
  }

  /** The next message for this node, without its content, or null. Each comes only once. */
  async pull(): Promise<Notice | null> {
    const found = await this.call("pull-messages", this.own());
    const [messages, trees] = [allBytes(found, 2), allBytes(found, 3)];
    if (!messages.length || !trees.length) return null;
    return { metadata: readProto(lastBytes(readProto(messages[0]), 1)), tree: trees[0] };
  }

  /** Downloads a message's content. Called again, it continues. */
  async take({ metadata, tree }: Notice): Promise<Asked> {
    const pulled = monotonic();
    return { ...messageOf(metadata, await this.record(lastUint(metadata, 1), tree)), pulled };
  }

  /** Encodes an answer, once: each attempt to send it sends the same bytes. */
  reply(asked: Asked, answer: Answer | null): Upload {
    const reply = replyOf(asked, this.node, answer, monotonic() - asked.pulled);
    return { reply, begun: false, session: "", missing: null, tried: new Set() };
  }

  /**
   * Sends the missing objects of an answer. Called again, it continues; the server counts the answer once.
   *
   * A ServerApp may take the message before it has the objects. From then on the server doesn't say which are missing, so that each
   * is sent until the server answers. If the answer with the session's name was lost, all are sent without it.
   */
  async deliver(upload: Upload): Promise<void> {
    const { reply } = upload;
    if (!upload.missing) {
      const again = upload.begun;
      upload.begun = true;
      const found = await this.call("push-messages", concat(this.own(), blob(2, reply.slim), blob(3, reply.tree)));
      if (!found.has(2)) throw new UnreachableError("the server must say that it has heard an answer, got nothing");
      const named = new Set(allBytes(found, 3).map((name) => textOf(name)));
      upload.session = named.size || !again ? lastText(found, 4) : "";
      upload.missing = [...reply.objects.keys()].filter((name) => named.has(name) || (again && !named.size));
    }
    while (upload.missing.length) {
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

  /** Downloads the one record of a message; null if it doesn't have exactly one, or one of another type. */
  private async record(run: bigint, tree: Uint8Array): Promise<FlowerRecord | null> {
    const content = allBytes(readProto(tree), 2).map((each) => readProto(each));
    const records = content.length === 1 ? allBytes(content[0], 2).map((each) => readProto(each)) : [];
    if (records.length !== 1) return null;
    const name = lastText(records[0], 1);
    if (lastText(content[0], 1) !== digest(recordDict(name))) return null; // the record has another name
    const found = await this.call("pull-object", concat(this.own(), uint(2, run), text(3, name)), this.most);
    const data = lastBytes(found, 3);
    if (!lastUint(found, 1) || digest(data) !== name) throw new UnreachableError("the server must have what it asks with, got something else");
    return valuesOf(data);
  }

  /** The node's number, with which most requests begin. */
  private own(): Uint8Array {
    return blob(1, uint(1, this.node), true);
  }

  private async call(name: string, body: Uint8Array, most = SMALL, seconds?: number): Promise<ProtoFields> {
    const now = `${new Date(1000 * this.clock()).toISOString().slice(0, -1)}000+00:00`;
    const headers = {
      "content-type": MEDIA,
      accept: MEDIA,
      "flwr-public-key": base64(utf8(this.key.publicPem)),
      "flwr-timestamp": now,
      "flwr-signature": base64(await signP384(this.key.secret, utf8(now))),
    };
    const reply = await this.https.request("POST", `/v1/fleet/${name}`, { body, headers, most: most + SMALL, seconds });
    if (reply.status !== 200) throw new RejectedError(name, reply.status);
    return readProto(reply.body);
  }
}
