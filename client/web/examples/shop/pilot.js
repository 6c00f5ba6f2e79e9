// Taking part: who has followed the link of an invitation joins the server that it names, once they agree to that.
//
//     palate serve enroll FOLDER --page app/examples/shop/      prints such links; `docs/pilot.md` has the whole way
import { FLOORS, forFew } from "../../dist/index.js";

const KEPT = "eight-shelves/server";

/** The invitation behind the `#` of the page's address, which no server is sent; null: there is none. */
function invited() {
  try {
    const data = atob(location.hash.slice(1).replaceAll("-", "+").replaceAll("_", "/"));
    const said = JSON.parse(new TextDecoder().decode(Uint8Array.from(data, (letter) => letter.charCodeAt(0))));
    return said.palate === "invitation" ? { ...said, ca: "" } : null; // a browser trusts its own authorities
  } catch {
    return null;
  }
}

export const invitation = invited();

/** The server to take part with, as `open` takes it: the invitation's, or one that was kept; null: there is none. */
export function service() {
  const said = invitation;
  const named = said
    ? { publicKey: said.public_key, population: said.population, witnesses: said.witnesses, quorum: said.quorum, firstKey: said.former_keys?.[0], models: `https://${said.server}:${said.port}${said.path ?? ""}` }
    : JSON.parse(localStorage.getItem(KEPT) ?? "null");
  return named && { ...named, floors: forFew(FLOORS) }; // a pilot has few people, and the page says so
}

/** Keeps the server's name for the next visit; only who agrees to something has it kept. */
export const keep = ({ floors, ...named }) => localStorage.setItem(KEPT, JSON.stringify(named));
export const forget = () => localStorage.removeItem(KEPT);

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

/** Takes part as long as the page is open and the user agrees; the server says when it wants to see this browser again. */
export async function takePart(device, tell) {
  if (!(await device.enrolment())) {
    if (!invitation) return tell("To take part, open the link of your invitation again.");
    await device.enroll(invitation);
    history.replaceState(null, "", location.pathname); // it is used up
  }
  for (;;) {
    await tell("Waiting until enough people are here for a round …");
    const { ended, reason, model, rounds, next } = await device.sync({ seconds: 600 });
    if (ended === "no consent" || ended === "not enrolled") return tell("");
    const again = next ?? 60;
    const when = again < 90 ? "in a minute" : `at ${new Date(Date.now() + 1000 * again).toLocaleTimeString([], { timeStyle: "short" })}`;
    const did = rounds ? "Took part in a round." : ended === "unreachable" || ended === "rejected" || ended === "failed" ? `Not now: ${reason}.` : model ? "The list is by a new model." : "Nothing to do now.";
    await tell(`${did} The server is asked again ${when}, if this page is open.`);
    await pause(again);
  }
}
