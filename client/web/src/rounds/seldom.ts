/** Seldom: what taking part needs now and then, loaded together: an invitation, a survey. */

export { surveyContribution } from "../algorithms/analytics.js";
export { checkTrusted, enroll, readInvitation } from "../online/invitation.js";
export { answersAsHistory, readSurvey } from "./survey.js";
export { surveyAnswers } from "./survey_answers.js";
