/** Own: what a user seldom asks of their own, loaded together: report, statement, export and imports. */

export { history } from "../history/storing.js";
export { statementOf } from "../leaving/statement.js";
export { loyalty } from "../loyalty/loyalty.js";
export { exportLines, importLines } from "../portability.js";
export { reported } from "./report.js";
