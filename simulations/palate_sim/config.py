"""SimulationConfig: every setting of a simulated run, from TOML, a preset, the command line or Python.

Unknown keys are refused, and every value is checked before anything is read or written.

    >>> config = load_config("movies", {"privacy.epsilon": 1.0})
    >>> config.privacy.epsilon, config.split.name
    (1.0, 'strong')
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from palate_common.algorithms import admit, algorithm_class
from palate_common.algorithms.parts.panel import takes_panel
from palate_common.weighting import weighting_settings
from palate_core.cohort_terms import MAX_SUBCOHORTS
from palate_core.errors import InputError
from palate_core.plan import Noise
from palate_core.privacy_mode import DpMode, PrivacyMode, mode_of

SETTINGS = "algorithm.settings."
BASELINES = (
    "popularity",
    "noised_popularity",
    "content_only",
    "panel_only",
    "item_knn",
    "ease",
    "ease_sparse",
    "ials",
    "device_only",
    "global_mean",
    "user_mean",
    "user_item_biases",
)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `seed = true`, which pydantic would read as 1."""
        numbers = (int, float, int | None, float | None)
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in numbers:
            raise PydanticCustomError("truth", "must be a number")
        return value


class DataConfig(_Section):
    """Which log, and what its columns and kinds of event mean."""

    name: str = "movielens-small"
    """A registered set; `palate data list` names them."""
    path: str | None = None
    """A file, a pattern, a folder or an address, used in the place of `name`."""
    domains: dict[str, str] = Field(default_factory=dict)
    """Several logs in the place of one, each with the items of one domain: domain -> a registered name or a path. The
    same user id is the same user; an item must be in one of them only."""
    cache: str | None = Field(default=None, min_length=1)
    """Folder in which a log that is too large for memory is prepared, and which holds it as long as the run. None: the
    user's cache, or the folder in PALATE_DATA."""
    rows_in_memory: int = Field(default=4_000_000, ge=1)
    """Rows of a log that is prepared in memory; a larger one is prepared on disk."""
    columns: dict[str, str | int] = Field(default_factory=dict)
    """Palate's column -> the log's, where detection needs help: a name, a position from 0 in a file without a header,
    or "" to leave the column out."""
    weights: dict[str, float] | None = None
    """Weight by kind of event, compared without case; "*" for the others, which are left out without it. None: every
    interaction weighs 1."""
    value_weights: dict[float, float] | None = None
    """Weight by value, as steps: the largest step not above the value counts. Below the smallest, an event is left
    out."""
    kind_values: dict[str, dict[float, float]] = Field(default_factory=dict)
    """Such steps by kind of event, for events of that kind in the place of `value_weights`."""
    panel: float | str | None = None
    """Whose log is open, as a public prior: a share of the training users, between 0 and 1, or a log of the same
    catalogue, by path or registered name. None: nobody's. See docs/algorithm.md#an-open-panel."""
    panel_people: Literal["strangers", "users"] | None = None
    """Who the people of an open log are: strangers whatever their ids say, or the log's own users, by their ids. None:
    strangers, unless they have ids and items of training users, which is refused."""
    panel_licence: str = ""
    """Under which terms an open log was published, for the card; empty: those of a registered log."""
    panel_apart: bool = False
    """Leave the panel out of the private rounds, where it otherwise takes part like everybody."""

    @field_validator("panel", mode="before")
    @classmethod
    def _share_or_log(cls, value: Any) -> Any:
        """Read a share as the command line passes it, and refuse one that isn't a part of the users."""
        given = value
        if isinstance(value, str):
            with suppress(ValueError):
                value = float(value)
        number = isinstance(value, (int, float))
        if given == "" or isinstance(value, bool) or (number and not 0 < value < 1):
            raise PydanticCustomError("share", "must be a share above 0 and below 1, or a log")
        return value


