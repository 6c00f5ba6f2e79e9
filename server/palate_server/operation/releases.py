"""Releases: publishes models, as files that the gateway serves to devices.

    public/models/SHA256-OF-MANIFEST/   a published model, its signature and its privacy card
    public/models/latest                {"version": ..., "manifest": ...}, written last

Between two runs the latest one is published over a catalogue to which items were added (`publish_items`), so that
devices have the items of a run before it is opened. A version is the size of the population's ledger, in which each
publication is an entry: it only grows. To return to an earlier model, it is published again under a higher version.
Gates check released values only.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from palate_common.algorithms import State
from palate_common.algorithms.popularity import COUNTS
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue, read_lines
from palate_common.models.item_changes import CHANGES, table_from
from palate_common.models.manifest import (
    EXTENDS,
    ITEMS,
    STARTS,
    Manifest,
    Publication,
    learned_by,
    read_manifest,
    start_of,
)
from palate_common.models.model import GlobalModel
from palate_common.models.published import Contents, Published
from palate_common.models.rules import RULES, rules_to_bytes
from palate_common.records.files import write_durably
from palate_common.survey import SURVEYING
from palate_common.system import lock_folder
from palate_core.errors import InputError, IntegrityError, PalateError, RefusedError
from palate_core.log.canonical import canonical_json, digest, read_canonical
from palate_core.log.consistency import SPENT, Shown
from palate_core.log.entries import MOST_ENTRY, PublishEntry, RestoredEntry
from palate_core.log.pinned import Pinned
from palate_core.plan import Noise
from palate_core.privacy_mode import DpMode
from palate_server.folder.profiles import TRIAL
from palate_server.folder.server_folder import Site
from palate_server.folder.witness import Witness
from palate_server.ledger.extract import Extract, verify_extract
from palate_server.ledger.ledger import Ledger
from palate_server.operation.terms import check_config, next_terms
from palate_server.rounds.registry import Registry
from palate_server.rounds.replay import Replay, model_header
from palate_server.rounds.terms import RunTerms

if TYPE_CHECKING:
    from palate_server.ledger.witnesses import Witnesses

LATEST, CARD = "latest", "privacy_card.json"
MANIFEST_FILES = (published.MANIFEST, published.SIGNATURE)
NOISE, LEAST_NOISE = "noise", 0.01
"""The state's standard deviations, and the least of them in a model to start from, in contributions of one user."""
_RACES = 3
"""How often a model is entered in the ledger while others write into it."""

CardMaker = Callable[[Extract], bytes]
"""A function that makes a signed privacy card of a run's ledger extract."""


@dataclass(frozen=True)
class Candidate:
    """A run's final model, rebuilt from its sealed releases.

    Attributes:
        terms: the run's terms.
        model: the model after its last release.
    """

    terms: RunTerms
    model: GlobalModel


def candidate(site: Site, ledger: Ledger, run: str) -> Candidate:
    """Rebuild the model of a closed run.

    Raises:
        InputError: there is no such run, or it isn't closed.
        IntegrityError: a release is not the sealed one, or the model not the one that the run was closed with.
    """
    entries = ledger.entries(run)
    closed = [entry for entry in entries if entry.kind == "close"]
    if not entries or not closed:
        raise InputError(f"`run` must be one that is closed, got {run!r:.80}: see `palate serve status`")
    terms = RunTerms.model_validate(entries[0].body["facts"])
    registry = Registry(site.run(run))
    replay = Replay(terms, registry.read_inputs(terms.inputs))
    for entry in entries:
        if entry.kind == "seal":
            replay.read(registry, entry.attempt, entry.release_hash)
    if replay.model.hash != closed[-1].facts.get("model_hash"):
        raise IntegrityError(f"the model of run {run} must be the one that it was closed with, got another")
    return Candidate(terms, replay.model)


def signal_of(state: State) -> float:
    """Signal of the released counts above their noise: mean squared count / noise variance - 1, at least 0."""
    noise = float(state["noise"][0]) if "noise" in state else 0.0
    if noise <= 0 or COUNTS not in state:
        return 0.0
    return max(0.0, float(np.mean(np.square(state[COUNTS], dtype=np.float64))) / noise**2 - 1)


