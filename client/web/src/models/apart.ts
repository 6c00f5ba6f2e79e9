/** Apart: what only some models and apps need, loaded together: item tables, rules, filters, fused weights, questions, a model of the app's own. */

export { fusedWeights } from "../recommend/adaptation/fusion.js";
export { boughtAgain, unfinished } from "../recommend/facts/again.js";
export { standIn } from "../recommend/facts/new_items.js";
export { byOwnModel } from "../recommend/own_model.js";
export { questions } from "../recommend/questions.js";
export { Steering } from "../recommend/facts/steering.js";
export { tableFrom } from "./item_changes.js";
export { rulesFrom } from "./rules.js";
