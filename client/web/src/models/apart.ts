/** Apart: what only some models and apps need, loaded together: item tables, rules, filters, fused weights, baskets, what is similar, questions, profiles, a model of the app's own. */

export { fusedWeights } from "../recommend/adaptation/fusion.js";
export { boughtAgain, unfinished } from "../recommend/facts/again.js";
export { bestLists, goesWith, inSession } from "../recommend/baskets.js";
export { standIn } from "../recommend/facts/new_items.js";
export { byOwnModel } from "../recommend/own_model.js";
export { answersOf, ProfileItems } from "../recommend/facts/profile.js";
export { questions } from "../recommend/questions.js";
export { similar } from "../recommend/similar.js";
export { Steering } from "../recommend/facts/steering.js";
export { tableFrom } from "./item_changes.js";
export { rulesFrom } from "./rules.js";