def refusals(site: Site, found: Candidate) -> list[str]:
    """Why a model may not be published; empty if it may. Only released values are checked."""
    gates, rounds = site.config.release, found.model.header.releases
    signal = signal_of(found.model.state)
    said = [
        (rounds < gates.rounds, f"`release.rounds` asks for {gates.rounds} released rounds, got {rounds}"),
        (signal < gates.signal, f"`release.signal` asks for a signal of {gates.signal:g}, got {signal:.3g}"),
    ]
    return [reason for failed, reason in said if failed]


def publish(site: Site, run: str, card: CardMaker) -> Published:
    """Publish a closed run's model as the latest one.

    Raises:
        RefusedError: a gate refuses it.
        UncosignedError: too few witnesses are there; or they were a moment ago, and it must be published again.
        InputError, IntegrityError: as `candidate`.
    """
    with publishing(site), site.ledger() as ledger:
        found = candidate(site, ledger, run)
        if found.terms.algorithm == SURVEYING:
            raise InputError(f"`run` must be one that trained, got a survey's, {run}: see `palate survey result`")
        if reasons := refusals(site, found):
            raise RefusedError(f"the model of run {run} isn't published: {'; '.join(reasons)}")
        key = site.key()
        data = card(verify_extract(ledger.extract(run, key), key.public))
        terms = found.terms
        facts: dict[str, Any] = {"run": run, "dp": terms.dp.value, "noise": terms.noise.value, "card": digest(data)}
        facts |= {"for_release": terms.mode.private and terms.noise is Noise.SECURE}
        facts |= _tried(terms) | terms.still_from
        catalogue = catalogue_out(site) or site.catalogue
        model, more = _over(site, found.model, catalogue)
        return _write(site, ledger, model, catalogue, facts | more, {CARD: data})


def _over(site: Site, model: GlobalModel, catalogue: ItemCatalogue) -> tuple[GlobalModel, dict[str, Any]]:
    """A run's model over a catalogue to which items may have been added since, and what its manifest says of that.

    Raises:
        IntegrityError: the catalogue doesn't begin with the model's items, or the algorithm's models can't grow.
    """
    if model.header.catalogue == catalogue.hash:
        return model, {}
    fresh = site.afresh()
    try:
        grown = model.over(catalogue.items, fresh.public_inputs if fresh.catalogue.hash == catalogue.hash else {})
    except InputError as error:
        raise IntegrityError(str(error)) from None
    return grown, _extends(model) if model.header.releases else {}


def _extends(model: GlobalModel) -> dict[str, Any]:
    return {EXTENDS: {"model_hash": model.hash, "items": model.header.facts.n_items}}


def catalogue_out(site: Site) -> ItemCatalogue | None:
    """The items of the latest model, which devices have: no run is opened over others. None: no model is there."""
    data = _items_out(site)
    return None if data is None else ItemCatalogue(read_lines(data))


def _items_out(site: Site) -> bytes | None:
    manifest = latest_manifest(site)
    try:
        return None if manifest is None else (site.models / manifest / ITEMS).read_bytes()
    except OSError:
        return None


def check_keeps(items: Iterable[str], had: Iterable[str], name: str) -> None:
    """Refuse a list that has lost items; `name` says which list.

    Raises:
        InputError: it lacks an item that devices have.
    """
    if lost := sorted(set(had) - set(items)):
        more = f" and {len(lost) - 1:,} more" if len(lost) > 1 else ""
        raise InputError(
            f"{name} must keep each item that devices have, and lacks {lost[0]!r:.80}{more}: a list only grows"
        )


def added_items(site: Site) -> tuple[str, ...]:
    """The items of the file `items` that the latest model lacks: they are at its end; () where it has all of them.

    Raises:
        InputError: it isn't a list, or doesn't begin with the items that devices have, in their order.
    """
    data = _items_out(site)
    with suppress(OSError):
        if site.items_file.read_bytes() == data:  # nothing has to be read of a long list
            return ()
    had, items = read_lines(data or b""), site.afresh().catalogue.items
    check_keeps(items, had, "`items`")
    if items[: len(had)] != had:
        raise InputError(
            "`items` must begin with the items that devices have, in their order, got another order: `palate serve "
            "items` puts new ones at the end"
        )
    return items[len(had) :]


