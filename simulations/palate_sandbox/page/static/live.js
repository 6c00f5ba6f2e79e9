// The page's own script: whether the page is live, and what was opened stays open.
"use strict";
(() => {
  const live = document.getElementById("live");
  const words = document.getElementById("live-words");
  const REACHED = "summary, a, button, [tabindex]";
  function state(name, text) {
    if (live.dataset.state !== name) {
      live.dataset.state = name;
      words.textContent = text;
    }
  }
  // A section that changes keeps what its reader has opened, shut, scrolled or focused.
  function put(section, html) {
    const active = document.activeElement;
    const kept = {
      open: new Map([...section.querySelectorAll("details[id]")].map((each) => [each.id, each.open])),
      scroll: [...section.querySelectorAll(".scroll")].map((each) => [each.scrollTop, each.scrollLeft]),
      place: section.contains(active) && active !== section ? [...section.querySelectorAll(REACHED)].indexOf(active) : -1,
    };
    section.innerHTML = html;
    for (const [id, open] of kept.open) {
      const found = document.getElementById(id);
      if (found) found.open = open;
    }
    section.querySelectorAll(".scroll").forEach((each, place) => {
      [each.scrollTop, each.scrollLeft] = kept.scroll[place] ?? [0, 0];
    });
    if (kept.place >= 0) section.querySelectorAll(REACHED)[kept.place]?.focus({ preventScroll: true });
    section.dispatchEvent(new CustomEvent("section", { bubbles: true }));
  }

  const board = document.getElementById("board");
  const shown = {};
  let seen = board.dataset.seen;
  function show(sections) {
    for (const [name, html] of Object.entries(sections)) {
      if (shown[name] !== html) put(document.getElementById(name), html);
      shown[name] = html;
    }
  }
  // A click on a title changes the list at once: what comes back is the section that it changes.
  document.getElementById("you").addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new URLSearchParams([[event.submitter.name, event.submitter.value]]);
    const answer = await fetch("you", { method: "POST", body, headers: { accept: "application/json" } });
    if (answer.ok) show((await answer.json()).sections);
  });
  async function ask() {
    try {
      const answer = await fetch(`live?seen=${encodeURIComponent(seen)}`, { signal: AbortSignal.timeout(25000) });
      if (!answer.ok) throw new Error(String(answer.status));
      if (answer.status !== 204) {
        const found = await answer.json();
        show(found.sections);
        seen = found.seen;
      }
      state("live", "live");
    } catch {
      state("lost", "connection lost: what stands here may be old");
    }
    window.setTimeout(ask, 250);
  }
  ask();
})();
