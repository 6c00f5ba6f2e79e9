// A shop: recommendations, why, consent, what has left this browser, export, erasing. Plain files, no server code. Without an
// invitation it has books that are made up; with one it takes part in the rounds of a server, see `pilot.js`.
//
//     npm run build                    in client/web: makes dist/
//     python3 -m http.server 8000      in the repository's root, then http://localhost:8000/client/web/examples/shop/
import { hasStore, open, PANEL_WORDS } from "../../dist/index.js";
import { forget, keep, service, takePart } from "./pilot.js";

const PILOT = service();
const APP = PILOT ? `eight-shelves-${PILOT.publicKey.slice(0, 8)}` : "eight-shelves";
const TEXT = "2026-11"; // the version of the text that the user is shown
const MODEL = new URL("../../../../simulations/palate/sample_model/", import.meta.url);
const SERVICE = PILOT ?? {
  publicKey: "3b60a165e4bb4d70ac4b5153e4b41b3cbfd970cebff24e4305569cad68842ee7",
  population: "sample: made readers, no rounds",
  participations: 0,
};
const PURPOSES = {
  store: "Remember what I like, in this browser",
  train: "Help recommendations get better, with noise",
  analytics: "Be counted, with noise",
  messaging: "Tell me what is new",
  panel: "Share openly what I like: it becomes public",
};
let SHELVES = ["The Sea", "Mountains", "Detectives", "Gardens", "Space", "Old Kings", "Kitchens", "Poems"];
const FIRST = ["Salt", "North", "Quiet", "Green", "Far", "Lost", "Slow", "Blue", "Last", "Small", "Bright", "Hollow", "Late", "Wild", "Old", "Paper", "Third", "Second", "Winter", "Open"];
const SECOND = ["Tide", "Ridge", "Case", "Orchard", "Orbit", "Crown", "Fire", "Verse"];

const $ = (id) => document.getElementById(id);
let device;
let shown = [];
let shelf = 0;
let timer;
let taking = null; // the device that takes part
const cart = new Set(); // the items in it: of this page alone
/** Item -> what the model says of it, in the catalogue's order; a made-up book's shelf and title follow from its number. */
const stock = new Map();

const book = (item) => stock.get(item) ?? made_up(item);

/** Reads what there is: with titles and kinds where the model came with them, of which the eight commonest are shelves. */
async function stockUp() {
  const facts = await device.items();
  const counts = new Map();
  for (const { kinds } of facts) if (kinds.length) counts.set(kinds[0], (counts.get(kinds[0]) ?? 0) + 1);
  const commonest = [...counts].sort((one, other) => other[1] - one[1]).slice(0, 8).map(([kind]) => kind);
  if (commonest.length) SHELVES = commonest;
  const known = facts.map(({ item, label, kinds }) => ({ item, title: label, own: Math.max(0, SHELVES.findIndex((each) => kinds.includes(each))), kind: kinds[0] ?? "" }));
  for (const each of known.length ? known : (await device.catalogue()).map(made_up)) stock.set(each.item, each);
}

function made_up(item) {
  const number = Number(item.slice(5));
  const own = number % 8;
  return { item, own, kind: SHELVES[own], title: `The ${FIRST[Math.floor((number - 1) / 8) % FIRST.length]} ${SECOND[own]}` };
}

function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function say(text) {
  $("status").textContent = text;
  clearTimeout(timer);
  timer = setTimeout(() => ($("status").textContent = ""), 4000);
}

/** The reason in the shop's words: titles in the place of ids. */
function words(reason) {
  const text = reason.replace(/book-\d+/g, (item) => book(item).title);
  return text[0].toUpperCase() + text.slice(1);
}

function card(item, reason, actions) {
  const { title, own, kind } = book(item);
  const cover = made("div", { className: `cover shelf-${own}` }, made("span", { className: "title", textContent: title }), made("span", { className: "kind", textContent: kind }));
  const about = made("div", { className: "about" });
  if (reason) about.append(made("p", { className: "reason", textContent: words(reason) }));
  const buttons = actions.map(([name, act]) => {
    const button = made("button", { type: "button", textContent: name, onclick: act });
    button.setAttribute("aria-label", `${name}: ${title}`);
    return button;
  });
  about.append(made("div", { className: "choices" }, ...buttons));
  return made("li", { className: "book" }, cover, about);
}

/** Tells the device what the user did, and shows what follows. */
async function did(kind, item) {
  const { title } = book(item);
  const at = shown.find((each) => each.item === item);
  const outcome = at ? (await device.feedback(shown, { [item]: kind })).at(-1) : await device.track(kind, item);
  const said = { like: `You like ${title}`, dismiss: `Less like ${title}`, view: title }[kind];
  const problem = { "no consent": "Not remembered: you have not agreed to that", failed: `Not remembered: ${device.problem}`, limited: "Not remembered: that was a lot for one day" }[outcome];
  say(problem ?? said);
  if (outcome === "no consent") $("ask").hidden = false;
  await list();
}

