// The sandbox's own script: the switch takes effect at once, and what another window has set is shown here, too.
"use strict";
(() => {
  const controls = document.getElementById("controls");
  const pause = document.getElementById("pause");

  function send(fields) {
    return fetch("set", { method: "POST", body: new URLSearchParams(fields), redirect: "manual" });
  }
  controls.addEventListener("change", (event) => send({ [event.target.name]: event.target.value }));
  controls.addEventListener("submit", (event) => {
    event.preventDefault();
    send({ clock: pause.value });
  });
  function follow() {
    const state = document.getElementById("state")?.dataset;
    if (!state) return;
    for (const name of ["policy", "pace"]) {
      const found = controls.querySelector(`input[name="${name}"][value="${state[name]}"]`);
      if (found && !found.checked) found.checked = true;
    }
    pause.value = state.paused === "yes" ? "go" : "pause";
    pause.textContent = state.paused === "yes" ? "Go on" : "Pause";
  }
  document.getElementById("board").addEventListener("section", (event) => {
    if (event.target.id === "top") follow();
  });
  follow();
})();
