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
  let heard = 0;
  function state(name, text) {
    if (live.dataset.state !== name) {
      live.dataset.state = name;
      words.textContent = text;
    }
  }
  function lost() {
    state("lost", "connection lost: what stands here may be old");
  }

  function hear() {
    heard = Date.now();
    state("live", "live");
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
  let seen = board.dataset.seen;
  function listen() {
    const source = new EventSource(`live?seen=${encodeURIComponent(seen)}`);
    source.addEventListener("open", hear);
    source.addEventListener("beat", hear);
    source.addEventListener("error", () => {
      lost();
      // A browser tries again where the connection was lost, and not where it was refused.
      if (source.readyState === EventSource.CLOSED) window.setTimeout(listen, 10000);
    });
    for (const section of board.querySelectorAll("[data-live]")) {
      source.addEventListener(section.id, (event) => {
        seen = event.lastEventId || seen;
        put(section, event.data);
        hear();
      });
    }
  }
  listen();

  document.getElementById("zone").textContent = `times in ${zone}`;
  tell(document);
  window.setInterval(() => {
    if (document.hidden) return;
    tell(document);
    if (heard && Date.now() - heard > 25000) lost();
  }, 1000);
  document.addEventListener("visibilitychange", () => tell(document));
})();