class PositivesConfig(_Section):
    """What counts as a positive. Default: every interaction."""

    threshold: float | None = None
    """Least value that counts; rows without a value fall below it."""
    combine: Literal["max", "sum"] = "max"
    """How a user's events for one item make one weight."""
    cap: float = Field(default=1e6, gt=0, le=1e9)
    """Largest weight of a pair, at most 1e9."""
    half_life_days: float | None = Field(default=None, gt=0)
    """An event loses half its weight for each of these, up to its user's latest event."""


class FeaturesConfig(_Section):
    """Public facts about items as a prior that costs no privacy."""

    source: str = "auto"
    """auto: genres and decades, where the data has them, or the words of ids that read like titles; text: words of
    titles too; genres, titles: each of the two alone; none; or a file of one's own. See
    docs/configuration.md#features-of-ones-own."""
    sources: dict[str, str] = Field(default_factory=dict)
    """Several sources in the place of one, each of which devices weigh by itself: a name of your own -> genres, titles,
    or a file. See docs/algorithm.md#several-sources-fused-on-the-device."""

    @field_validator("sources")
    @classmethod
    def _plain_names(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        """Refuse source names that aren't identifiers, and `sources` together with `source`."""
        if value and info.data.get("source", "auto") != "auto":
            raise PydanticCustomError("both", "must stand alone, and `features.source` names a source too")
        for name in value:
            if not name.isidentifier():
                raise PydanticCustomError("name", "must have names of letters, digits and _")
        return value


class FiltersConfig(_Section):
    """Experiment preparation. It looks at all raw data: the card lists it as not covered by the guarantee."""

    user_core: int = Field(default=0, ge=0)
    """Least distinct items of a user."""
    item_core: int = Field(default=0, ge=0)
    """Least distinct users of an item."""


class SplitConfig(_Section):
    """How users or events are held out."""

    name: str = "strong"
    """strong, leave-last-out, temporal, random, loo-heldout-excluded, user-cold-1, -3 or -10, item-cold, liang2018 or
    chien2021: see docs/configuration.md#splits."""
    held_out_users: int | None = Field(default=None, ge=1)
    """With liang2018: validation users, and as many test users. None: 10,000."""


class PrivacyConfig(_Section):
    """The privacy guarantee. Unit: user (one installation), unless it is one event; adjacency: zero-out."""

    epsilon: float = Field(default=5.0, gt=0, le=1e6)
    """Epsilon of the whole run, the popularity round included. Not used with dp = "off"."""
    delta: float | None = Field(default=None, gt=0, lt=1)
    """None: min(1e-5, 1/(10 N)) for N training users."""
    dp: DpMode = DpMode.DISTRIBUTED
    """Who adds the noise: all devices together ("distributed"), each device by itself ("local") or the server
    ("central"); "off" is for research and stamped on every artefact."""
    unit: Literal["user", "event"] = "user"
    """What is protected: all that a user did, or, with dp "local" and the algorithm event-mf, one event of theirs."""
    noise: Noise = Noise.SECURE
    """"seeded" noise is the same for the same seed; its models must not be released."""
    population: str | None = Field(default=None, min_length=1, max_length=200)
    """Population whose ledger is charged. None: the data's name."""
    lifetime_epsilon: float | None = Field(default=None, gt=0, le=1e6)
    """Budget of the population over all its runs, at this run's delta; it can only be lowered later."""
    masks: Literal["on", "off"] = "off"
    """With distributed: "on" runs secure aggregation between all devices; "off" adds the same noise and sum in the
    clear, for speed, and is stamped."""
    corrupt: float = Field(default=0.0, ge=0, lt=0.5)
    """With distributed: share of the devices that may collude with the server. At least one is always assumed to."""
    dropout: float = Field(default=0.0, ge=0, lt=0.5)
    """With distributed: share of the devices that may drop out of an attempt before it aborts."""
    subcohorts: int = Field(default=1, ge=1, le=MAX_SUBCOHORTS)
    """With distributed: into how many sub-cohorts the devices are split, each with all of the noise; `corrupt` and
    `dropout` are shares of each."""
    grid: int | None = Field(default=None, ge=2**8, le=2**26)
    """Grid steps per clip norm. None: 2^20, or with distributed what fits the cohort's sum into 32 bits."""
    cohort_floor: int = Field(default=1, ge=1)
    """Least number of contributions; a round with fewer releases nothing. With distributed at most what `dropout`
    leaves."""

    @property
    def mode(self) -> PrivacyMode:
        """The properties of the configured dp mode."""
        return mode_of(self.dp)


class AlgorithmConfig(_Section):
    """The learning algorithm."""

    name: str = "als"
    """An installed algorithm, see docs/algorithm.md, or `package.module:Class`: an algorithm or a torch module of your
    own that is not installed under a name."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Its own settings, for example `--set algorithm.settings.rounds=3`."""


class EngineConfig(_Section):
    """The engine that carries the messages."""

    name: Literal["local", "flower", "ray"] = "local"
    """local: this machine's cores. flower: Flower's SuperLink with its Ray simulation, on this machine. ray: the
    machines of a running Ray cluster. Both need palate[ray] and Linux."""
    users_per_node: int | None = Field(default=None, ge=1)
    """Simulated installations a node hosts; each is clipped by itself. None: 16,384, or so many that there are 32 nodes
    at most; 1 with masks, where each installation takes part by itself; 2,048 where the unit is one event."""
    workers: int | None = Field(default=None, ge=1, le=1024)
    """Processes in which the engine local runs the nodes of more than 65,536 users; the model doesn't depend on it.
    With ray, processes in the whole cluster. None: one a core."""
    ray_address: str | None = Field(default=None, min_length=1)
    """The Ray cluster of the engine ray, as HOST:PORT. None: the environment variable RAY_ADDRESS."""
    absent: float = Field(default=0.0, ge=0, lt=1)
    """Share of the simulated devices that are invited and never answer; the seed chooses them."""


class EvaluationConfig(_Section):
    """What is measured. These are oracle metrics: they need raw histories, which only a simulation has."""

    ks: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(10, 20), min_length=1)
    """Lengths k of the evaluated lists."""
    baselines: tuple[str, ...] = BASELINES
    """Baselines to compare with; "none" or [] for none. Beside ease, ease_sparse runs only where the catalogue is too
    large for ease; the last three run only where ratings are learned."""
    projection: tuple[Annotated[int, Field(ge=1, le=10**6)], ...] = (1, 10, 100)
    """Multiples of the population to project quality to; "none" or [] for none."""
    recency: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = (14.0, 30.0, 60.0, 120.0)
    """Half-lives in days that are tried for what devices recommend by, where the log has times and fits into memory,
    under a temporal split of its own: see docs/runs.md#recent-events. "none" or [] for none."""
    look_users: int = Field(default=2000, ge=1)
    """Validation users on whom each release is looked at, the same ones every time, drawn by the seed; all where there
    are fewer."""
    test_users: int | None = Field(default=None, ge=1)
    """Test users on whom the model and everything beside it are judged, drawn by the seed. None: all."""
    fit_users: int | None = Field(default=None, ge=1)
    """Training users on whom item_knn, ease, ease_sparse and ials are fitted, drawn by the seed: for logs that these
    can't hold in memory. None: all."""
    people: int = Field(default=3, ge=0, le=100)
    """Held-out people whose lists the run ends with, beside what they had: rows of the log, drawn by the seed. 0: none,
    for a report that others may see."""
    save_recommendations: bool = False
    """Write recommendations.csv.gz and split/."""

    @field_validator("ks", "baselines", "projection", "recency", mode="before")
    @classmethod
    def _list_of_one_line(cls, value: Any) -> Any:
        """Parse a list as a shell passes it: `10,20`, `none`, or one value."""
        if isinstance(value, str):
            return () if value.strip() in ("", "none") else tuple(part.strip() for part in value.split(","))
        return (value,) if isinstance(value, int | float) else value


