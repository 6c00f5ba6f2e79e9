// The page's own script: whether the page is live, and what was opened stays open.
"use strict";
(() => {
  const live = document.getElementById("live");
  const words = document.getElementById("live-words");
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
      place: section.contains(active) && active !== section ? [...section.querySelectorAll("summary, a, [tabindex]")].indexOf(active) : -1,
    };
    section.innerHTML = html;
    for (const [id, open] of kept.open) {
      const found = document.getElementById(id);
      if (found) found.open = open;
    }
    section.querySelectorAll(".scroll").forEach((each, place) => {
      [each.scrollTop, each.scrollLeft] = kept.scroll[place] ?? [0, 0];
    });
    if (kept.place >= 0) section.querySelectorAll("summary, a, [tabindex]")[kept.place]?.focus({ preventScroll: true });
    section.dispatchEvent(new CustomEvent("section", { bubbles: true }));
  }

  const board = document.getElementById("board");
  const shown = {};
  let seen = board.dataset.seen;
  async function ask() {
    try {
      const answer = await fetch(`live?seen=${encodeURIComponent(seen)}`, { signal: AbortSignal.timeout(25000) });
      if (!answer.ok) throw new Error(String(answer.status));
      if (answer.status !== 204) {
        const found = await answer.json();
        for (const [name, html] of Object.entries(found.sections)) {
          if (shown[name] !== html) put(document.getElementById(name), html);
          shown[name] = html;
        }
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