def publish_items(site: Site) -> Published | None:
    """Publish the latest model over `items`, where items were added, or with other facts about them, if there are some.

    No run may be open. None: there is nothing new.

    The model is what it was, with rows for new items of which nothing was learned: no charge, and no round. It is also
    published again where the ledger was restored since: devices may have a later one, of other items.

    **Guarantees:** a run is opened over a catalogue that devices have: its model is published before.

    Args:
        site: the server folder, of which nothing was read yet: `Site.afresh`.

    Raises:
        InputError: `items` isn't the latest model's list with more at its end, or features, panel or configuration
            don't fit it.
        UncosignedError: too few witnesses are there.
        IntegrityError: the latest model isn't the signed one, or its algorithm's models can't grow.
    """
    with publishing(site):
        added, inputs = added_items(site), site.public_inputs
        former = latest(site) if added or _has_others(site) or _is_behind(site) else None
        if former is None:
            return None
        check_config(site.config, n_items=len(site.catalogue.items), inputs=inputs)
        model, more = _over(site, former.model, site.catalogue)
        facts = _further(former)
        if EXTENDS in facts:
            more = {}  # of the run's own model, which the latest one extends already
        with site.ledger() as ledger:
            return _write(site, ledger, model, site.catalogue, facts | more, _card_of(site, former))


def _has_others(site: Site) -> bool:
    """Whether the latest model was published with other facts about its items, or rules, than the folder has."""
    name, had = latest_manifest(site), _beside(site)
    if name is None:
        return False
    items = read_lines(_items_out(site) or b"")
    table, out = site.table, table_from(had, items)
    facts = (None if each is None else each.over(items).to_bytes() for each in (table, out))
    return len({*facts}) > 1 or rules_to_bytes(site.rules) != had.get(RULES, rules_to_bytes(()))


def _beside(site: Site) -> dict[str, bytes]:
    """The files of facts and rules that the latest model was published with."""
    name = latest_manifest(site)
    paths = () if name is None else (site.models / name / each for each in (published.TABLE, CHANGES, RULES))
    return {path.name: path.read_bytes() for path in paths if path.exists()}


def _is_behind(site: Site) -> bool:
    """Whether devices may have a later model than the latest one here, as a restored folder lacks it."""
    manifest = latest_manifest(site)
    version, run = next(((size, said.get("run")) for size, name, said in listed(site) if name == manifest), (0, None))
    with site.ledger(read_only=True) as ledger:
        since = ledger.entries(since=version)
    later = [entry.run for entry in since if isinstance(entry, PublishEntry)]
    # Of a run whose files are here, the model is made again: see `unwritten`.
    lost = any(each in (run, None) or not site.run(each).exists() for each in later)
    return lost or any(isinstance(entry, RestoredEntry) for entry in since)


@contextmanager
def publishing(site: Site) -> Iterator[None]:
    """Let one process at a time look what the latest model is, and publish another, or change the list of items."""
    held = lock_folder(site.folder, wait=True)  # no other account can open it
    try:
        yield
    finally:
        os.close(held)


def publish_start(site: Site, start: Published | None = None) -> Published:
    """Publish the initial model, from which devices get the catalogue.

    Args:
        site: a new server folder.
        start: a model made elsewhere, over the folder's first items, which the population starts from; None: from none.

    Raises:
        InputError: no run can go on from it.
    """
    terms = _first_terms(site)
    model, facts = (_first_model(site, terms), {"for_release": True}) if start is None else _started(site, start)
    with site.ledger() as ledger:
        return _write(site, ledger, model, site.catalogue, facts | _tried(terms), {}, cosigned=False)


