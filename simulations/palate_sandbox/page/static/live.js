// The page's own script: times in the reader's zone, whether the page is live, and what was opened stays open.
"use strict";
(() => {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const precise = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const brief = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
  const alone = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", timeZone: "UTC" });
  const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
  const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

  function distance(then) {
    const seconds = (then - Date.now()) / 1000;
    const [unit, size] = UNITS.find(([, each]) => Math.abs(seconds) >= each) ?? ["second", 1];
    return relative.format(Math.round(seconds / size), unit);
  }

  function tell(root) {
    for (const each of root.querySelectorAll("time[data-as]")) {
      const then = new Date(each.dateTime);
      const text = each.dataset.as === "ago" ? distance(then) : each.dataset.as === "date" ? day.format(then) : brief.format(then);
      if (each.textContent !== text) each.textContent = text;
      each.title = `${precise.format(then)} ${zone}`;
    }
    for (const each of root.querySelectorAll("time[data-day]")) each.textContent = alone.format(new Date(each.dateTime));
    for (const each of root.querySelectorAll("text[data-at]")) each.textContent = day.format(new Date(each.dataset.at));
  }

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
    tell(section);
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

  document.getElementById("zone").textContent = `times in ${zone}`;
  tell(document);
  window.setInterval(() => {
    if (!document.hidden) tell(document);
  }, 1000);
  document.addEventListener("visibilitychange", () => tell(document));
})();
