// The app: what the user picks changes the list, on this phone; it syncs while it is seen, if it has a server of its own.
import { hasStore, open } from "./palate/index.js";
import { storeKey } from "./key.js";

const [APP, TEXT, LISTED] = ["films-app", "2026-12", 10];
const MODEL = ["manifest.json", "signature", "items", "item-table.z", "model.int8.safetensors.z"];
const SYNC_SECONDS = 600;
const $ = (id) => document.getElementById(id);
const say = (text) => ($("status").textContent = text);
const asked = async (path) => {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path} is not there`);
  return answer;
};

/** The device, its server, what is listed, and what the user picked before they were asked. */
let [device, service, shown, waiting] = [null, null, [], null];

function made(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** One place of the list. */
function film({ item, title, reason }) {
  const act = (name, kind) => {
    const button = made("button", { type: "button", textContent: name, onclick: () => picked(kind, item) });
    button.setAttribute("aria-label", `${name}: ${title || item}`);
    return button;
  };
  return made("li", {}, made("p", { className: "title", textContent: title || item }), made("p", { className: "reason", textContent: reason }), made("p", { className: "row" }, act("Like", "like"), act("Not for me", "dismiss")));
}

async function list() {
  shown = await device.recommend(LISTED);
  $("list").replaceChildren(...shown.map(film));
  document.body.dataset.listed = String(Math.round(performance.now()));
}

async function picked(kind, item) {
  if (!(await device.consent.get("store"))) {
    waiting = [kind, item];
    $("ask").hidden = false;
    return $("ask").querySelector("button").focus();
  }
  const outcome = (await device.feedback(shown, { [item]: kind })).at(-1);
  say(outcome === "stored" ? (kind === "like" ? "Liked" : "Left out from now on") : `Not taken: ${device.problem || outcome}`);
  await list();
}

$("ask").onsubmit = async (event) => {
  event.preventDefault();
  const agreed = event.submitter.value === "yes";
  if (agreed) await device.consent.grant("store", { version: TEXT });
  if (agreed && $("training").checked) await device.consent.grant("train", { version: TEXT });
  $("ask").hidden = true;
  if (!agreed) return;
  if (waiting) await picked(...waiting);
  say("What you like is remembered on this phone");
  void takePart();
};
$("export").onclick = async () => {
  const link = made("a", { href: URL.createObjectURL(await device.export()), download: `${APP}.jsonl` });
  link.click();
  URL.revokeObjectURL(link.href);
};
$("erase").onclick = async () => {
  await device.erase();
  location.reload();
};

/** Whether the page is seen: a phone may freeze or end one that isn't. */
const seen = () => document.visibilityState === "visible";

/** Takes part while the page is seen, if the app has a server, the device is enrolled, and the user agrees. */
async function takePart() {
  while (service.models && seen() && (await device.consent.get("train"))) {
    const invitation = invited();
    if (!(await device.enrolment())) {
      if (!invitation) return ($("taking").textContent = "To take part, open the link of your invitation.");
      await device.enroll(invitation);
      history.replaceState(null, "", location.pathname);
    }
    const { ended, reason, rounds, model, next } = await device.sync({ seconds: SYNC_SECONDS });
    if (model) await list();
    $("taking").textContent = rounds ? "Took part in a round." : ended === "come back" || ended === "model" ? "" : reason;
    if (ended === "no consent" || ended === "not enrolled" || ended === "spent") return;
    await new Promise((resolve) => setTimeout(resolve, 1000 * (next ?? 60)));
  }
}
document.addEventListener("visibilitychange", () => device && takePart());

/** The invitation behind the `#` of the address, which no server is sent. */
function invited() {
  try {
    const data = atob(location.hash.slice(1).replaceAll("-", "+").replaceAll("_", "/"));
    const said = JSON.parse(new TextDecoder().decode(Uint8Array.from(data, (letter) => letter.charCodeAt(0))));
    return said.palate === "invitation" ? { ...said, ca: "" } : null;
  } catch {
    return null;
  }
}

/** A service worker has the files; a new version waits until the user starts it, so that nothing changes under their hands. */
async function keepOffline() {
  if (!("serviceWorker" in navigator)) return;
  const had = navigator.serviceWorker.controller;
  const registration = await navigator.serviceWorker.register("offline.js").catch(() => null);
  const offer = (worker) => {
    if (!worker || !had) return;
    $("newer").hidden = false;
    $("take-over").onclick = () => worker.postMessage("take over");
  };
  offer(registration?.waiting);
  registration?.addEventListener("updatefound", () => {
    const coming = registration.installing;
    coming?.addEventListener("statechange", () => coming.state === "installed" && offer(coming));
  });
  navigator.serviceWorker.addEventListener("controllerchange", () => had && location.reload());
}

async function start() {
  const begun = [asked("service.json").then((answer) => answer.json()), hasStore(APP), storeKey()];
  const [terms, known, key] = await Promise.all(begun);
  service = terms;
  device = await open({ app: APP, preset: "movies", service, keeping: "any", worker: "palate/worker.js", ...(key ? { key } : {}) });
  if (!known || !(await device.model())) {
    const found = MODEL.map(async (name) => [name, new Uint8Array(await (await asked(`model/${name}`)).arrayBuffer())]);
    await device.updateModel(Object.fromEntries(await Promise.all(found)));
  }
  $("ask-training").hidden = !service.models;
  await list();
  say("Worked out on this phone. Nothing is sent.");
  void takePart();
  await keepOffline();
}
start().catch((error) => say(error.message));