def _started(site: Site, start: Published) -> tuple[GlobalModel, dict[str, Any]]:
    """A model made elsewhere as this population's first one, and what its manifest says of that."""
    model, said, named = start.model, start.manifest.model_extra or {}, site.config.training.algorithm
    if not model.algorithm.hands_over() or model.header.algorithm != named or not model.header.releases:
        raise InputError(
            f"`--start` must be a trained model that runs of {named} can go on from, got one of "
            f"{model.header.algorithm} with {model.header.releases} releases"
        )
    try:
        if NOISE in model.state:  # of a model without noise, too, a run has to know how much it counts
            least = np.array([LEAST_NOISE, LEAST_NOISE if "basis" in model.state else 0.0], np.float32)
            model = GlobalModel(model.header, model.state | {NOISE: np.maximum(model.state[NOISE], least)})
        with np.errstate(all="ignore"):
            found = model.algorithm.hand_over(model.state, np.arange(len(start.items)), len(start.items))
        fits = all(np.isfinite(each).all() for each in found.values())
    except (PalateError, ValueError, LookupError):
        fits = False
    if not fits:
        raise InputError("`--start` must be a model whose arrays fit together, got one that no run could go on from")
    about: dict[str, Any] = {name: getattr(start.manifest, name) for name in ("population", "public_key", "model_hash")}
    about |= {**log_of(start.manifest), "users": start.model.header.facts.n_users}
    grown, more = _over(site, model, site.catalogue)
    return grown, {"for_release": said.get("for_release") is True, STARTS: about, **more}


def log_of(manifest: Manifest) -> dict[str, str]:
    """`source` and `licence` of the log that a model was learned from, as far as its manifest says them."""
    said = (manifest.model_extra or {}).get("provenance")
    known = said if isinstance(said, dict) else {}
    return {name: str(known[name])[:1000] for name in ("source", "licence") if known.get(name)}


def _first_model(site: Site, terms: RunTerms) -> GlobalModel:
    return GlobalModel(model_header(terms, 0), Replay(terms, site.public_inputs).algorithm.start())


def _first_terms(site: Site) -> RunTerms:
    """Terms of no run, of which the initial model is."""
    catalogue = site.catalogue
    return next_terms(
        site.config.model_copy(update={"privacy": site.config.privacy.model_copy(update={"dp": DpMode.CENTRAL})}),
        catalogue=catalogue.hash,
        n_items=len(catalogue.items),
        inputs=site.public_inputs,
        about={},
    )


def _tried(terms: RunTerms) -> dict[str, Any]:
    """What a manifest says of a trial's model; {} of any other's."""
    return {"trial": True} if terms.about.get("profile") == TRIAL else {}


def unwritten(site: Site, ledger: Ledger) -> str | None:
    """The run whose model the ledger says was published last, if it isn't there: witnesses were lost meanwhile.

    Where the latest model is of that run, it was to be published again, which `renew` does.
    """
    published_last = [entry for entry in ledger.entries() if isinstance(entry, PublishEntry)][-1:]
    there = [each for each in listed(site) if each[1] == latest_manifest(site)]  # a later one was never shown
    if not published_last or (there and there[0][0] > published_last[0].seq):
        return None
    run = published_last[0].run
    return None if there and there[0][2].get("run") == run else run


def renew(site: Site) -> Published | None:
    """Publish the latest model again if witnesses or release key have changed since, or it has no entry in the ledger.

    None if there is no need.

    The ledger gets an entry about the witnesses first, so that the model has a higher version, and whoever reads the
    ledger sees who is asked.

    Raises:
        UncosignedError: too few witnesses have cosigned; it must be done again.
        IntegrityError: the latest model isn't the signed one.
    """
    settings, key = site.config.witnesses, site.key()
    with publishing(site), site.ledger() as ledger:
        ledger.set_witnesses(settings.keys, settings.needed)
        former = latest_manifest(site)
        if former is None:
            return None
        folder = site.models / former
        trusted = _trusted(ledger, folder, key.public)
        if _is_current(site, _manifest(folder, trusted), ledger):
            return None
        return _again(site, ledger, published.read(folder, public_key=trusted))


def republish(site: Site, found: Published) -> Published:
    """Publish a model again, in the present state of the ledger, by the present release key.

    Raises:
        UncosignedError: too few witnesses have cosigned that state.
    """
    with publishing(site), site.ledger() as ledger:
        return _again(site, ledger, found)


def _again(site: Site, ledger: Ledger, found: Published) -> Published:
    return _write(site, ledger, found.model, found.catalogue, _further(found), _card_of(site, found))


def _further(found: Published) -> dict[str, Any]:
    """Members of a model's manifest that are said again where it is published again."""
    said = found.manifest.model_dump(mode="json")
    return {name: value for name, value in said.items() if name not in {*Manifest.model_fields, SPENT}}


