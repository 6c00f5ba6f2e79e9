// A page without a build: one module, which imports the package from where the site serves it. Until the box is ticked nothing is stored
// in the browser: the device is in the page's memory, and its store is made by the first `grant`.
import { open } from "../dist/index.js";

const device = await open({
  app: "script-tag",
  service: { publicKey: "3b60a165e4bb4d70ac4b5153e4b41b3cbfd970cebff24e4305569cad68842ee7", population: "sample: made readers, no rounds" },
});
await device.updateModel(new URL("../../../simulations/palate/sample_model/", import.meta.url));

async function show() {
  const shown = await device.recommend(5);
  document.querySelector("#list").replaceChildren(
    ...shown.map(({ item, reason }) => Object.assign(document.createElement("li"), { textContent: `${item}: ${reason}` })),
  );
}

const agree = document.querySelector("#agree");
agree.checked = await device.consent.get("store");
agree.onchange = async () => {
  agree.disabled = true; // until it holds, also after the page is closed
  await (agree.checked ? device.consent.grant("store", { version: "2026-11" }) : device.consent.revoke("store"));
  agree.disabled = false;
};
document.querySelector("#open").onclick = async () => {
  await device.track("view", "book-7");
  await show();
};
await show();