async function list() {
  shown = await device.recommend(6);
  const own = shown.some(({ source }) => source !== "popularity" && source !== "exploration");
  const { elsewhere } = await device.model();
  const few = elsewhere === null ? "" : ` Too few people have taken part here yet${elsewhere ? `: what it knows was learned elsewhere, from ${elsewhere.toLocaleString("en")} others` : ""}.`;
  $("lead").textContent = (own ? "From what you like, worked out in this browser." : "What many like. Like a few, and it becomes yours.") + few;
  $("recommended").replaceChildren(
    ...shown.map(({ item, reason }) => card(item, reason, [["Like", () => did("like", item)], ["Not for me", () => did("dismiss", item)], ["Why?", () => why(item)], toCart(item)])),
  );
}

/** The button that puts an item into the cart, or takes it out. */
const toCart = (item, there = true) => [there ? "Add to cart" : "Take out", () => put(item, there)];

/** Puts an item into the cart or takes it out, and shows what goes with what is in it: the cart alone says so, not the user's history. */
async function put(item, there) {
  if (there) cart.add(item);
  else cart.delete(item);
  const along = await device.goesWith([...cart], 4);
  const inside = $("cart").contains(document.activeElement);
  $("in-cart").replaceChildren(...[...cart].map((each) => card(each, "", [toCart(each, false)])));
  $("goes-with").replaceChildren(...along.map((each) => card(each.item, "", [toCart(each.item)])));
  $("cart").hidden = $("to-cart").hidden = !cart.size;
  // The button that had the focus is gone: the keyboard goes on from the heading.
  if (inside) $(cart.size ? "cart-title" : "shelves-title").focus();
  say(`${there ? "In" : "Out of"} your cart: ${book(item).title}`);
}

function shelves() {
  $("tabs").replaceChildren(
    ...SHELVES.map((name, own) => {
      const tab = made("button", { type: "button", textContent: name });
      tab.setAttribute("aria-pressed", String(own === shelf));
      tab.onclick = () => {
        shelf = own;
        $("search").value = "";
        for (const [place, each] of [...$("tabs").children].entries()) each.setAttribute("aria-pressed", String(place === own));
        books();
      };
      return tab;
    }),
  );
  books();
}

async function books() {
  const words = $("search").value.trim().toLowerCase();
  const all = [...stock.values()].filter(({ own, title }) => (words ? title.toLowerCase().includes(words) : own === shelf)).map(({ item }) => item);
  // A shelf shows what says most about a taste; a search, what comes first.
  const items = words ? all.slice(0, 8) : await device.questions(8, { items: all });
  const like = (item) => async ({ currentTarget: button }) => {
    await did("like", item);
    button.setAttribute("aria-pressed", "true");
  };
  $("shelf").replaceChildren(...items.map((item) => card(item, "", [["Like", like(item)], toCart(item)])));
}

async function why(item) {
  const { score, rest, contributions, text } = await device.explain(item);
  $("why-title").textContent = book(item).title;
  $("why-words").textContent = words(text);
  const parts = [...contributions.slice(0, 5).map((each) => [`${each.kind === "dismiss" ? "Not for you: " : ""}${book(each.item).title}`, each.score]), ["What many like", rest]].filter(([, part]) => Math.abs(part) > 0.005 * score);
  $("why-parts").replaceChildren(
    ...parts.map(([name, part]) => made("li", {}, made("span", { textContent: name }), made("span", { textContent: `${Math.round((100 * part) / score)} %` }), made("meter", { min: 0, max: score, value: Math.max(part, 0), title: name }))),
  );
  $("why").showModal();
}

async function privacy() {
  const [report, consents] = [await device.privacyReport(), await device.consent.all()];
  const { sent, opened: openly, spending, storage } = report;
  const bytes = sent.reduce((sum, each) => sum + each.bytes, 0);
  const left = [sent.length && `${sent.length} messages with noise, ${bytes} bytes`, openly.length && `your list, openly, ${openly.length} times`].filter(Boolean);
  $("left-count").textContent = left.join("; ") || "Nothing";
  $("budget-words").textContent =
    spending?.epsilon == null
      ? report.problem || (spending ? "Not bounded: something left without noise." : "No round was taken part in.")
      : `ε = ${Number(spending.epsilon.toPrecision(4))} of at most ${spending.limit} is spent, ${Number(spending.remaining.toPrecision(4))} is left, at δ = ${spending.delta}.`;
  Object.assign($("budget-meter"), { max: spending?.limit ?? 1, value: spending?.epsilon ?? 0 });
  $("budget-unit").textContent = `Unit: ${report.unit}. Adjacency: ${report.adjacency}. Accountant: ${report.accountant}. The smaller ε, the less anybody can tell from what left.`;
  $("report").textContent = report.text;
  $("kept").textContent = {
    memory: "Nothing is stored in this browser: what you do is forgotten with this page.",
    browser: `Kept in this browser, encrypted${storage.persisted ? "" : "; the browser may delete it when it needs room"}.${left.length ? "" : " Nobody else has it."}`,
  }[storage.kind];
  $("erase").disabled = storage.kind === "memory";
  $("consents").replaceChildren(
    ...Object.entries(PURPOSES).map(([purpose, name]) => {
      const box = made("input", { type: "checkbox", checked: consents[purpose], onchange: () => decide(purpose, box) });
      return made("li", {}, made("label", {}, box, made("span", { textContent: name })));
    }),
  );
}

