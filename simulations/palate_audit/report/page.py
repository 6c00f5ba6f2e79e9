"""The page of an audit: any number of sections in one HTML file that loads nothing.

`palate audit ... --out` writes it; it joins findings, bounds and charts with the template.

    Path("audit.html").write_text(render([section]))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]  # plotly ships no types

from palate_audit.evidence.evidence import ALPHA, Bound, Rung, Section, Verdict
from palate_audit.report import figures as plots
from palate_sim.plots.theme import INK
from palate_sim.report import card as cards
from palate_sim.report.charts import Chart, freeze
from palate_sim.report.page import policy
from palate_sim.report.tables import Rows, value_text, words
from palate_sim.templates import environment

LIMITS = (
    "That no finding is an alarm does not prove the claim: a lower bound on epsilon never proves an upper one. The "
    "upper one is the accounting, and it assumes that the stated code ran.",
    "A finding says something about the code and the files that were given. What ran on the operator's server, and "
    "whether devices ran this code, it can't see.",
    "A ledger that was rolled back and written anew looks whole, unless somebody outside remembers a checkpoint.",
    "An attack that fails proves nothing: a better one may succeed. One that succeeds beyond its ceiling proves that "
    "the claim is false.",
    "Participation, timing and dropout are not protected, and nothing here measures them.",
)
SHORT = 12
"""Letters that fit into a tile."""
_TITLES = {
    "card": "The privacy card", "ledger": "The ledger", "mechanism": "The mechanism", "mutants": "Broken on purpose",
    "attacks": "Attacks",
}  # fmt: skip
_RUNGS = {
    Rung.L0: "counts alone: canaries are independent",
    Rung.L1: "f-DP: the claimed trade-off curve is Gaussian",
    Rung.L2: "scores are Gaussian and independent: a parametric estimate, which other tests of the battery test",
}
_VERDICTS = {Verdict.PASS: "pass", Verdict.ALARM: "ALARM", Verdict.UNCHECKABLE: "not checkable"}


@dataclass(frozen=True)
class ReportPart:
    """A section as the template shows it."""

    name: str
    title: str
    subject: str
    verdict: str
    findings: list[tuple[str, str, str, str]]
    bounds: Rows
    assumptions: Sequence[str]
    tiles: list[tuple[str, str]]
    details: list[tuple[str, str]]
    charts: Sequence[str]
    tables: list[tuple[str, tuple[str, ...], Rows]]
    card: Mapping[str, Any] | None


def render(sections: Sequence[Section]) -> str:
    """The page as text."""
    pages = environment()
    library = Markup(get_plotlyjs())  # noqa: S704  # plotly's own file, not data
    behaviour = Markup(pages.get_template("report.js.j2").render(ink=INK))  # noqa: S704  # our own file, without data
    charts: dict[str, Chart] = {}
    parts = [_part(section, charts) for section in sections]
    alarms = [(part.title, *row) for part in parts for row in part.findings if row[0] == Verdict.ALARM.name.lower()]
    counts = {verdict: sum(f.verdict is verdict for s in sections for f in s.findings) for verdict in Verdict}
    return pages.get_template("audit.html.j2").render(
        parts=parts,
        charts=charts,
        alarms=alarms,
        headline=_headline(counts),
        tiles=[(words(v.value), f"{counts[v]:,}", _TOLD[v]) for v in Verdict],
        alpha=f"{ALPHA:g}",
        rungs=[(rung.value, said) for rung, said in _RUNGS.items()],
        limits=LIMITS,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=version("palate"),
        style=Markup(pages.get_template("report.css.j2").render()),  # noqa: S704  # our own file, without data
        library=library,
        behaviour=behaviour,
        policy=policy(library, behaviour),
    )


_TOLD = {
    Verdict.PASS: "nothing found that contradicts the claim",
    Verdict.ALARM: "the evidence exceeds the claim",
    Verdict.UNCHECKABLE: "what the test needs is not there",
}


def _headline(counts: Mapping[Verdict, int]) -> str:
    """The result of the audit, in a sentence."""
    if counts[Verdict.ALARM]:
        return f"The evidence exceeds the claim: {counts[Verdict.ALARM]} finding(s)."
    if counts[Verdict.UNCHECKABLE]:
        said = "Nothing found that exceeds the claim" if counts[Verdict.PASS] else "Nothing was checked"
        return f"{said}; {counts[Verdict.UNCHECKABLE]} thing(s) could not be checked."
    return "Nothing found that exceeds the claim."


def _part(section: Section, charts: dict[str, Chart]) -> ReportPart:
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
    return ReportPart(
        name=section.name,
        title=_TITLES.get(section.name, section.name),
        subject=section.subject,
        verdict=_summary(section),
        findings=[(f.verdict.name.lower(), _VERDICTS[f.verdict], f.test, f.sentence) for f in section.findings],
        bounds=[_bound(bound) for bound in section.bounds],
        assumptions=section.assumptions,
        tiles=tiles,
        details=details,
        charts=list(own),
        tables=tables,
        card=shown,
    )


def _summary(section: Section) -> str:
    """The counts of a section's verdicts; if there are alarms, only their count."""
    counts = {verdict: sum(found.verdict is verdict for found in section.findings) for verdict in Verdict}
    if counts[Verdict.ALARM]:
        return f"{counts[Verdict.ALARM]} ALARM{'S' if counts[Verdict.ALARM] > 1 else ''}"
    open_ = f", {counts[Verdict.UNCHECKABLE]} not checkable" if counts[Verdict.UNCHECKABLE] else ""
    return f"{counts[Verdict.PASS]} passed{open_}"


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
    if curves := series.get("delta_curve"):
        lines = {"claimed, at most": curves.get("claimed") or [], **(curves.get("measured") or {})}
        rows = [(name, f"{eps:.4g}", f"{delta:.3g}") for name, points in lines.items() for eps, delta in points]
        caption = (
            "Measured curves are lower bounds, one a rung: one above the claimed curve contradicts it. ε is for one "
        )
        caption += "user (one installation), zero-out adjacency."
        alt = f"delta of epsilon, {len(lines)} curves: {', '.join(lines)}."
        title = "δ(ε), claimed and measured"
        found["delta"] = freeze(plots.delta_curves(curves), title, caption, ("curve", "ε", "δ"), rows, alt)
    if table := series.get("kill_table"):
        rows = [(row["name"], ", ".join(row["killed_by"]) or "NOBODY") for row in table["mutants"]]
        dead = sum(bool(row["killed_by"]) for row in table["mutants"])
        title = f"Who kills whom: {dead} of {len(rows)} mutants are caught"
        caption = "Each row is a bug, put into the production code on purpose; each column a test."
        found["kills"] = freeze(plots.kills(table), title, caption, ("mutant", "killed by"), rows, f"{title}.")
    if curves := series.get("roc"):
        rows = [
            (curve["name"], f"{x:.3g}", f"{y:.3g}") for curve in curves for x, y in _few(curve["fpr"], curve["tpr"])
        ]
        caption = "Above the ceiling by more than chance, the claim is false. The unprotected control must succeed."
        title, header = "Attacks, true against false positives", ("attack", "false positives", "true positives")
        alt = f"{title}: {', '.join(curve['name'] for curve in curves)}."
        found["roc"] = freeze(plots.rocs(curves), title, caption, header, rows, alt)
    for index, panel in enumerate(series.get("intervals") or []):
        rows = [(r["name"], *(f"{r[key]:.4g}" for key in ("value", "low", "high"))) for r in panel["rows"]]
        top = panel.get("ceiling")
        caption = "Whiskers are intervals." + ("" if top is None else f" The claim implies a ceiling of {top:.4g}.")
        columns = ("", str(panel["axis"]), "low", "high")
        found[f"intervals-{index}"] = freeze(plots.intervals(panel), panel["title"], caption, columns, rows)
    return found


def _few(x: Sequence[float], y: Sequence[float], most: int = 25) -> list[tuple[float, float]]:
    """Some points of a curve, for the table."""
    step = max(1, len(x) // most)
    return list(zip(x[::step], y[::step], strict=True))
