"""Completeness: every release is charged and sealed, and every file in the folder is accounted for.

It compares a run folder with its ledger entries: every file of `releases/` and `model/`, and every name beside them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from palate_audit.evidence.evidence import Finding
from palate_audit.run.run_records import Place, RunRecords
from palate_audit.run.signed_files import private_keys, signed_files
from palate_audit.run.statements import statements
from palate_common.algorithms import algorithm_class
from palate_common.interactions import Interactions
from palate_common.models import published
from palate_common.models.compact import compact_unpacked, expand_unpacked, inflate
from palate_common.models.manifest import MOST_BYTES, STARTS
from palate_common.models.model import GlobalModel
from palate_core.errors import InputError, IntegrityError, PalateError
from palate_core.layout import released_size
from palate_core.log.canonical import digest
from palate_core.log.consistency import SPENT
from palate_core.plan import Noise
from palate_server.folder.profiles import TRIAL
from palate_server.rounds.noise import NoisyAggregate
from palate_server.rounds.registry import INPUTS, Registry
from palate_server.rounds.replay import Replay
from palate_sim.run.run_folder import DRAFT

RELEASE = re.compile(r"round-(\d+)-attempt-(\d+)\.safetensors")
OUTSIDE = frozenset({
    "run.json", "key", "identities", "lock", "events.jsonl", "devices.db", "devices.db-wal", "devices.db-shm",
    "ledger.json", "privacy_card.json", "result.json", "people.json", "report.html", "files.json",
    "recommendations.csv.gz", "split", "flower.log", "ray.log", "audit.html", "audit.json",
})  # fmt: skip
"""Files that are no releases: keys and evidence, or experiment output, which the card excludes by name."""
MODEL_FILES = frozenset({published.MANIFEST, published.SIGNATURE})
UNUSABLE = (ArithmeticError, IndexError, KeyError, MemoryError, TypeError, ValueError, PalateError)
"""What arrays that don't fit together raise when somebody computes with them."""
ROUNDING = 0.05
"""Difference of scores, of their range, that a smaller copy may have from its model."""
PROBES = 64
"""Synthetic users whose scores compare two models that differ in their bytes."""


def completeness(records: RunRecords, *, public_key: str | None = None) -> Iterator[Finding]:
    """Every finding on files; if the operator's key is known from outside, it must have signed."""
    yield _seals(records)
    yield from signed_files(records, public_key=public_key)
    yield from private_keys(records.folder, records.extract.public_key if records.extract else public_key)
    yield _files(records)
    yield _plans(records)
    yield from _model(records)
    yield _published(records, public_key)
    yield _inputs(records)
    yield from statements(records)
    yield _names(records)


def of_releases(records: RunRecords) -> Iterator[Finding]:
    """The findings on a run's releases and inputs alone."""
    yield _seals(records)
    yield _files(records)
    yield _plans(records)
    yield _inputs(records)


def replayed_hash(records: RunRecords) -> str:
    """The hash of the model that the sealed releases give.

    Raises:
        IntegrityError: a release is missing or changed.
    """
    registry = Registry(records.folder)
    replay = Replay(records.terms, registry.read_inputs(records.terms.inputs))
    for (_, attempt), seal in sorted(records.seals.items()):
        replay.read(registry, attempt, seal.release_hash)
    return replay.model.hash


def _seals(records: RunRecords) -> Finding:
    """Each sealed release has the sealed hash."""
    test, missing = "sealed releases", []
    for place, seal in sorted(records.seals.items()):
        path = _path(records.folder, place)
        if not path.is_file():
            missing.append(path.name)
        elif digest(path.read_bytes()) != seal.release_hash:
            return Finding.checked(
                test, False, f"{path.name} is not what entry {seal.seq} sealed", first_bad=seal.seq, file=path.name
            )
    if missing:
        said = f"{len(missing)} sealed and not in the folder, first {missing[0]}: what was charged and released is gone"
        return Finding.checked(test, False, said, gone=missing)
    if not records.seals:
        return Finding.missing(test, "nothing is sealed: " + _why_unsealed(records))
    return Finding.checked(test, True, f"{len(records.seals)} files have the hashes that were sealed")


