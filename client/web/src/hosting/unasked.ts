/**
 * Unasked: the device of a user who has agreed to nothing yet, in the page's memory: a store is itself something that is kept on
 * their machine.
 *
 *     nothing agreed to -> Host in memory;    the first grant, in this tab or another -> the lasting store's Host, from then on
 *
 * Only the model goes along: without a grant nothing else was kept.
 */

import { ClosedError, PalateError } from "../errors.js";
import type { Host } from "./host.js";
import { direct, type Link } from "./link.js";

export class Unasked implements Link {
  private readonly memory: Link;
  private settled: Promise<Link> | null = null;

  /**
   * @param host - in memory.
   * @param there - whether there is a store by now: the user may have agreed in another tab.
   * @param lasting - the link to the store's host, which makes the store; null: this browser gives none, and memory will do.
   */
  constructor(
    private readonly host: Host,
    private readonly there: () => Promise<boolean>,
    private readonly lasting: () => Promise<Link | null>,
  ) {
    this.memory = direct(host);
  }

  async call(...asked: Parameters<Link["call"]>): Promise<unknown> {
    const [method, args] = asked;
    const agrees = method === "decide" && args[1] === true;
    if (!this.settled && (agrees || (await this.there()))) this.settle();
    return (await (this.settled ?? this.memory)).call(...asked);
  }

  async close(why: Error = new ClosedError("the device is closed")): Promise<void> {
    await (await (this.settled ?? this.memory)).close(why);
  }

  /** From now on asks the lasting store, and, if it can't be made, says so and tries again when it is asked for again. */
  private settle(): void {
    this.settled ??= this.moved();
    this.settled.catch(() => (this.settled = null));
  }

  private async moved(): Promise<Link> {
    const link = await this.lasting();
    if (!link) return this.memory;
    const files = await this.host.published();
    // A model that the store's tab refuses, or has no room for, is no reason to refuse what the user agrees to.
    if (files) await link.call("adopt", [files]).catch((error: unknown) => error instanceof PalateError || Promise.reject(error));
    return link;
  }
}