def _card_of(site: Site, found: Published) -> dict[str, bytes]:
    """The privacy card beside a published model; {} if it has none."""
    path = site.models / digest(found.files[published.MANIFEST]) / CARD
    return {CARD: path.read_bytes()} if path.exists() else {}


def _manifest(folder: Path, public_key: str) -> Manifest:
    """The manifest of a published model, verified."""
    return read_manifest({name: (folder / name).read_bytes() for name in MANIFEST_FILES}, public_key)


def _trusted(ledger: Ledger, folder: Path, present: str) -> str:
    """The key by which a published model is read: the one with which the ledger began, or one that was lost since.

    The latest model is by the lost key until it is published again, for which witnesses may be waited for.
    """
    first, lost = ledger.first_key(present), ledger.lost_key
    if lost is None:
        return first
    try:
        _manifest(folder, first)
    except IntegrityError:
        return lost
    return first


def _is_current(site: Site, manifest: Manifest, ledger: Ledger) -> bool:
    """Whether a model is by the present release key, shows its entry, and is cosigned by the present witnesses."""
    settings, present = site.config.witnesses, site.key().public
    sets = [settings.keys] if settings.keys else []
    first = ledger.first_key(present)
    pinned = Pinned.of(site.config.population, first, *sets, needed=settings.needed)
    if manifest.public_key != present or manifest.publication is None:
        return False
    try:
        pinned.check("model", manifest.checkpoint, manifest.cosigned, manifest.handovers, ledger.epoch)
    except IntegrityError:
        return False
    return True


@contextmanager
def _cosigning(site: Site, ledger: Ledger) -> Iterator[Witnesses | None]:
    """The witnesses of the ledger, for one publication; None where there are none."""
    witnesses = site.witnesses(ledger)
    if witnesses is None:
        yield None
        return
    with witnesses:
        yield witnesses


def latest(site: Site) -> Published | None:
    """The latest published model, verified; None if there is none.

    Raises:
        IntegrityError: it isn't the signed one.
    """
    manifest = latest_manifest(site)
    if manifest is None:
        return None
    folder = site.models / manifest
    with site.ledger(read_only=True) as ledger:  # a model of before a handover may still be the latest
        trusted = _trusted(ledger, folder, site.key().public)
    return published.read(folder, public_key=trusted)


def latest_manifest(site: Site) -> str | None:
    """The hash of the latest model's manifest; None if there is none."""
    try:
        return str(json.loads((site.models / LATEST).read_bytes())["manifest"])
    except OSError:
        return None
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{LATEST} must name a manifest, got something else: {site.models / LATEST}") from None


def listed(site: Site) -> list[tuple[int, str, Mapping[str, Any]]]:
    """Version, manifest hash and manifest of each published model on the disk, newest first."""
    found = []
    for path in site.models.iterdir():
        if path.is_dir() and not path.name.startswith("."):
            manifest = json.loads((path / published.MANIFEST).read_bytes())
            found.append((int(manifest["checkpoint"]["size"]), path.name, manifest))
    return sorted(found, key=lambda each: each[0], reverse=True)


def warm_inputs(site: Site) -> tuple[State, dict[str, Any]]:
    """The public arrays that the next run starts from, and facts on them for its terms; empty if there are none."""
    former = latest(site)
    if former is None or former.model.header.releases == 0 or not site.config.training.warm_start:
        return {}, {}
    algorithm = former.model.algorithm
    if not algorithm.hands_over() or former.model.header.algorithm != site.config.training.algorithm:
        return {}, {}
    place = {item: row for row, item in enumerate(site.catalogue.items)}
    if missing := [item for item in former.items if item not in place]:
        raise InputError(f"`items` must keep every item of the latest model, and lacks {missing[0]!r:.80}")
    model_hash, known = learned_by(former.manifest)
    learned = former.items[:known]  # of items that came since, nothing is known
    rows = np.array([place[item] for item in learned], np.int64)
    try:
        inputs = algorithm.hand_over(former.model.state, rows, len(place))
    except PalateError:
        return {}, {}  # the former model has nothing to hand over
    about = {
        "run": former.manifest.model_dump().get("run"),
        "model_hash": model_hash,
        "releases": former.model.header.releases,
    }
    start = start_of(former.manifest)
    return inputs, {"builds_on": about if start is None else {**about, STARTS: start}}


