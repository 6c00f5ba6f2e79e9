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
export async function contributionOf({ algorithm }: Pick<ModelHeader, "algorithm">): Promise<Contribution> {
  switch (algorithm) {
    case "popularity":
      return (_, __, history) => [popularityBlock(history)];
    case "als":
      return alsContribution;
    case "analytics":
      return (await import("../rounds/seldom.js")).surveyContribution;
    default:
      throw new RefusedError(`a browser takes part in als, popularity and surveys, got ${algorithm.slice(0, 80)}`);
  }
}
