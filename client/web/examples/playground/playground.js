// A playground: pick films, and the list changes here, beside the popular one. A static folder: `palate playground` makes and serves it.
import { hasStore, open } from "./palate/index.js";

const [APP, TEXT, LISTED, SHOWN, OFFERED, KNOWN] = ["playground", "2026-12", 10, 8, 12, 150];
const MODEL = ["manifest.json", "signature", "items", "item-table.z", "model.int8.safetensors.z"];
const $ = (id) => document.getElementById(id);
/** The model's files, whose model it is, films by id, their ids, of which the most popular come first, and the device. */
let [files, service, films, ranked, device] = [{}, null, new Map(), [], null];
/** What is listed, what was picked, what was listed before, and what a file would add. */
let [shown, liked, before, preview, timer] = [[], new Map(), new Set(), null, 0];

function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function button(name, title, onclick) {
  const element = made("button", { type: "button", textContent: name, onclick });
  if (title) element.setAttribute("aria-label", `${name}: ${title}`);
  return element;
}

function say(text) {
  $("status").textContent = text;
  clearTimeout(timer);
  timer = setTimeout(() => ($("status").textContent = ""), 4000);
}

/** Letters and digits alone, without accents, so that "amelie" finds Amélie. */
const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/[^\p{L}\p{N}]+/gu, " ").trim();

/** A device: in this page's memory, or in the browser if the user has asked for that. */
async function opened(keeping) {
  const found = await open({ app: APP, preset: "movies", service, keeping, worker: false });
  await found.updateModel(files);
  return found;
}

/** What was chosen in this page counts as asked for: nothing is written unless the box is ticked. */
async function inMemory() {
  const found = await opened("memory");
  await found.consent.grant("store", { version: TEXT });
  return found;
}

/** Tells the device what the user did, and shows what follows. */
async function did(kind, item) {
  const { label } = films.get(item);
  const outcome = shown.some((each) => each.item === item) ? (await device.feedback(shown, { [item]: kind })).at(-1) : await device.track(kind, item);
  if (outcome !== "stored") return say(`Not taken: ${device.problem || outcome}`);
  if (kind === "like") liked.set(item, label);
  else liked.delete(item);
  say(kind === "like" ? `You like ${label}` : `Less like ${label}`);
  await lists();
}

function film(item, reason, actions, fresh) {
  const { label, kinds } = films.get(item);
  const about = made("div", { className: "what" }, made("p", { className: "title", textContent: label }));
  if (kinds.length) about.append(made("p", { className: "small-print", textContent: kinds.join(", ") }));
  if (reason) about.append(made("p", { className: "reason", textContent: reason[0].toUpperCase() + reason.slice(1) }));
  const row = made("div", { className: "row" }, about, made("div", { className: "choices" }, ...actions.map(([name, act]) => button(name, label, act))));
  return made("li", { className: fresh ? "new" : "" }, row);
}

/** Where the focus is in a list, as its places, so that it stays there when the list is made anew. */
function focused() {
  for (const list of ["own", "crowd", "picked", "found"]) {
    const place = [...$(list).children].findIndex((each) => each.contains(document.activeElement));
    if (place >= 0) return [list, place, [...$(list).children[place].querySelectorAll("button")].indexOf(document.activeElement)];
  }
  return null;
}