async function decide(purpose, box) {
  if (box.checked && purpose === "panel" && !(await openly())) {
    box.checked = false;
    return;
  }
  const decision = box.checked ? await device.consent.grant(purpose, { version: TEXT }) : await device.consent.revoke(purpose, { version: TEXT });
  await privacy();
  void join();
  $("remains").textContent = decision.granted ? "" : `Revoked. ${decision.remains[0].toUpperCase()}${decision.remains.slice(1)}.`;
}

/** Asks about sharing openly by itself, in words of its own. */
async function openly() {
  const dialog = $("openly");
  dialog.querySelector("pre").textContent = PANEL_WORDS.replaceAll("{app}", "Eight Shelves").replace(/(\S)\n(?=\S)/g, "$1 ");
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return dialog.returnValue === "yes";
}

/** The device: in the page's memory until the user agrees to something, then in the browser. */
async function opened() {
  const made = await open({ app: APP, preset: "shop", service: SERVICE, keeping: "any" });
  if (!PILOT) await made.updateModel(MODEL).catch(({ message }) => Promise.reject(new Error(`open the link of an invitation; ${message}`)));
  const { reason } = PILOT ? await made.sync({ modelsOnly: true, seconds: 60 }) : {};
  if (!(await made.model())) throw new Error(reason);
  return made;
}

/** Takes part, if there is a server to take part with, the user agrees, and it isn't done yet. */
async function join() {
  const { store, train } = PILOT ? await device.consent.all() : {};
  if (store || train) keep(PILOT);
  if (!(store && train) || taking === device) return;
  taking = device;
  const tell = async (text) => {
    Object.assign($("taking"), { hidden: !text, textContent: text });
    await Promise.all([list(), privacy()]);
  };
  await takePart(device, tell).catch((error) => error.code === "closed" || error.code === "erased" || tell(`Not taking part: ${error.message}`));
  taking = null;
}

async function asked(choice) {
  const boxes = [...$("ask-form").elements].filter(({ type }) => type === "checkbox");
  const purposes = boxes.filter(({ checked }) => choice === "all" || (choice === "ticked" && checked)).map(({ name }) => name);
  $("ask").hidden = true;
  for (const purpose of purposes) await device.consent.grant(purpose, { version: TEXT });
  // The answer "no" is all that is remembered, so that nobody is asked again and again.
  if (!purposes.length) localStorage.setItem(APP, "no");
  say(purposes.length ? "Thank you. You can change that at any time." : "Nothing is remembered.");
  await Promise.all([list(), privacy()]);
  void join();
}

/** Begins anew, as if the user had never been here. */
async function erased() {
  localStorage.removeItem(APP);
  forget();
  device = await opened();
  $("ask").hidden = false;
  say("Erased.");
  await Promise.all([list(), privacy()]);
}

async function start() {
  const known = await hasStore(APP);
  device = await opened();
  $("ask").hidden = known || localStorage.getItem(APP) === "no";
  await stockUp();
  $("pilot").hidden = !PILOT;
  shelves();
  await Promise.all([list(), privacy()]);
  void join();
}

for (const button of $("ask-form").querySelectorAll("button")) button.onclick = () => asked(button.value);
$("export").onclick = async () => {
  const link = made("a", { href: URL.createObjectURL(await device.export()), download: `${APP}.jsonl` });
  link.click();
  URL.revokeObjectURL(link.href);
  say("A file with all that this browser knows. It is not encrypted.");
};
$("own").onclick = async () => {
  $("own-page").showModal();
  const books = [...stock.values()];
  const { showPage } = await import("../../dist/page/page.js"); // loaded when somebody asks for it
  await showPage($("own-page").querySelector("iframe"), device, {
    titles: Object.fromEntries(books.map(({ item, title }) => [item, title])),
    tags: Object.fromEntries(books.map(({ item, kind }) => [item, kind])),
    done: (what) => what === "erase" ? erased() : privacy(),
  });
};
$("search").oninput = () => books();
$("erase").onclick = () => $("sure").showModal();
$("sure").onclose = async () => {
  if ($("sure").returnValue !== "yes") return;
  await device.erase();
  await erased();
};
document.addEventListener("visibilitychange", () => document.hidden || privacy());
start().catch((error) => ($("lead").textContent = `This doesn't work here: ${error.message}`));
