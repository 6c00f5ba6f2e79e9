"""The page of an audit: any number of sections in one HTML file that loads nothing.

`palate audit ... --out` writes it; it joins findings, bounds and charts with the template.

    Path("audit.html").write_text(render([section]))
"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from typing import Any

from palate_audit.evidence import claim as claims
from palate_audit.evidence.chance import ALPHA
from palate_audit.evidence.evidence import Bound, Finding, Section, Verdict
from palate_audit.report import figures as plots
from palate_sim.report import card as cards
from palate_sim.report.charts import Chart, freeze
from palate_sim.report.page import parts_of_page
from palate_sim.report.tables import Rows, value_text, words
from palate_sim.templates import environment

SHORT = 12
"""Letters that fit into a tile."""
_TITLES = {
    "card": "The privacy card", "ledger": "The ledger", "mechanism": "The mechanism",
    "attacks": "Attacks",
}  # fmt: skip
_VERDICTS = {Verdict.PASS: "pass", Verdict.ALARM: "ALARM", Verdict.UNCHECKABLE: "not checkable"}


PARTS = {
    "ledger": (
        "palate audit ledger DIR",
        "was everything charged, is the claim what the charges cost, was anything changed since?",
    ),
    "mechanism": ("palate audit mechanism", "does the code that clips, sums and adds noise do what it claims?"),
    "attacks": (
        "palate audit attacks DIR",
        "what does an attacker get out of the run, beside the most that its claim allows?",
    ),
    "card": ("palate audit card DIR", "does the card say what the ledger says, and who signed it?"),
}  # fmt: skip
"""Each part of an audit: the command that makes it, and what it asks."""
CONTROLS = "Controls: does each attack work where nothing protects?"
WIDE_CHARTS = ("-roc",)
"""Charts that need the whole width, by the end of their names."""
WITHIN = "Attacks on what is protected: does any get more than the claim allows?"


def render(sections: Sequence[Section]) -> str:
    """The page as text.

    Args:
        sections: the parts of the audit.
    """
    pages = environment()
    charts: dict[str, Chart] = {}
    parts = [_part(section, charts) for section in sections]
    counts = {verdict: sum(section.counts[verdict] for section in sections) for verdict in Verdict}
    claim = _claim(sections)
    unclaimed = next((section.unclaimed for section in sections if section.unclaimed is not None), None)
    return pages.get_template("audit.html.j2").render(
        parts=parts,
        charts=charts,
        wide=WIDE_CHARTS,
        claim=None if claim is None else claims.rows(claim),
        stamp=None if claim is None else claim.get("stamp"),
        unclaimed=unclaimed,
        alarms=_all(parts, Verdict.ALARM),
        unchecked=_all(parts, Verdict.UNCHECKABLE),
        missing=[(_TITLES[name], *PARTS[name]) for name in PARTS if name not in {section.name for section in sections}],
        headline=_headline(counts, unclaimed, sum(len(section.broken) for section in sections)),
        tiles=_tiles(counts, sum(section.controls for section in sections), claimed=unclaimed is None),
        alpha=f"{ALPHA:g}",
        created=datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=version("palate"),
        **parts_of_page(pages),
    )


def _claim(sections: Sequence[Section]) -> Mapping[str, Any] | None:
    """What is claimed: by the ledger, or else by the first part that says so."""
    told = [section.series["claim"] for section in sections if isinstance(section.series.get("claim"), Mapping)]
    facts = [section.series.get("facts") or {} for section in sections]
    return next(iter(told), None) or next(filter(None, map(claims.of_facts, facts)), None)


def _all(parts: Sequence[Mapping[str, Any]], verdict: Verdict) -> list[tuple[str, str, str]]:
    """The part, test and sentence of each finding with a verdict."""
    return [
        (part["title"], test, said)
        for part in parts
        for kind, _, test, said in part["urgent"]
        if kind == verdict.name.lower()
    ]


def _tiles(counts: Mapping[Verdict, int], controls: int, *, claimed: bool) -> list[tuple[str, str, str]]:
    """The counters; controls stand apart from passes."""
    notes = _TOLD if claimed else {**_TOLD, Verdict.PASS: "files and records fit: that says nothing of privacy"}
    told = [(words(verdict.value), f"{counts[verdict]:,}", notes[verdict]) for verdict in Verdict]
    return told + ([("controls", f"{controls:,}", "attacks that work where nothing protects")] if controls else [])


_TOLD = {
    Verdict.PASS: "nothing found that contradicts the claim",
    Verdict.ALARM: "the evidence exceeds the claim",
    Verdict.UNCHECKABLE: "what the test needs is not there",
}


def _headline(counts: Mapping[Verdict, int], unclaimed: str | None, broken: int) -> str:
    """The result of the audit, in a sentence."""
    if number := counts[Verdict.ALARM]:
        return f"The evidence exceeds the claim: {number} finding{'s' if number > 1 else ''}."
    if unclaimed is not None:
        return f"{unclaimed}. Nothing is claimed, so that nothing could be found to exceed it."
    if broken:
        return f"{broken} test{'s' if broken > 1 else ''} could not run: this audit is not complete."
    if counts[Verdict.UNCHECKABLE]:
        said = "Nothing found that exceeds the claim" if counts[Verdict.PASS] else "Nothing was checked"
        number = counts[Verdict.UNCHECKABLE]
        return f"{said}; {number} thing{'s' if number > 1 else ''} could not be checked."
    return "Nothing found that exceeds the claim."


def _part(section: Section, charts: dict[str, Chart]) -> dict[str, Any]:
    """One section for the template; adds its charts to `charts`."""
    own = {f"{section.name}-{place}": chart for place, chart in _charts(section.series).items()}
    charts |= own
    known = section.series
    facts = [(words(str(name)), value_text(value)) for name, value in (known.get("facts") or {}).items()]
    tiles, details = ([row for row in facts if (len(row[1]) <= SHORT) is fits] for fits in (True, False))
    tables: list[tuple[str, tuple[str, ...], Rows]] = [
        (str(t["title"]), tuple(map(str, t["header"])), [tuple(map(value_text, row)) for row in t["rows"]])
        for t in known.get("tables") or []
    ]
    card = known.get("card")
    shown = None
    if card:
        shown = {
            "guarantee": card.get("guarantee"),
            "stamp": card.get("stamp"),
            "groups": cards.card_groups(card),
            "releases": cards.releases(card),
            "exclusions": cards.exclusions(card),
        }
    return {
        "section": section,
        "title": _TITLES.get(section.name, section.name),
        "verdict": _summary(section),
        "asks": PARTS[section.name][1].capitalize() if section.name in PARTS else "",
        "urgent": [_row(found) for found in section.findings if found.verdict is not Verdict.PASS],
        "groups": _groups(section),
        "made": [(words(str(name)), str(value)) for name, value in (known.get("made") or {}).items() if value],
        "bounds": [_bound(bound) for bound in section.bounds],
        "tiles": tiles,
        "details": details,
        "charts": list(own),
        "tables": tables,
        "card": shown,
    }


def _row(found: Finding) -> tuple[str, str, str, str]:
    """A finding as a row: kind, verdict in words, test, sentence."""
    verdict = "works" if found.control and found.verdict is Verdict.PASS else _VERDICTS[found.verdict]
    return found.verdict.name.lower(), verdict, found.test, found.sentence


def _groups(section: Section) -> list[dict[str, Any]]:
    """The findings that passed; the controls of attacks stand apart."""
    grouped: dict[str, list[tuple[str, str, str, str]]] = {}
    rest = WITHIN if section.name == "attacks" else "Passed"
    for found in sorted(section.findings, key=lambda found: found.control):
        if found.verdict is Verdict.PASS:
            grouped.setdefault(CONTROLS if found.control else rest, []).append(_row(found))
    return [
        {"title": title, "verdict": f"{len(rows)} {'work' if title == CONTROLS else 'passed'}", "findings": rows}
        for title, rows in grouped.items()
    ]


def _summary(section: Section) -> str:
    """The counts of a section's verdicts; if there are alarms, only their count."""
    counts, controls = section.counts, f", {section.controls} controls work" if section.controls else ""
    if counts[Verdict.ALARM]:
        return f"{counts[Verdict.ALARM]} ALARM{'S' if counts[Verdict.ALARM] > 1 else ''}"
    open_ = f", {counts[Verdict.UNCHECKABLE]} not checkable" if counts[Verdict.UNCHECKABLE] else ""
    return f"{counts[Verdict.PASS]} passed{open_}{controls}"


