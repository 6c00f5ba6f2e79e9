/** `analytics`: weekly survey counts. A device's answers, each from 0 to 1, stand in the place of a history. */

import { InputError } from "../errors.js";
import type { Block } from "../mechanism/update.js";
import type { GlobalModel } from "../models/model.js";
import { readSurvey } from "../rounds/survey.js";
import type { History } from "./history.js";

/** The answers, divided by the norm of their block. */
export function surveyContribution({ header }: GlobalModel, _: number, { indices, weights }: History): Block[] {
  const survey = readSurvey(header.settings);
  const answers = new Float64Array(header.facts.nItems);
  if (answers.length !== survey.questions.length) throw new InputError(`\`n_items\` must be the survey's ${survey.questions.length} questions`);
  indices.forEach((place, at) => (answers[place] = Math.min(Math.max(weights[at], 0), 1)));
  let first = 0;
  return survey.blocks.map(({ questions, norm }) => {
    const part = answers.slice(first, first + questions.length).map((each) => each / norm);
    first += questions.length;
    // Valid answers have norm 1 at most; those of a device that breaks the rules are scaled down to it.
    const length = Math.max(Math.sqrt(part.reduce((sum, each) => sum + each * each, 0)), 1);
    return { kind: "dense", values: part.map((each) => each / length) };
  });
}