def _why_unsealed(records: RunRecords) -> str:
    return "dp off releases exact sums, which no ledger bounds" if _is_off(records) else "no round was released"


def _files(records: RunRecords) -> Finding:
    """Each file of `releases/` belongs to a charged attempt."""
    test, places, found = "charged releases", records.charges, 0
    folder = records.folder / "releases"
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if path.is_dir() or DRAFT.fullmatch(path.name):
            continue
        match = RELEASE.fullmatch(path.name)
        if _is_off(records) and (match or path.suffix == ".opened"):
            found += 1
            continue
        if match is None or path.parent != folder:
            return Finding.checked(
                test, False, f"{path.relative_to(records.folder)} is no release of a charged attempt"
            )
        if (int(match[1]), int(match[2])) not in places:
            return Finding.checked(test, False, f"{path.name} was never charged", file=path.name)
        found += 1
    if _is_off(records):
        return Finding.missing(test, f"dp off: {found} files of exact sums, and nothing that bounds them")
    void = sorted(place for place in places if place not in records.seals)
    told = f"; {len(void)} charged and never sealed" if void else ""
    return Finding.checked(test, True, f"{found} files, each of a charged attempt{told}")


def _plans(records: RunRecords) -> Finding:
    """Each release contains the charged plan, with the charged noise."""
    test, registry, checked = "plans", Registry(records.folder), 0
    for place, charge in sorted(records.charges.items()):
        if not _path(records.folder, place).is_file():
            continue
        try:
            release = registry.read(*place, None)
        except PalateError as error:
            return Finding.checked(test, False, str(error), first_bad=charge.seq)
        wrong = _unlike(release, records, place)
        if wrong:
            said = f"entry {charge.seq}: the release of round {place[0]}, attempt {place[1]} has another {wrong}"
            return Finding.checked(test, False, said, first_bad=charge.seq)
        checked += 1
    if not checked:
        return Finding.missing(test, "no release of a charged attempt is in the folder")
    return Finding.checked(test, True, f"{checked} releases carry the plans that were charged, noise and size included")


def _unlike(release: NoisyAggregate, records: RunRecords, place: Place) -> str | None:
    """The first difference between a release and its charge; None if there is none."""
    plan, charge = release.plan, records.charges[place]
    facts, dimension = charge.facts, released_size(plan.layout)
    compared: dict[str, tuple[Any, Any]] = {
        "population": (plan.population, records.population),
        "run": (plan.run, charge.run),
        "round or attempt": ((plan.round, plan.attempt), place),
        "plan": (plan.hash, charge.plan_hash),
        "cost": (plan.mu2, charge.mu2),
        "sensitivity": (plan.grid, facts.get("sensitivity")),
        "sigma": (plan.sigma, facts.get("sigma")),
        "dp mode": (plan.dp.value, facts.get("dp", plan.dp.value)),
        "source of noise": (plan.noise.value, facts.get("noise", plan.noise.value)),
        "number of shares": (plan.cohort.noise_shares if plan.cohort else 1, facts.get("shares", 1)),
        "number of sub-cohorts": (plan.cohort.subcohorts if plan.cohort else 1, facts.get("subcohorts", 1)),
        "dimension": (dimension, facts.get("dimension")),
        "size": (release.steps.shape, (dimension,)),
        "number of users than its plan allows": (_sizes_fit(release), True),
    }
    return next((what for what, (found, expected) in compared.items() if found != expected), None)


def _sizes_fit(release: NoisyAggregate) -> bool:
    """Whether a release has as many users as its plan allows in each sub-cohort, and no more of these."""
    plan, sizes = release.plan, release.sizes
    least, most, number = plan.cohort_floor, math.inf, 1
    if plan.cohort is not None:
        together = 1 if plan.cohort.masks else plan.cohort.subcohorts
        least, most = max(least, plan.cohort.n_min * together), plan.cohort.n_max * together
        number = plan.cohort.subcohorts // together
    return len(sizes) <= number and sum(sizes) == release.users and all(least <= size <= most for size in sizes)


