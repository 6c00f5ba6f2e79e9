"""Tuning: the settings of an algorithm, chosen by Optuna on the validation users, and on nobody else.

Choosing the best of many runs on private data tells something about the data, which a card that counts the last run
alone leaves out. The rule here is the simple one: a trial trains on four fifths of the validation users and is judged
on the others, each in turn, with noise and sums as for all training users. Validation users take no part in the run
that follows, so its guarantee for training users is what it says; its card names who has none, and the run refuses a
study of any other data or split (`tuned_on`).

What the other honest rule, to charge, would cost is computed beside it: all trials composed, or a random number of
trials with random settings of which the best alone is released (Papernot and Steinke, Hyperparameter Tuning with
Renyi Differential Privacy, ICLR 2022, theorem 2).

    >>> round(composed_epsilon(mu=1.0, runs=31, delta=1e-6), 1)
    41.2
    >>> round(best_of_random_epsilon(mu=1.0, mean_trials=30, delta=1e-6), 1)
    11.5
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from palate_common.interactions import Interactions
from palate_common.records.file_lock import FileLock
from palate_common.records.files import write_durably
from palate_core.accounting import ACCOUNTANT, default_delta, epsilon_of, mu_of
from palate_core.errors import InputError, LockedError
from palate_core.log.canonical import canonical_json, digest
from palate_sim.config import SETTINGS, SimulationConfig, as_shown, build_config
from palate_sim.data import Source
from palate_sim.evaluation.model_evaluation import headline, judge
from palate_sim.evaluation.rehearsal import rehearse
from palate_sim.preparation.preparation import Prepared, naming_sources, prepare
from palate_sim.preparation.splits import Heldout
from palate_sim.run.tuned import STUDY, refuse_warm_start
from palate_sim.steps import Notify, silent, step

if TYPE_CHECKING:
    import optuna

FOLDS = 5
"""Parts of the validation users; each is judged by a model of the others."""
LEAST_USERS = 5 * FOLDS
TRIALS_FILE, BEST, LOCK = "trials.db", "best.toml", "lock"
SPACES: dict[str, dict[str, Any]] = {
    "als": {
        "algorithm.settings.popularity_share": {"low": 0.05, "high": 0.8},
        "algorithm.settings.contribution_exponent": {"low": -0.6, "high": 0.2},
        "algorithm.settings.fold_exponent": {"low": -0.8, "high": 0.2},
        "algorithm.settings.score_exponent": {"low": -0.2, "high": 0.6},
        "algorithm.settings.whitening": {"low": -0.8, "high": 0.0},
    },
}
"""Algorithm -> where its settings are looked for if no space is given."""
CHARGED = (
    "charging instead, with trials on training users, would cost each of them at least ε {composed} by composition, or "
    "ε {random} with as many on average, random settings and the best alone released (Papernot and Steinke, 2022)"
)


@dataclass(frozen=True)
class Trialled:
    """A finished trial.

    Attributes:
        number: from 1; 0 is the untuned configuration.
        settings: dotted key -> value that was tried.
        value: mean of the metric over all validation users.
        error: its standard error.
    """

    number: int
    settings: Mapping[str, Any]
    value: float
    error: float


@dataclass(frozen=True)
class Tuned:
    """A study.

    Attributes:
        facts: what `study.json` holds.
        folder: where it lies.
        trials: all that finished, in order; one that was behind after some folds was cut short, and isn't here.
    """

    facts: Mapping[str, Any]
    folder: Path
    trials: tuple[Trialled, ...]

    @property
    def best(self) -> Trialled:
        """The trial with the highest value, 0 if none is above the untuned configuration."""
        return max(self.trials, key=lambda trial: trial.value)


def tune(
    config: SimulationConfig,
    *,
    out: Path,
    trials: int,
    space: Mapping[str, Any] | None = None,
    source: Source | None = None,
    notify: Notify = silent,
) -> Tuned:
    """Look for better settings. A study that was cut off, or that shall have more trials, goes on in its folder.

    Args:
        config: data, split, epsilon and algorithm.
        out: the study's folder: `trials.db` (Optuna, SQLite), `study.json`, `best.toml`.
        trials: how many in all, those of earlier calls included.
        space: dotted key of the algorithm's settings -> a list of values, or a range `{"low", "high"}` with an optional
            `"log"`; None: `SPACES`.
        source: a log in the place of the configured one.
        notify: called with progress events.

    Raises:
        InputError: bad data, space or folder, or a split whose validation users train.
        LockedError: another process is at work in the folder.
    """
    optuna = _optuna()
    given = _checked(space if space is not None else SPACES.get(config.algorithm.name), config)
    if trials < 1:
        raise InputError(f"`trials` must be at least 1, got {trials}")
    refuse_warm_start(config)
    prepared = prepare(config, source, notify)
    config = naming_sources(config, prepared)
    bench = _Bench.of(config, prepared, notify)
    asked = digest(canonical_json([config.model_dump(mode="json", exclude={"tuned_on"}), given, prepared.fingerprint]))
    lock, study = _study(optuna, out, asked)
    with lock, step(notify, "tuning", of=trials, unit="trials") as advance:
        untuned = study.user_attrs.get("untuned")
        if untuned is None:
            untuned = list(bench.judged({}, None))
            study.set_user_attr("untuned", untuned)
        for running in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(running.number, state=optuna.trial.TrialState.FAIL)  # of a process that was killed
        over = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED
        done = len(study.get_trials(states=over))
        advance(min(done, trials))
        study.sampler = optuna.samplers.TPESampler(seed=(config.seed + done) % 2**32)  # another seed than before it
        while done < trials:
            _try(optuna, study, bench, given, done + 1, config, notify)
            done += 1
            advance(1)
    finished = [
        Trialled(place + 1, trial.params, *trial.user_attrs["judged"])
        for place, trial in enumerate(study.get_trials(states=over))
        if "judged" in trial.user_attrs
    ]
    found = (Trialled(0, {}, *untuned), *finished)
    tuned = Tuned(_facts(config, prepared, bench, given, found, done), out, found)
    write_durably(out / STUDY, json.dumps(tuned.facts, indent=1, allow_nan=False).encode())
    write_durably(out / BEST, _best(config, tuned, source).encode())
    return tuned


def read_space(path: Path) -> dict[str, Any]:
    """A search space from a TOML file, as dotted keys.

    Raises:
        InputError: not readable, or no TOML.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"`--space` must be a readable file, got {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"`--space` must be TOML, got {path}: {error}") from None
    return dict(_leaves(tree))