class SimulationConfig(_Section):
    """One simulated run."""

    data: DataConfig = DataConfig()
    positives: PositivesConfig = PositivesConfig()
    filters: FiltersConfig = FiltersConfig()
    features: FeaturesConfig = FeaturesConfig()
    split: SplitConfig = SplitConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    engine: EngineConfig = EngineConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    warm_start: str | None = Field(default=None, min_length=1)
    """A former release of the same population to start from: its run folder, or its model folder. See
    docs/algorithm.md#warm-start."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the split, public randomness, ties and bootstrap; never of a release's noise."""


def preset_names() -> tuple[str, ...]:
    """Names of the presets that come with Palate."""
    folder = resources.files("palate_sim") / "presets"
    return tuple(sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".toml")))


def preset_settings(name: str) -> dict[str, Any]:
    """A preset as nested settings: the event weights, which devices read too, and what a simulation adds.

    A preset has the weights of its own name, or, with a key `weights_of`, those of another, or "none".
    """
    tree = tomllib.loads((resources.files("palate_sim") / "presets" / f"{name}.toml").read_text(encoding="utf-8"))
    weights = tree.pop("weights_of", name)
    shared = {} if weights == "none" else weighting_settings(weights)
    return {**tree, **{section: {**table, **tree.get(section, {})} for section, table in shared.items()}}