async function lists() {
  const at = focused();
  shown = await device.recommend(LISTED, { filterItems: [...liked.keys()] });
  const own = shown.filter(({ because }) => because.length).length;
  const none = shown.some(({ source }) => source === "panel") ? "It goes with your taste as a whole." : "You picked nothing yet: it is what most people had, and some by chance.";
  $("own-lead").textContent = own ? `${own} of ${shown.length} because of what you picked.` : none;
  $("own").replaceChildren(...shown.map(({ item, reason }) => film(item, reason, [["Like", () => did("like", item)], ["Not for me", () => did("dismiss", item)]], before.size && !before.has(item))));
  before = new Set(shown.map(({ item }) => item));
  $("crowd").replaceChildren(...ranked.slice(0, LISTED).map((item) => film(item, "", liked.has(item) ? [] : [["Like", () => did("like", item)]], false)));
  $("picked").replaceChildren(...[...liked].map(([item, label]) => made("li", {}, button(`${label} ✕`, "", () => did("dismiss", item)))));
  for (const each of $("picked").querySelectorAll("button")) each.setAttribute("aria-label", `${each.textContent.slice(0, -2)}: not any more`);
  $("picked-part").hidden = !liked.size;
  find();
  if (at) {
    const [list, place, number] = at;
    const buttons = $(list).children[Math.min(place, $(list).children.length - 1)]?.querySelectorAll("button") ?? [];
    (buttons[Math.min(number, buttons.length - 1)] ?? $("title")).focus();
  }
  await facts();
}

/** Films of the title that is typed, then those that have it in theirs; of none, some that many people know. */
function find() {
  const wanted = plain($("title").value);
  const has = (item, fits) => films.get(item).plain.some(fits);
  const within = ranked.filter((item) => has(item, (title) => ` ${title}`.includes(` ${wanted}`)));
  const named = new Set(within.filter((item) => has(item, (title) => title === wanted)));
  const hits = wanted ? [...named, ...within.filter((item) => !named.has(item))] : offered();
  const left = hits.filter((item) => !liked.has(item));
  const most = wanted ? SHOWN : OFFERED;
  $("count").textContent = !wanted ? "Or begin with one of these:" : left.length ? `${left.length} found${left.length > most ? `, ${most} shown` : ""}` : `No film of ${ranked.length.toLocaleString("en")} has that in its title`;
  $("found").replaceChildren(...left.slice(0, most).map((item) => made("li", {}, button(films.get(item).label, "", () => picked(item)))));
}

/** Well-known films of every decade in turn. */
function offered() {
  const [seen, turns] = [new Map(), []];
  for (const item of ranked.slice(0, KNOWN)) {
    const decade = Math.floor((films.get(item).year ?? 0) / 10);
    const turn = (seen.get(decade) ?? 0) + 1;
    seen.set(decade, turn);
    (turns[turn] ??= []).push(item);
  }
  return turns.flat();
}

async function picked(item) {
  $("title").value = "";
  await did("like", item);
  $("title").focus();
}

async function facts() {
  const { sent, opened: openly, contacts, storage } = await device.privacyReport();
  const left = sent.length + openly.length + contacts.length;
  $("left").textContent = left ? `${left} messages` : "Nothing";
  $("kept").textContent = storage.kind === "memory" ? "What you pick is forgotten with this page." : "Kept in this browser, encrypted.";
  $("remember").checked = storage.kind !== "memory";
  $("imports").replaceChildren(...(await device.imports()).map(({ id, service: from, events }) => made("li", {}, `${events} from ${from} `, button("Undo", `the import from ${from}`, () => undo(id)))));
}

async function undo(id) {
  say(`${await device.forgetImport(id)} taken out again`);
  await lists();
}

/** Moves what there is from memory to the browser, or back. */
async function move(lasting) {
  const lines = await (await device.export()).text();
  if (!lasting) await device.erase();
  else await device.close();
  device = lasting ? await opened("any") : await inMemory();
  if (lasting) await device.consent.grant("store", { version: TEXT });
  await device.import(lines);
  await lists();
  say($("remember").checked ? "Kept in this browser from now on." : "Nothing is kept in this browser.");
}

async function read(options = {}) {
  const [file] = $("file").files;
  if (!file) return;
  try {
    preview = await device.importHistory(file, options);
  } catch (error) {
    preview = null;
    $("preview").hidden = true;
    return say(error.message);
  }
  const [question] = Object.entries(preview.questions);
  $("preview").hidden = false;
  $("preview-words").textContent = question ? "One question first." : `${preview}`;
  $("ask").hidden = !question;
  $("confirm").hidden = !preview.toConfirm.length;
  $("confirm").replaceChildren($("confirm").querySelector("legend"), ...preview.toConfirm.map((each, place) => made("label", {}, made("input", { type: "checkbox", value: place }), made("span", { textContent: `${each.title}: ${films.get(each.item).label}` }))));
  if (!question) return;
  const [name, choices] = question;
  $("ask").querySelector("label").textContent = name === "profile" ? "Whose history?" : "How are dates written in it?";
  $("answer").replaceChildren(made("option", { textContent: "Choose", value: "" }), ...choices.map((each) => made("option", { textContent: each, value: each })));
  $("answer").onchange = () => $("answer").value && read({ ...options, [name]: $("answer").value });
}