def composed_epsilon(*, mu: float, runs: int, delta: float) -> float:
    """Epsilon of several runs on the same users, each of `mu`: what tuning on them costs if all is counted.

    Args:
        mu: of one run, in Gaussian differential privacy.
        runs: trials, and the run that follows.
        delta: of the result; user-level, zero-out.
    """
    return epsilon_of(mu=mu * math.sqrt(runs), delta=delta)


def best_of_random_epsilon(*, mu: float, mean_trials: float, delta: float) -> float:
    """Epsilon of the best of a random number of trials, each of `mu`, if nothing else of them is released.

    The number is geometric with the given mean and settings are drawn at random, each trial by itself: neither
    may depend on what was found. A Gaussian mechanism has Renyi divergence mu^2 lambda / 2 of each order;
    theorem 2 of Papernot and Steinke (2022) with eta = 1, gamma = 1 / mean and both orders the same; then to
    (epsilon, delta) by proposition 12 of Canonne, Kamath and Steinke (2020).

    Args:
        mu: of one trial, in Gaussian differential privacy.
        mean_trials: mean of their number.
        delta: of the result; user-level, zero-out.
    """
    order = 1 + np.geomspace(1e-3, 1e4, 4000)
    one = order * mu * mu / 2
    many = one + 2 * (1 - 1 / order) * one + 2 * math.log(mean_trials) / order + math.log(mean_trials) / (order - 1)
    epsilons = many + np.log1p(-1 / order) - (math.log(delta) + np.log(order)) / (order - 1)
    return float(epsilons.min())


