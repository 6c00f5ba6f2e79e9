/** Which algorithms a device has. */

import { RefusedError } from "../errors.js";
import type { ModelHeader } from "../models/model.js";
import { alsContribution } from "./als.js";
import type { Contribution } from "./history.js";
import { popularityBlock } from "./popularity.js";

/**
 * What a plan's algorithm sends, before anything is charged: one that a browser doesn't have is refused. What is seldom needed is loaded
 * now.
 */
export async function contributionOf({ algorithm, settings, facts }: Pick<ModelHeader, "algorithm" | "settings" | "facts">): Promise<Contribution> {
  switch (algorithm) {
    case "popularity":
      return (_, __, history) => [popularityBlock(history)];
    case "als":
      return alsContribution;
    case "analytics":
      return (await import("../rounds/seldom.js")).surveyContribution;
    case "verdict":
      return (await import("../rounds/seldom.js")).judging(settings, facts);
    default:
      throw new RefusedError(`a browser takes part in als, popularity, surveys and verdicts, got ${algorithm.slice(0, 80)}`);
  }
}
