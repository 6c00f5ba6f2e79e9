"""The tables of the page: key numbers, every metric, the data.

It turns the nested dicts of `result.json` into rows of text; the template escapes them.

    header, rows = every_metric(result)
"""

from collections.abc import Mapping
from typing import Any

from palate_sim.plots.quality import ranking
from palate_sim.progress.wording import best_first, fitted_name, point, primary_metric, short

Rows = list[tuple[str, ...]]
_WORDS = {
    "name": "split", "train_users": "training users", "times_missing": "events without a time",
    "times_out_of_order": "events out of order in time",
}  # fmt: skip


def value_text(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return short(value) if abs(value) < 1e-3 or abs(value) >= 1e6 else f"{value:,.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(value_text(part) for part in value) or "none"
    return str(value)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Rows:
    """Nested settings as (dotted name, value)."""
    rows: Rows = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += flatten(value, f"{prefix}{key}.")
        elif not isinstance(value, Mapping):
            rows.append((f"{prefix}{key}", value_text(value)))
    return rows


def seconds_text(seconds: float) -> str:
    """Seconds as text: "12.3 s", "4 min 10 s"."""
    return f"{seconds:.1f} s" if seconds < 120 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


def bytes_text(count: float) -> str:
    """Bytes as text in decimal units."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def key_numbers(result: Mapping[str, Any]) -> Rows:
    """What the run took."""
    spent, rows = result.get("seconds") or {}, Rows()
    if result.get("interactions") is not None:
        rows.append(("interactions", f"{result['interactions']:,} of training users"))
    if "wall" in spent:
        cpu = f", {seconds_text(spent['cpu'])} of CPU" if "cpu" in spent else ""
        rows.append(("time", seconds_text(spent["wall"]) + cpu))
    if result.get("updates_per_cpu_second") is not None:
        rows.append(("speed", f"{result['updates_per_cpu_second']:,.0f} client updates per CPU-second"))
    if result.get("peak_memory_bytes") is not None:
        rows.append(("memory", f"{bytes_text(result['peak_memory_bytes'])}, peak of the largest process"))
    return rows


def every_metric(result: Mapping[str, Any]) -> tuple[tuple[str, ...], Rows]:
    """All models by all metrics, means only, best first by the run's own metric."""
    metrics = [str(metric) for metric in result.get("metrics") or {}]
    models = {"palate": result.get("metrics") or {}, **(result.get("baselines") or {})}
    ranked = [name for name, *_ in ranking(result)] or list(models)
    rows: Rows = []
    for name in [*ranked, *(model for model in models if model not in ranked)]:
        raw = models[name]
        cells = [point(raw.get(metric)) if isinstance(raw, Mapping) else None for metric in metrics]
        rows.append((fitted_name(name, result), *(f"{cell[0]:.3f}" if cell else "" for cell in cells)))
    return ("model", *metrics), rows


def by_domain(result: Mapping[str, Any]) -> tuple[tuple[str, ...], Rows]:
    """Each domain by itself: every model there, best first, and the quality for users who are new in it."""
    metric, rows = primary_metric(result), Rows()
    found = result.get("by_domain") or {}
    for domain, facts in found.items():
        models = {name: point(table.get(metric)) for name, table in (facts.get("models") or {}).items()}
        known = {name: value for name, value in models.items() if value}
        for name in sorted(known, key=lambda name: best_first(known[name][0], metric)):
            mean, low, high = known[name]
            new = (facts.get("new") or {}).get(name)
            told, interval = "" if new is None else f"{new:.3f}", f"{low:.3f} to {high:.3f}" if low < high else ""
            rows.append((fitted_name(name, result), domain, f"{mean:.3f}", interval, told))
    return ("model", "domain", metric, "95 % interval", "of those who are new there"), rows


def recency(result: Mapping[str, Any]) -> tuple[tuple[str, ...], Rows]:
    """Quality under the run's own split and a temporal one, there with and without recency; no rows if unknown."""
    found = result.get("recency") or {}
    metric, own = str(found.get("metric", "")), point((result.get("metrics") or {}).get(primary_metric(result)))
    judged = {name: point(table.get(metric)) for name, table in (found.get("metrics") or {}).items()}
    named = [(f"{(result.get('split') or {}).get('name', 'its own')}, the run's own", own)]
    named.append(("temporal", judged.get("palate")))
    if "palate_recent" in judged:
        days = f"{found['half_life_days']:g} days"
        named.append((f"temporal, recent events count more: half-life {days}", judged["palate_recent"]))
    rows: Rows = [
        (name, f"{value[0]:.3f}", f"{value[1]:.3f} to {value[2]:.3f}" if value[1] < value[2] else "")
        for name, value in named
        if value
    ]
    return ("split", metric, "95 % interval"), (rows if judged else [])


def domain_sizes(result: Mapping[str, Any]) -> Rows:
    """What each domain holds, in words."""
    told = "{items:,} items, {events:,} interactions of training users; {users:,} test users, {new_users:,} of them new"
    return [
        (domain, f"{told.format(**facts)} (at most 5 events there)")
        for domain, facts in (result.get("by_domain") or {}).items()
    ]


def data(result: Mapping[str, Any]) -> list[tuple[str, Rows]]:
    """What was done to the data before training: repairs, preparation, split; empty parts left out."""
    parts = (("Repaired while reading", "repairs"), ("Prepared for the experiment", "preparation"), ("Split", "split"))
    found: list[tuple[str, Rows]] = []
    for title, key in parts:
        known = {name: value for name, value in (result.get(key) or {}).items() if value not in (None, [], {})}
        rows: Rows = [(_WORDS.get(name, words(name)), value) for name, value in flatten(known)]
        if rows:
            found.append((title, rows))
    return found


def words(name: str) -> str:
    """A key as words."""
    return name.replace("_", " ").replace(".", ": ")
