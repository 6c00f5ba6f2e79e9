// The sandbox's own script: the switch takes effect at once, and the chosen person's page is shown beside.
"use strict";
(() => {
  const controls = document.getElementById("controls");
  const pause = document.getElementById("pause");
  const row = document.getElementById("row");
  const language = document.getElementById("language");
  const own = document.getElementById("own");
  const waits = document.getElementById("waits");

  function send(fields) {
    return fetch("set", { method: "POST", body: new URLSearchParams(fields), redirect: "manual" });
  }
  controls.addEventListener("change", (event) => send({ [event.target.name]: event.target.value }));
  controls.addEventListener("submit", (event) => {
    event.preventDefault();
    send({ clock: pause.value });
  });

  // What another window has set, or who has erased their device, is shown here, too.
  function follow() {
    const state = document.getElementById("state")?.dataset;
    if (!state) return;
    for (const name of ["policy", "pace"]) {
      const found = controls.querySelector(`input[name="${name}"][value="${state[name]}"]`);
      if (found && !found.checked) found.checked = true;
    }
    pause.value = state.paused === "yes" ? "go" : "pause";
    pause.textContent = state.paused === "yes" ? "Go on" : "Pause";
    const persons = state.persons ? state.persons.split(",") : [];
    const before = [...row.options].filter((each) => !each.dataset.gone).map((each) => each.value);
    if (document.activeElement !== row && persons.join() !== before.join()) {
      const chosen = row.value;
      row.replaceChildren(...persons.map((each) => new Option(String(Number(each) + 1), each)));
      if (chosen !== "" && !persons.includes(chosen)) {
        // Not somebody else's page in the place of theirs, as if nothing had been erased.
        const gone = new Option(`${Number(chosen) + 1} (erased)`, chosen);
        gone.dataset.gone = "yes";
        row.append(gone);
      }
      row.value = chosen || (persons[0] ?? "");
      if (!persons.includes(chosen)) show();
    }
  }
  function show() {
    if (row.value === "" || !document.getElementById("more-person").open) return;
    own.src = `person/${language.value}/${row.value}`;
  }
  // To erase waits for the end of the day, which can take a while: the button says so until the frame shows something else.
  function wait(event) {
    if (waits.textContent) return event.preventDefault();
    if (event.target.elements.do.value !== "erase") return;
    waits.lang = language.value;
    waits.textContent = event.submitter.textContent = language.selectedOptions[0].dataset.waits;
    event.submitter.ariaBusy = event.submitter.ariaDisabled = "true";
  }
  own.addEventListener("load", () => {
    waits.textContent = "";
    own.contentDocument?.addEventListener("submit", wait);
  });
  document.getElementById("more-person").addEventListener("toggle", show);
  row.addEventListener("change", show);
  language.addEventListener("change", show);
  document.getElementById("choose").addEventListener("submit", (event) => {
    event.preventDefault();
    show();
  });
  document.getElementById("board").addEventListener("section", (event) => {
    if (event.target.id === "top") follow();
  });
  follow();
})();