def _model(records: RunRecords) -> Iterator[Finding]:
    """The published model is the one in the run's closing entry, and follows from the sealed releases alone."""
    test, path = "model hash", records.folder / "model" / published.MODEL
    if records.closed is None:
        yield Finding.missing(test, "the run is not closed: no model is final")
        return
    if not path.is_file():
        yield Finding.missing(test, "model/model.safetensors is not in the folder")
        return
    data = path.read_bytes()
    closed = records.closed.get("model_hash")
    yield Finding.checked(
        test, digest(data) == closed, f"SHA-256 {digest(data)[:16]}…, closed with {str(closed)[:16]}…"
    )
    yield _replayed(records, data)


def _replayed(records: RunRecords, data: bytes) -> Finding:
    """Compare with the model recomputed from the releases."""
    test, registry = "model from releases", Registry(records.folder)
    try:
        replay = Replay(records.terms, registry.read_inputs(records.terms.inputs))
    except PalateError as error:
        return Finding.missing(test, str(error))
    attempts = sorted(records.seals) if not _is_off(records) else sorted(_exact(records.folder))
    try:
        for round_, attempt in attempts:
            if not _path(records.folder, (round_, attempt)).is_file():
                return Finding.missing(test, f"the release of round {round_}, attempt {attempt} is not in the folder")
            seal = records.seals.get((round_, attempt))
            replay.read(registry, attempt, None if seal is None else seal.release_hash)
        model = GlobalModel.from_bytes(data)
    except PalateError as error:
        return Finding.checked(test, False, str(error))
    if replay.model.hash == model.hash:
        return Finding.checked(
            test, True, f"{replay.round} releases give it again, byte for byte: nothing else is in it"
        )
    try:
        gap = _apart(replay.model, model)
    except UNUSABLE as error:
        return Finding.checked(test, False, f"the published model can't be used: {' '.join(str(error).split())[:120]}")
    said = f"made again from {replay.round} releases, its scores differ by {gap:.2g} of their range"
    return Finding.checked(
        test, gap < 1e-3, f"{said}: {'rounding' if gap < 1e-3 else 'something else is in it'}", gap=gap
    )


def _apart(one: GlobalModel, other: GlobalModel) -> float:
    """The largest difference of two models' scores for synthetic users, relative to the range of scores."""
    n_items, rng = one.header.facts.n_items, np.random.default_rng(0)
    if other.header.facts.n_items != n_items:
        return float("inf")
    size = min(5, n_items)
    items = np.concatenate([rng.choice(n_items, size, replace=False) for _ in range(PROBES)])
    users = np.repeat(np.arange(PROBES), size)
    made = Interactions.from_pairs(users, items, n_users=PROBES, n_items=n_items)
    first, second = np.asarray(one.scores(made)), np.asarray(other.scores(made))
    return float(np.abs(first - second).max() / max(float(np.ptp(first)), 1e-30))


def _published(records: RunRecords, public_key: str | None) -> Finding:
    """The manifest is signed by the operator's key, or the extract's, and lists every file of `model/`."""
    test, folder = "published model", records.folder / "model"
    if not folder.is_dir():
        return Finding.missing(test, "there is no folder model")
    manifest = records.read("model/manifest.json") or {}
    key = public_key or (records.extract.public_key if records.extract else str(manifest.get("public_key")))
    try:
        found = published.read(folder, public_key=key)
    except PalateError as error:
        lacking = _lacking(records)
        return Finding.missing(test, lacking) if lacking else Finding.checked(test, False, str(error))
    named = set(found.manifest.files) | MODEL_FILES
    strange = sorted(p.name for p in folder.iterdir() if p.name not in named and not DRAFT.fullmatch(p.name))
    if strange:
        return Finding.checked(test, False, f"model/{strange[0]} is published and no manifest names it")
    try:
        wrong = _foreign(records, found)
    except UNUSABLE as error:
        wrong = f"names a model that can't be used: {' '.join(str(error).split())[:120]}"
    if wrong:
        return Finding.checked(test, False, f"the manifest {wrong}")
    return Finding.checked(test, True, f"{len(named)} files, each named by the manifest that {key[:16]}… signed")


