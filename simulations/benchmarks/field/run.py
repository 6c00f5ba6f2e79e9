"""Field: Palate on the field's own protocols, beside the private figures that others have published.

PYTHONPATH=simulations python simulations/benchmarks/field/run.py --parts ml-20m,ml-10m

`published.json` has the figures of others, each with its source; `standing` puts ours beside them.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import epsilon_label, privacy
from benchmarks.scale.run import GIB, once
from benchmarks.sheet import Part, Table, cell, command_of, main
from benchmarks.worlds import film_archives
from palate_sim.config import load_config
from palate_sim.progress.wording import display_name
from palate_sim.run.experiment import start

PUBLISHED = Path(__file__).parent / "published.json"
LISTS = ("recall_capped@20", "recall_capped@50", "ndcg@100")
BESIDE = ("popularity", "ease", "ease_sparse", "ials")
SEEDS = {"liang2018": 98765, "chien2021": 1234}
"""Those of the published scripts, which the presets have."""
EPSILONS: dict[str, tuple[float | None, ...]] = {"liang2018": (1, 5, 20, None), "chien2021": (1, 5, 10, 20, None)}
LABELS = {"auto": "with genres and decades", "none": "without features"}
FILMS = {"ml-20m": (138_493, 27_278, 20_000_263), "ml-10m": (69_878, 10_681, 10_000_054)}
"""Users, films and ratings, as MovieLens says of itself."""
SMALL: dict[str, dict[str, Any]] = {
    "liang2018": {"split.held_out_users": 600, "privacy.delta": 1e-5},
    "chien2021": {"algorithm.settings.lowest": 1},
}
"""MovieLens 1M has 6,040 users, and no half stars."""


def runs(preset: str, name: str, more: Mapping[str, Any], data: Path, seeds: Sequence[int]) -> Any:
    """Real runs of a protocol: every epsilon, with and without item features; from the data folder or by address."""
    source = data / name if (data / name).is_dir() else name
    figures = []
    for seed in seeds:
        for epsilon in EPSILONS[preset]:
            for features in LABELS:
                beside = BESIDE if preset == "liang2018" and (epsilon, features) == (None, "none") else ()
                keys = {**privacy(epsilon), "features.source": features, "seed": seed, **more}
                keys["evaluation.baselines"] = list(beside)
                found = one(preset, source, keys)
                figures.append({"seed": seed, "epsilon": epsilon, "features": features, **found})
                sys.stderr.write(f"{preset} {name} seed {seed} eps {epsilon_label(epsilon)} {features}: {found}\n")
    return figures


def one(preset: str, source: Path | str, keys: Mapping[str, Any]) -> dict[str, Any]:
    """One run: its metrics of the protocol, those of the baselines, and what it was cut into."""
    with tempfile.TemporaryDirectory() as folder:
        result = start(load_config(preset, keys), source=source, out=Path(folder) / "run").run().summary
    metrics = LISTS if preset == "liang2018" else ("rmse",)
    models = {"palate": result["metrics"], **result["baselines"]}
    return {
        "models": {name: {each: found[each]["mean"] for each in metrics} for name, found in models.items()},
        "delta": result["delta"],
        "users": [result["split"][f"{role}_users"] for role in ("train", "validation", "test")],
        "items": result["items"],
    }


def runs_tables(preset: str, label: str, figures: Any) -> list[Table]:
    """One row a model and epsilon."""
    metrics = LISTS if preset == "liang2018" else ("rmse",)
    values = defaultdict[tuple[str, str], list[float]](list)
    for each in figures:
        for model, found in each["models"].items():
            own = model == "palate"
            row = f"Palate, eps {epsilon_label(each['epsilon'])}, {LABELS[each['features']]}" if own else model
            for metric in metrics:
                values[row if own else f"{display_name(model)}, no privacy", metric].append(found[metric])
    names = dict.fromkeys(name for name, _ in values)
    first = figures[0]
    train, validation, test = first["users"]
    of = f"{train:,} training users, {validation:,} others for validation and {test:,} for test"
    if preset == "chien2021":
        of = f"{train:,} users, of whom {validation:,} have ratings for validation and {test:,} for test"
    note = (
        f"Real runs, secure noise; unit user, adjacency zero-out, "
        f"delta {first['delta']:g}, masks off. Seeds {', '.join(map(str, dict.fromkeys(e['seed'] for e in figures)))}. "
        f"{of}; {first['items']:,} items (seed {first['seed']}). Features: genres and decades."
    )
    if preset == "liang2018":
        note += " Recall@k of Liang et al. is recall_capped@k."
    rows = [(name, *(_cell(values[name, metric]) for metric in metrics)) for name in names]
    return [Table(f"{label}, {preset}", ("model", *metrics), rows, note)]


def _cell(values: Sequence[float]) -> str:
    """A mean with its error, or the one number that there is."""
    return cell(values) if len(values) > 1 else f"{values[0]:.4f}"


def cost(preset: str, name: str, options: Sequence[str], _: Path, __: int) -> Any:
    """The whole command of a protocol on made ratings of the size and layout of MovieLens, by address."""
    users, films, ratings = FILMS[name]
    with tempfile.TemporaryDirectory(prefix="palate-films-") as folder:
        archive, place = Path(folder) / f"{name}.zip", Path(folder) / name
        rows = film_archives.write(name, archive, users=users, films=films, ratings=ratings)
        with zipfile.ZipFile(archive) as bundle:
            place.mkdir()
            for member in bundle.namelist():
                (place / Path(member).name).write_bytes(bundle.read(member))
        run = once(place, (preset, *options), SEEDS[preset])
    return {"users": users, "films": films, "ratings": rows, "options": list(options), "run": run}


def cost_tables(preset: str, name: str, figures: Any) -> list[Table]:
    """One row a cost."""
    run = figures["run"]
    rows = [
        ("CPU-seconds, all processes", f"{run['cpu']:,.0f}"),
        ("memory, largest process, GiB", f"{run['largest'] / GIB:.2f}"),
        ("memory, all processes together, GiB", f"{run['together'] / GIB:.2f}"),
        ("disk at the peak: cache, run folder, spill, GB", f"{run['disk'] / 1e9:.1f}"),
        ("longest time without a word, wall seconds", f"{run['silence']:.1f}"),
    ]
    options = " ".join(figures["options"])
    beside = ", ".join(display_name(each) for each in run["quality"] if each != "palate")
    note = (
        f"`palate simulate {preset} --data FOLDER --epsilon 5 {options}".rstrip()
        + f"` with an empty cache, on made ratings in the layout of {name} (worlds/film_archives.py): "
        f"{figures['users']:,} users, {figures['films']:,} films, {figures['ratings']:,} ratings; "
        f"{run['train_users']:,} training users, {run['items']:,} items, {run['interactions']:,} pairs of them; "
        f"eps {run['privacy']}, delta {run['delta']:g}, unit user, adjacency zero-out, accountant {run['accountant']}. "
        + (f"Beside it: {beside}. " if beside else "")
        + "What it costs, and nothing of quality: the ratings are made."
    )
    return [Table(f"The whole protocol at the size of {name}: {preset}", ("what", "found"), rows, note)]


def standing(parts: Mapping[str, Any]) -> list[Table]:
    """The published private figures, and ours beside them where they are measured.

    Args:
        parts: part -> its figures, of those that are recorded.
    """
    header = ("figure", "model", "eps", "delta", "unit", "adjacency", "trusted", "items", "what else differs", "source")
    tables = []
    rows_of = defaultdict[tuple[str, str, str], list[Sequence[str]]](list)
    for row in json.loads(PUBLISHED.read_text(encoding="utf-8")):
        shown = "" if row["figure"] is None else f"{row['figure']:g}"
        differs = f"{row['empty']}; {row['differs']}" if row["figure"] is None else row["differs"]
        source = f"[{row['source']}]({row['address']})"
        middle = (row[name] for name in ("epsilon", "delta", "unit", "adjacency", "trusted", "items"))
        rows_of[row["data"], row["split"], row["metric"]].append((shown, row["who"], *middle, differs, source))
    for (data, split, metric), rows in rows_of.items():
        part, own_split = OURS[data]
        title = f"{metric} on {data}, {split}: published beside Palate"
        tables.append(Table(title, header, [*rows, *_ours(part, own_split, metric, parts.get(part))], STANDS))
    return tables


def _ours(part: str, split: str, metric: str, figures: Any) -> list[Sequence[str]]:
    """Palate's rows of a comparison; one empty row where nothing is measured."""
    trusted = "no single party: each device adds its share of the noise; these runs sum in the clear (masks off)"
    told = ("user", "zero-out", trusted, "of training users" if split == "liang2018" else "all that are rated")
    command = f"`{command_of('field')} --parts {part}`"
    if figures is None:
        why = "not measured: MovieLens may not be passed on, and was not at hand; the command measures it"
        return [("", "Palate", "", f"{load_config(split).privacy.delta:g}", *told, why, command)]
    values = defaultdict[tuple[Any, str], list[float]](list)
    for each in figures:
        values[each["epsilon"], each["features"]].append(each["models"]["palate"][metric])
    rows = []
    for (epsilon, features), found in values.items():
        private = epsilon is not None
        named = f"{epsilon:g}" if private else "none"
        nobody = ("none", "none", "none", "the server, with every device's updates", told[-1])
        facts = (f"{figures[0]['delta']:g}", *told) if private else nobody
        differs = f"{LABELS[features]}; split {split}" + ("" if len(found) == 1 else f", {len(found)} seeds")
        rows.append((_cell(found), "Palate", named, *facts, differs, f"{command}, part {part}"))
    return rows