$("preview").onsubmit = async (event) => {
  event.preventDefault();
  const ticked = [...$("confirm").querySelectorAll("input:checked")].map(({ value }) => preview.toConfirm[Number(value)]);
  const { stored } = await preview.store(ticked);
  closed();
  say(`${stored} added`);
  await lists();
};

function closed() {
  $("preview").hidden = true;
  $("file").value = "";
}

async function start() {
  const bytes = await Promise.all(MODEL.map(loaded));
  files = Object.fromEntries(MODEL.map((name, place) => [name, bytes[place]]));
  // A real app has the key of its own server built in.
  const { public_key: publicKey, population, provenance } = JSON.parse(new TextDecoder().decode(files["manifest.json"]));
  service = { publicKey, population, participations: 0 };
  const [known, fresh] = await Promise.all([hasStore(APP), inMemory()]);
  for (const each of await fresh.items()) films.set(each.item, { ...each, label: each.label, plain: [each.title, ...each.alternatives].map(plain) });
  const popular = (await fresh.recommend(KNOWN, { explore: 0, tuned: false })).map(({ item }) => item);
  ranked = [...new Set([...popular, ...films.keys()])];
  device = known ? await opened("any") : fresh;
  $("lead").textContent = `The list below changes as you pick, in this page: ${ranked.length.toLocaleString("en")} films, nothing is sent.`;
  $("made").textContent = `A list is worked out from ${provenance.interactions.toLocaleString("en")} ratings that ${provenance.people.toLocaleString("en")} people posted openly (${provenance.source}, ${provenance.licence}). The model is ${provenance.privacy}.`;
  for (const id of ["title", "remember", "file", "export", "erase"]) $(id).disabled = false;
  if (known) await remembered();
  await lists();
  // What reads and writes files is loaded now, so that it is there without a network, too.
  await Promise.all([device.export(), device.importHistory(new File([""], "nothing.csv")).catch(() => undefined)]);
  document.body.dataset.ready = "";
}

/** What was picked on an earlier visit. */
async function remembered() {
  for (const line of (await (await device.export()).text()).split("\n").filter(Boolean)) {
    const { kind, item } = JSON.parse(line);
    if (kind === "like" && films.has(item)) liked.set(item, films.get(item).label);
    if (kind === "dismiss") liked.delete(item);
  }
}

async function loaded(name) {
  const answer = await fetch(`films/${name}`);
  if (!answer.ok) throw new Error(`${name} is not there`);
  return new Uint8Array(await answer.arrayBuffer());
}

$("title").oninput = find;
$("title").onkeydown = ({ key }) => {
  if (key === "Enter" && $("title").value) $("found").querySelector("button")?.click();
};
$("remember").onchange = () => move($("remember").checked);
$("file").onchange = () => read();
$("leave").onclick = closed;
$("export").onclick = async () => {
  const link = made("a", { href: URL.createObjectURL(await device.export()), download: `${APP}.jsonl` });
  link.click();
  URL.revokeObjectURL(link.href);
  say("A file with all that this page knows of you. It is not encrypted.");
};
$("erase").onclick = () => $("sure").showModal();
$("sure").onclose = async () => {
  if ($("sure").returnValue !== "yes") return;
  $("sure").returnValue = "";
  await device.erase();
  [liked, before, device] = [new Map(), new Set(), await inMemory()];
  closed();
  say("Erased.");
  await lists();
};
start().catch((error) => ($("lead").textContent = `This doesn't work here: ${error.message}`));