def _bound(bound: Bound) -> tuple[str, ...]:
    """A bound as a row of the table; all rungs look alike."""
    mu = "" if bound.mu is None else f"{bound.mu:.4f}"
    numbers = (f"{bound.epsilon:.4f}", f"{bound.claimed:.4f}", f"{bound.ratio:.3f}")
    return (f"{bound.rung.value}: {bound.name}", mu, *numbers, f"{bound.confidence:.4g}")


def _charts(series: Mapping[str, Any]) -> dict[str, Chart]:
    """Every chart that there are numbers for."""
    found: dict[str, Chart] = {}
    for index, bins in enumerate(series.get("scores") or []):
        rows: Rows = [
            (f"{low:.5g} to {high:.5g}", *(str(bins[key][at]) if bins[key] else "" for key in ("in", "out")))
            for at, (low, high) in enumerate(pairwise(bins["edges"]))
        ]
        title = f"Scores of canaries: {bins['name']}"
        alt = f"{title}: {sum(bins['in'])} in it, {sum(bins['out'] or [0])} not in it, as histograms."
        caption = "The further apart the two lie, the more the releases say of one contribution."
        found[f"scores-{index}"] = freeze(plots.scores(bins), title, caption, ("score", "in it", "not"), rows, alt)
    if curves := series.get("roc"):
        rows = [
            (curve["name"], f"{x:.3g}", f"{y:.3g}") for curve in curves for x, y in _few(curve["fpr"], curve["tpr"])
        ]
        caption = (
            "Each curve is an attack. One that keeps above its dashed ceiling by more than chance refutes the claim; "
        )
        caption += "near the ceiling or a little above it within chance, it only shows that the claim is not loose. "
        caption += "Controls, where nothing protects, must lie far above: else the attack is too weak to tell anything."
        title, header = "Attacks, true against false positives", ("attack", "false positives", "true positives")
        alt = f"{title}: {', '.join(curve['name'] for curve in curves)}."
        found["roc"] = freeze(plots.rocs(curves), title, caption, header, rows, alt)
    return found


def _few(x: Sequence[float], y: Sequence[float], most: int = 25) -> list[tuple[float, float]]:
    """Some points of a curve, for the table."""
    step = max(1, len(x) // most)
    return list(zip(x[::step], y[::step], strict=True))