OURS = {
    "MovieLens 20M": ("ml-20m", "liang2018"),
    "MovieLens 10M": ("ml-10m", "chien2021"),
    "MovieLens 1M": ("ml-1m-ratings", "chien2021"),
}
"""Which part measures ours, and by which split."""
STANDS = (
    "Figures of others as they stand in the named place. RMSE: lower is better. Unit, adjacency, delta and who is "
    "trusted differ."
)
PARTS = {
    "ml-20m": Part(
        lambda data, _: runs("liang2018", "ml-20m", {}, data, (SEEDS["liang2018"],)),
        partial(runs_tables, "liang2018", "MovieLens 20M"),
        str(SEEDS["liang2018"]),
    ),
    "ml-10m": Part(
        lambda data, _: runs("chien2021", "ml-10m", {}, data, (SEEDS["chien2021"],)),
        partial(runs_tables, "chien2021", "MovieLens 10M"),
        str(SEEDS["chien2021"]),
    ),
    "ml-1m": Part(
        lambda data, seeds: runs("liang2018", "ml-1m", SMALL["liang2018"], data, range(seeds)),
        partial(runs_tables, "liang2018", "MovieLens 1M, 600 users held out twice"),
    ),
    "ml-1m-ratings": Part(
        lambda data, seeds: runs("chien2021", "ml-1m", SMALL["chien2021"], data, range(seeds)),
        partial(runs_tables, "chien2021", "MovieLens 1M"),
    ),
    "ml-100k-ratings": Part(
        lambda data, seeds: runs("chien2021", "ml-100k", SMALL["chien2021"], data, range(seeds)),
        partial(runs_tables, "chien2021", "MovieLens 100K"),
    ),
    **{
        f"made-{name[3:]}": Part(
            partial(cost, preset, name, ()), partial(cost_tables, preset, name), str(SEEDS[preset])
        )
        for preset, name in (("liang2018", "ml-20m"), ("chien2021", "ml-10m"))
    },
}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=3, needs_data=False)