def load_config(base: str | None = None, overrides: Mapping[str, Any] | None = None) -> SimulationConfig:
    """A configuration from a preset's name or a TOML file, with dotted keys overridden.

    Raises:
        InputError: unknown preset, unreadable file, unknown key, or a value out of range.
    """
    tree = _read(base)
    for key, value in (overrides or {}).items():
        _set(tree, key, value)
    admit_own(tree)
    return build_config(tree)


def as_shown(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's configuration as people are shown it: without settings that something else takes the place of.

    Args:
        config: as `result.json` has it. A path, or several logs, stand in the place of a set's name.

    >>> as_shown({"data": {"name": "movielens-small", "path": "my.csv"}})
    {'data': {'path': 'my.csv'}}
    """
    shown = dict(config)
    data = shown.get("data")
    if isinstance(data, Mapping) and (data.get("path") or data.get("domains")):
        shown["data"] = {key: value for key, value in data.items() if key != "name"}
    return shown


def admit_own(tree: Mapping[str, Any]) -> None:
    """Allow a class that the user named as `package.module:Class`, also from the working folder.

    Raises:
        InputError: the engine's processes run installed code alone.
    """
    sections = [tree.get(section) for section in ("algorithm", "engine")]
    name, engine = (section.get("name") if isinstance(section, Mapping) else None for section in sections)
    if not isinstance(name, str) or ":" not in name:
        return
    if engine in ("flower", "ray"):
        raise InputError(f"`engine.name` {engine} needs an algorithm that is installed under a name, got {name!r}")
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))
    admit(name)


def build_config(tree: Mapping[str, Any]) -> SimulationConfig:
    """Validate a nested mapping, the algorithm's own settings included."""
    try:
        config = SimulationConfig.model_validate(tree)
    except ValidationError as error:
        raise InputError(_one_line(error, "", "Palate", config_keys())) from None
    chosen = config.algorithm
    settings = algorithm_class(chosen.name).Settings
    try:
        settings.model_validate(chosen.settings)
    except ValidationError as error:
        raise InputError(_one_line(error, SETTINGS, f"the algorithm {chosen.name}", settings.model_fields)) from None
    _check_masks(config)
    _check_unit(config)
    _check_panel(config)
    unknown = [name for name in config.evaluation.baselines if name not in BASELINES]
    if unknown:
        raise InputError(f"`evaluation.baselines` must be among {', '.join(BASELINES)} or none, got {unknown[0]!r}")
    return config


def _check_masks(config: SimulationConfig) -> None:
    """Refuse masks or sub-cohorts with a mode or an engine that can't have them."""
    privacy, engine = config.privacy, config.engine
    if privacy.subcohorts > 1 and not privacy.mode.cohort:
        raise InputError(f"`privacy.subcohorts` must be 1 with `privacy.dp` {privacy.dp}, got {privacy.subcohorts}")
    if privacy.masks == "off":
        return
    if not privacy.mode.cohort:
        raise InputError(f"`privacy.masks` on needs `privacy.dp` distributed, got {privacy.dp}")
    if engine.name != "local":
        raise InputError(
            f"`privacy.masks` on needs `engine.name` local: devices keep secrets in memory, got {engine.name}"
        )
    if engine.users_per_node not in (None, 1):
        raise InputError(f"`engine.users_per_node` must be 1 with masks, got {engine.users_per_node}")


def _check_unit(config: SimulationConfig) -> None:
    """Refuse a unit that the mode or the algorithm doesn't support."""
    privacy, chosen = config.privacy, config.algorithm.name
    made = algorithm_class(chosen).unit
    if privacy.unit == "event" and not privacy.mode.alone:
        raise InputError(f"`privacy.unit` event needs `privacy.dp` local, got {privacy.dp}")
    if privacy.unit != made:
        which = "such as event-mf" if privacy.unit == "event" else "such as als"
        raise InputError(
            f"`algorithm.name` must be one for `privacy.unit` {privacy.unit}, {which}, got {chosen}, for {made}s"
        )
    if privacy.unit == "event" and config.warm_start is not None:
        raise InputError("`warm_start` must be left out with `privacy.unit` event")


def _check_panel(config: SimulationConfig) -> None:
    """Refuse a panel that the algorithm has no use for, and what is said about one that there isn't."""
    data, chosen = config.data, config.algorithm.name
    if data.panel is not None and not takes_panel(algorithm_class(chosen).public_inputs):
        raise InputError(f"`data.panel` must be left out: {chosen} has no use for it")
    if data.panel_apart and data.panel is None:
        raise InputError("`data.panel_apart` needs `data.panel`, got none")


def config_keys() -> tuple[str, ...]:
    """Every key that a configuration may set, dotted; those of an algorithm's own settings are its own."""
    return tuple(name for name, leaf in _keys(SimulationConfig) if leaf)


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """The dotted name of each section and key, and whether it is a key."""
    for name, field in section.model_fields.items():
        inner = field.annotation
        nested = isinstance(inner, type) and issubclass(inner, BaseModel)
        yield prefix + name, not nested
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys(inner, f"{prefix}{name}.")


def _read(base: str | None) -> dict[str, Any]:
    """The tree of a preset or a TOML file."""
    if base is None:
        return {}
    if base in preset_names():
        return preset_settings(base)
    if not base.endswith(".toml"):
        raise InputError(f"`preset` must be one of {', '.join(preset_names())} or a .toml file, got {base!r}")
    try:
        return tomllib.loads(Path(base).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"the configuration must be a readable file, got {base}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the configuration {base} must be TOML: {error}") from None


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in a nested mapping."""
    *path, last = key.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise InputError(f"`{key}` must name a setting, but `{part}` is a value")
    tree[last] = value


def parse_setting(text: str) -> tuple[str, Any]:
    """One `key=value` of the command line; the value is read as TOML, or else taken as text."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise InputError(f"`--set` must be key=value, got {text!r}")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


_REASONS = {
    "model_type": "must be a table of settings",
    "dict_type": "must be a table",
    "tuple_type": "must be a list, for example [10, 20]",
    "too_short": "must have at least one entry",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most 200 characters",
}
"""Messages for errors that pydantic would word with the names of Python's types."""


def _one_line(error: ValidationError, prefix: str, owner: str, known: Iterable[str]) -> str:
    """The first error in one line, with the nearest known key for an unknown one."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"] if part != "[key]")
    key, got = prefix + name, f"got {first['input']!r:.60}"
    if first["type"] == "extra_forbidden":
        near = get_close_matches(name, list(known), 1)
        hint = f"; did you mean `{prefix}{near[0]}`?" if near else ""
        return " ".join(f"`{key}` is not a setting of {owner}, {got}{hint}".split())
    reason = _REASONS.get(first["type"], first["msg"].replace("Input should be", "must be"))
    return " ".join(f"`{key}` {reason}, {got}".split())