def _foreign(records: RunRecords, found: published.Published) -> str:
    """What a signed manifest says that the run's terms and model don't; "" if nothing."""
    manifest, terms, header = found.manifest, records.terms, found.model.header
    extra = manifest.model_extra or {}
    if extra.get("run") != records.run:
        return "names another run"
    known = {"run", "dp", "noise", "for_release", "card", "trial", SPENT, STARTS}
    if strange := sorted(extra.keys() - known):
        return f"has `{strange[0]}`, which Palate doesn't write: no charge covers it"
    release = terms.mode.private and terms.noise is Noise.SECURE
    stated: dict[str, Any] = {"dp": terms.dp.value, "noise": terms.noise.value, "for_release": release}
    stated |= {"trial": True if terms.about.get("profile") == TRIAL else None, STARTS: None} | dict(terms.still_from)
    if wrong := [name for name, value in stated.items() if extra.get(name) != value]:
        return f"has another `{wrong[0]}` than the run's terms"
    own = (header.algorithm, header.releases, len(found.items), found.model.hash)
    if (manifest.algorithm, manifest.releases, manifest.items, manifest.model_hash) != own:
        return "has other numbers than its model"
    for name, facts in manifest.files.items():
        path = records.folder / "model" / name
        if path.is_file() and (digest(path.read_bytes()), path.stat().st_size) != (facts.sha256, facts.bytes):
            return f"names another {name}"
    return _smaller(records, found)


def _smaller(records: RunRecords, found: published.Published) -> str:
    """What is wrong with the model's smaller copy, which devices load; "" if nothing."""
    path = records.folder / "model" / published.COMPACT
    if not path.is_file():
        return ""
    plain = inflate(path.read_bytes(), most=MOST_BYTES, noun="a compact model")
    if found.manifest.unpacked is not None and digest(plain) != found.manifest.unpacked.sha256:
        return f"names another {published.COMPACT}"
    if plain == compact_unpacked(found.model):
        return ""
    gap = _apart(found.model, expand_unpacked(plain, most=4 * len(plain)))
    return "" if gap < ROUNDING else f"names a {published.COMPACT} that is another model: scores differ by {gap:.2g}"


def _lacking(records: RunRecords) -> str:
    """Why the run's algorithm can't be loaded here, which is no evidence against the run; "" if it can."""
    try:
        algorithm_class(records.terms.algorithm)
    except InputError as error:
        return str(error)
    return ""


def _inputs(records: RunRecords) -> Finding:
    """The public arrays that the run started from match its terms."""
    test, path = "public inputs", records.folder / INPUTS
    try:
        named = records.terms.inputs
        Registry(records.folder).read_inputs(named)
    except IntegrityError as error:
        return Finding.checked(test, False, str(error))
    if named is None and path.exists():
        return Finding.checked(test, False, f"{INPUTS} is there and the run's terms name none")
    return Finding.checked(test, True, f"{INPUTS} has the hash of the terms" if named else "the run started from none")


def _names(records: RunRecords) -> Finding:
    """The folder has no other files."""
    known = OUTSIDE | {"releases", "model", INPUTS}
    strange = sorted(p.name for p in records.folder.iterdir() if p.name not in known and not DRAFT.fullmatch(p.name))
    if strange:
        said = f"{len(strange)} that Palate doesn't write, first {strange[0]}: no charge or exclusion covers it"
        return Finding.missing("other files", said)
    return Finding.checked("other files", True, "every other file is evidence, or excluded on the card by name")


def _exact(folder: Path) -> Iterator[Place]:
    """With dp off: the attempts that left a sum, only the first of each round."""
    seen = set[int]()
    matches = (RELEASE.fullmatch(path.name) for path in sorted((folder / "releases").glob("*")))
    for place in sorted((int(match[1]), int(match[2])) for match in matches if match):
        if place[0] not in seen:
            seen.add(place[0])
            yield place


def _path(folder: Path, place: Place) -> Path:
    return folder / "releases" / f"round-{place[0]}-attempt-{place[1]}.safetensors"


def _is_off(records: RunRecords) -> bool:
    try:
        return not records.terms.mode.private
    except IntegrityError:
        return False