def _write(
    site: Site,
    ledger: Ledger,
    model: GlobalModel,
    catalogue: ItemCatalogue,
    facts: Mapping[str, Any],
    extra: Mapping[str, bytes],
    *,
    cosigned: bool = True,
) -> Published:
    """Enter the model in the ledger, write its folder under its hash, then `latest`; then delete the oldest models.

    A process that ends between entry and folder leaves an entry about a model that nobody was shown: it is published
    again, with another entry.

    Args:
        site: the server folder.
        ledger: its ledger.
        model: the model.
        catalogue: its items.
        facts: further members of the manifest.
        extra: files beside those that the manifest names.
        cosigned: whether witnesses are asked, where there are some: nobody is shown the first model before them.
    """
    if half_life := site.config.release.recent_half_life_days:
        if model.learns_ratings:
            raise InputError(f"`release.recent_half_life_days` must be 0 where ratings are learned, got {half_life:g}")
        facts = {**facts, "recent_half_life_days": half_life}
    former, key = latest_manifest(site), site.key()
    if former is not None and (version := listed(site)[0][0]) > (size := ledger.checkpoint().size):
        raise IntegrityError(f"a model must have a version above {version}, got {size + 1}")
    made = published.contents(
        model,
        catalogue,
        facts,
        population=site.config.population,
        public_key=key.public,
        table=site.table,
        rules=site.rules,
        former=_beside(site),
    )
    witness = Witness(site.witness)
    witness.check()
    with _cosigning(site, ledger) if cosigned else nullcontext() as witnesses:
        said, shown, publication = _entered(site, ledger, witnesses, made)
    size, files = shown.checkpoint.size, said.sign(key, shown, publication)
    name = digest(files[published.MANIFEST])
    witness.show(files)
    draft = site.models / f".draft-{secrets.token_hex(8)}"
    published.write(draft, files)
    for each, data in extra.items():
        write_durably(draft / each, data)
    _open_to_all(draft)
    draft.rename(site.models / name)
    offer = {"version": size, "manifest": name}
    write_durably(site.models / LATEST, canonical_json(offer))
    for _, old, _ in listed(site)[site.config.release.keep :]:
        shutil.rmtree(site.models / old)
    for rest in site.models.glob(".draft-*"):
        shutil.rmtree(rest)
    return published.read(site.models / name, public_key=key.public)


def _entered(
    site: Site, ledger: Ledger, witnesses: Witnesses | None, made: Contents
) -> tuple[Contents, Shown, Publication]:
    """Enter what a manifest says in the ledger; returns that, and the state in which it is the last entry.

    The mirror has what was cosigned before the model is shown to anybody.

    Where another process has written into the ledger meanwhile, it is entered once more.

    Raises:
        UncosignedError: too few witnesses are there, of which nothing was entered; or they were a moment ago.
    """
    if witnesses is not None:
        witnesses.ready(ledger)
    run = made.said.get("run")
    known = run if run in ledger.runs() else None  # it may be of a run in a part of the ledger that was lost
    for _ in range(_RACES):
        spent = ledger.spent()
        said = made.also(**{SPENT: spent})
        now = ledger.publish(known, made.said["model_hash"], said.hash)
        shown = ledger.shown(now.size) if witnesses is None else witnesses.shown(ledger)
        if (shown.checkpoint, ledger.spent()) == (now, spent):
            if witnesses is not None:
                with suppress(OSError, InputError):  # the operation tells of a mirror that can't be written
                    site.mirror_cosigned(ledger)
            entry = read_canonical(ledger.leaves(now.size)[1][-1], most=MOST_ENTRY)
            return said, shown, Publication(entry=entry, inclusion=ledger.inclusion_proof(now.size - 1, now.size))
    from palate_server.ledger.witnesses import UncosignedError  # loads an HTTP client

    raise UncosignedError("a model's entry must be the ledger's last while it is published, and others write, too")


def _open_to_all(folder: Path) -> None:
    """Let other accounts read a folder, as the gateway's workers may be one."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