@dataclass(frozen=True)
class _Bench:
    """Validation users as a small population: who trains and who is judged, fold by fold."""

    config: SimulationConfig
    prepared: Prepared
    folds: tuple[tuple[Interactions, Heldout], ...]
    metric: str
    epsilon: float | None
    delta: float
    users: int

    @classmethod
    def of(cls, config: SimulationConfig, prepared: Prepared, notify: Notify) -> _Bench:
        """Cut the validation users into folds.

        Raises:
            InputError: they train too, or are too few.
        """
        split, heldout = prepared.split, prepared.split.validation
        if heldout is None or len(heldout.users) < LEAST_USERS:
            raise InputError(
                f"`palate tune` needs at least {LEAST_USERS} validation users, got "
                f"{0 if heldout is None else len(heldout.users)}"
            )
        if config.privacy.unit != "user":
            raise InputError(f"`palate tune` is for `privacy.unit` user, got {config.privacy.unit}")
        if not set(heldout.users).isdisjoint(split.train_users):
            raise InputError(
                f"`palate tune` needs a split that holds out users, such as strong: with {split.name} those that "
                "settings are chosen on train, too, and the choice would cost them"
            )
        rng, n_users = np.random.default_rng([config.seed, 11]), len(heldout.users)
        part_of = rng.permutation(n_users) % FOLDS
        whole = _whole(heldout)
        folds = []
        for part in range(FOLDS):
            rows = np.flatnonzero(part_of == part)
            users = tuple(heldout.users[row] for row in rows.tolist())
            withheld = None if heldout.withheld is None else heldout.withheld.users(rows)
            judged = Heldout(heldout.foldin.users(rows), heldout.target.users(rows), users, {}, withheld)
            folds.append((whole.users(np.flatnonzero(part_of != part)), judged))
        privacy = config.privacy
        delta = default_delta(n_users=split.train.n_users) if privacy.delta is None else privacy.delta
        epsilon = privacy.epsilon if privacy.mode.private else None
        return cls(config, prepared, tuple(folds), headline(split, config.evaluation.ks), epsilon, delta, n_users)

    def judged(self, settings: Mapping[str, Any], trial: optuna.Trial | None) -> tuple[float, float]:
        """Mean and standard error over all validation users; a trial that is behind is cut short by an exception."""
        import optuna

        config, split = self.config, self.prepared.split
        own = {**config.algorithm.settings, **{key.removeprefix(SETTINGS): value for key, value in settings.items()}}
        values: list[float] = []
        for fold, (train, heldout) in enumerate(self.folds):
            model = rehearse(
                train,
                algorithm=config.algorithm.name,
                settings=own,
                epsilon=self.epsilon,
                delta=self.delta,
                users=split.train.n_users,
                local=config.privacy.mode.alone,
                seed=config.seed + fold,
                inputs=self.prepared.inputs,
            )
            found = judge(model, heldout, split, ks=config.evaluation.ks, seed=config.seed)
            values += found.values[self.metric].tolist() if self.metric in found.values else [found.mean(self.metric)]
            if trial is not None:
                trial.report(float(np.mean(values)), fold)
                if fold + 1 < len(self.folds) and trial.should_prune():
                    raise optuna.TrialPruned
        error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
        return float(np.mean(values)), error


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        raise InputError("`palate tune` needs optuna: pip install 'palate[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _study(optuna: Any, out: Path, asked: str) -> tuple[FileLock, Any]:
    """The study in a folder, new or begun with the same data, settings and space; nobody else has it meanwhile."""
    known = (TRIALS_FILE, LOCK)
    others = [path.name for path in out.iterdir() if not path.name.startswith(known)] if out.is_dir() else []
    if out.exists() and (not out.is_dir() or (others and not (out / TRIALS_FILE).exists())):
        raise InputError(f"`--out` must be a new folder or that of a study, got {out}")
    if {"?", "%"} & set(str(out.resolve())):  # its file would be another one: it is named by an address
        raise InputError(f"`--out` must have no ? and no % in its path, got {out.resolve()}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / LOCK)
    except LockedError:
        raise LockedError(f"another `palate tune` is at work in {out}: wait for it, or take another folder") from None
    except OSError as error:
        raise InputError(f"`--out` must be writable, got {out}: {error.strerror}") from None
    file = (out / TRIALS_FILE).resolve()
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{file}",
            study_name="palate",
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
            load_if_exists=True,
        )
        if study.user_attrs.setdefault("asked", asked) != asked:
            raise InputError(f"`--out` holds a study of other data, settings or space; take another folder than {out}")
        study.set_user_attr("asked", asked)
    except Exception as error:  # of SQLite, SQLAlchemy or Optuna, which may be older than the file
        lock.close()
        if isinstance(error, InputError):
            raise
        first = str(error).partition("\n")[0]
        raise InputError(f"`--out` must hold a study that Optuna can read, got {file}: {first}") from None
    return lock, study


def _try(
    optuna: Any,
    study: Any,
    bench: _Bench,
    space: Mapping[str, Any],
    number: int,
    config: SimulationConfig,
    notify: Notify,
) -> None:
    """One trial, told to the study and to the user."""
    trial = study.ask()
    settings = {key: _suggest(trial, key, where) for key, where in space.items()}
    told = {"event": "measured", "seed": config.seed, "what": f"trial {number}", "words": bench.metric}
    try:
        judged = bench.judged(settings, trial)
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return
    except InputError as error:  # settings that don't fit together, or these users
        trial.set_user_attr("refused", str(error))
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return
    trial.set_user_attr("judged", list(judged))
    study.tell(trial, judged[0])
    notify({**told, "value": judged[0]})


def _suggest(trial: Any, key: str, where: Any) -> Any:
    if isinstance(where, list):
        return trial.suggest_categorical(key, where)
    low, high, log = where["low"], where["high"], bool(where.get("log", False))
    whole = isinstance(low, int) and isinstance(high, int)
    return trial.suggest_int(key, low, high, log=log) if whole else trial.suggest_float(key, low, high, log=log)


def _checked(space: Mapping[str, Any] | None, config: SimulationConfig) -> dict[str, Any]:
    """A space, each end of which the algorithm accepts by itself.

    Raises:
        InputError: none, or a key or range that makes no sense.
    """
    if not space:
        raise InputError(f"`--space` must say where to look for settings of {config.algorithm.name}, got nothing")
    for key, where in space.items():
        if not key.startswith(SETTINGS):
            raise InputError(f"a search space must have keys below {SETTINGS.rstrip('.')}, got `{key}`")
        ends = where if isinstance(where, list) else list(_ends(key, where))
        if not ends:
            raise InputError(f"`{key}` must have a value to try, got none")
        for value in ends:
            own = {**config.algorithm.settings, key.removeprefix(SETTINGS): value}
            build_config(
                {**config.model_dump(mode="json"), "algorithm": {"name": config.algorithm.name, "settings": own}}
            )
    return dict(space)


def _ends(key: str, where: Any) -> Iterator[float]:
    known = {"low", "high", "log"}
    if not isinstance(where, Mapping) or not {"low", "high"} <= where.keys() <= known:
        raise InputError(
            f"`{key}` must be a list of values or a range {{low, high}} with an optional log, got {where!r:.80}"
        )
    low, high = where["low"], where["high"]
    for end in (low, high):
        if isinstance(end, bool) or not isinstance(end, (int, float)) or not math.isfinite(end):
            raise InputError(f"`{key}` must have numbers for low and high, got {end!r}")
    if not isinstance(where.get("log", False), bool):
        raise InputError(f"`{key}` must have true or false for log, got {where['log']!r}")
    if not low < high or (where.get("log") and low <= 0):
        raise InputError(f"`{key}` must have low below high, above 0 with log, got {low} and {high}")
    yield from (low, high)


def _whole(heldout: Heldout) -> Interactions:
    """All that users did: what they give and what is asked for."""
    parts = heldout.foldin, heldout.target
    users = np.concatenate([np.repeat(np.arange(part.n_users), part.counts()) for part in parts])
    items, weights = (np.concatenate([getattr(part, name) for part in parts]) for name in ("indices", "weights"))
    return Interactions.from_pairs(users, items, weights, n_users=parts[0].n_users, n_items=parts[0].n_items)


def _facts(
    config: SimulationConfig,
    prepared: Prepared,
    bench: _Bench,
    space: Mapping[str, Any],
    found: Sequence[Trialled],
    trials: int,
) -> dict[str, Any]:
    """What a study says of itself: see docs/runs.md#tuning."""
    best = max(found, key=lambda trial: trial.value)
    settings = {key.removeprefix(SETTINGS): value for key, value in best.settings.items()}
    facts: dict[str, Any] = {
        "palate": "tuning",
        "format": 1,
        "name": prepared.name,
        "metric": bench.metric,
        "trials": trials,
        "users": bench.users,
        "population": prepared.split.train.n_users,
        "fingerprint": prepared.fingerprint,
        "space": dict(space),
        "algorithm": {"name": config.algorithm.name, "settings": {**config.algorithm.settings, **settings}},
        "untuned": {"value": found[0].value, "error": found[0].error},
        "best": {"trial": best.number, "value": best.value, "error": best.error, "settings": dict(best.settings)},
        "finished": [
            {"trial": each.number, "value": each.value, "error": each.error, "settings": dict(each.settings)}
            for each in found[1:]
        ],
        "privacy": (
            f"nothing is charged: settings were chosen on {bench.users:,} validation users, who take no part in the "
            "run that follows and have no guarantee"
        ),
        "delta": bench.delta,
        "beside": f"δ = {bench.delta:g}, unit: user, adjacency: zero-out, accountant: {ACCOUNTANT}",
        "charged": None,
    }
    if bench.epsilon is not None:
        mu = mu_of(epsilon=bench.epsilon, delta=bench.delta)
        facts["charged"] = {
            "composed": composed_epsilon(mu=mu, runs=trials + 1, delta=bench.delta),
            "random": best_of_random_epsilon(mu=mu, mean_trials=trials, delta=bench.delta),
        }
    return facts


def _best(config: SimulationConfig, tuned: Tuned, source: Source | None) -> str:
    """The configuration to run, as TOML: what isn't a default, the settings that were found, and the study."""
    tree = config.model_dump(mode="json")
    if isinstance(source, (str, Path)):
        there = Path(source).exists()
        tree["data"] |= {"path": str(Path(source).resolve())} if there else {"name": str(source), "path": None}
    tree["data"] = as_shown(tree)["data"]
    tree["algorithm"] = tuned.facts["algorithm"]
    tree["tuned_on"] = str(tuned.folder.resolve())
    defaults = dict(_leaves(SimulationConfig().model_dump(mode="json")))
    lines = [
        f"{'.'.join(map(_bare, key.split('.')))} = {json.dumps(value, ensure_ascii=False)}"
        for key, value in _leaves(tree)
        if value is not None and value != defaults.get(key)
    ]
    head = f"# {tuned.facts['privacy']}.\n# palate simulate {BEST}\n"
    return head + "\n".join(lines) + "\n"


def _bare(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as (dotted key, value); a range of a search space is a value."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and not {"low", "high"} <= value.keys():
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
