"""Restorations: a ledger that was lost goes on from the most that anybody has shown, whoever shows it, in any order.

A server folder is backed up, and its ledger goes on. What others then have of it are signed plans, published models
that say what was spent or don't, and cosigned checkpoints, of several states; some say more than the states after them.
From generated subsets of these, in generated orders, in folders of their own and in one, the folder is restored each
time. A book takes the longest state and the highest spend: the new epoch must begin there, or, where the longest state
comes without a spend, nothing may be restored. Nothing that was shown may be forgotten.

Cases are the same in every audit.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mechanism.checks.ledgers.books import beside
from mechanism.harness.probe_run import POPULATION, Setting, crowd
from mechanism.harness.watched_run import WatchedRun, release_key
from palate_audit.evidence.evidence import Finding
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import GlobalModel
from palate_common.records.key_file import save_key
from palate_common.system import memory_folder
from palate_core.errors import InputError
from palate_core.log.canonical import canonical_json
from palate_core.log.checkpoints import sign_checkpoint
from palate_core.log.consistency import SPENT
from palate_core.plan import ChargeProof, SignedPlan, sign_plan
from palate_server.folder.backup import read_backup, write_backup
from palate_server.folder.server_folder import COSIGNED, Site, write_format
from palate_server.folder.witness import WITNESS
from palate_server.ledger.ledger import Ledger
from palate_server.service.setup import make_databases, server_toml

ITEMS = ("item-0", "item-1", "item-2")
STATES = 3
"""States after the backup that others have seen."""
CASES, SEED = 28, 3
MOST = 5
"""The most that are shown in one case."""


@dataclass(frozen=True)
class _Shown:
    """What somebody has of the ledger.

    Attributes:
        name: what it is, for people.
        folder: where it lies.
        size: of the state that it shows.
        spent: what it says was spent; None: it doesn't say.
    """

    name: str
    folder: Path
    size: int
    spent: float | None


def restorations() -> list[Finding]:
    """Restorations from what generated others have shown."""
    return beside({"restorations": _restored})


def _restored() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-") as name:
        home = Path(name).resolve()
        site, signed, model = _site(home)
        with site.ledger() as ledger:
            ledger.open_run("before", {})
            spent = _charge(ledger, signed, "before", 0).spent
            write_backup(site, home / "backup.tar")
            base = ledger.checkpoint().size
            ledger.open_run("after", {})
            shows = [each for number in range(STATES) for each in _others(home, ledger, signed, model, number)]
        yield from _cases(home, base, spent or 0.0, shows)


def _site(home: Path) -> tuple[Site, SignedPlan, GlobalModel]:
    """A server folder, and a plan and a model of its population."""
    setting = Setting(algorithm="popularity", users_per_node=1, epsilon=0.5)
    terms = setting.terms("popularity", n_users=2, n_items=len(ITEMS))
    with WatchedRun(terms, crowd([[0]] * 2, n_items=len(ITEMS)), users_per_node=1) as stage:
        stage.play(rounds=1)
        asked, model = stage.seen.asked
    site = Site(home / "site")
    site.folder.mkdir()
    budgets = {"privacy.lifetime_epsilon": 12.0, "privacy.period_epsilon": 12.0}
    site.config_file.write_text(server_toml({"population": POPULATION, **budgets}))
    site.make_folders()
    (site.folder / "items").write_text("\n".join(ITEMS) + "\n")
    save_key(release_key(), site.folder / "key")
    make_databases(site)
    write_format(site.folder)
    return site, SignedPlan.model_validate_json(asked), GlobalModel.from_bytes(model)


@dataclass(frozen=True)
class _Charged:
    """A plan, its charge, and what was spent with it."""

    data: bytes
    size: int
    spent: float | None


def _charge(ledger: Ledger, signed: SignedPlan, run: str, number: int) -> _Charged:
    """Charge a plan of a run."""
    plan = signed.plan.model_copy(update={"run": run, "attempt": number})
    made = ledger.charge(
        run=run, round_=plan.round, attempt=number, plan_hash=plan.hash, mu2=plan.mu2, facts={}, run_limit=None
    )
    size = made.checkpoint.size
    proof = ledger.inclusion_proof(made.seq, size)
    charge = ChargeProof(checkpoint=made.checkpoint, entry=made.entry.body, inclusion=proof)
    return _Charged(sign_plan(plan, charge, release_key()).to_bytes(), size, ledger.spent())


def _others(home: Path, ledger: Ledger, signed: SignedPlan, model: GlobalModel, number: int) -> Iterator[_Shown]:
    """A charge, and everything that shows the state with it."""
    made, key = _charge(ledger, signed, "after", number), release_key()
    spent, more = ledger.spent(), ledger.spent() + 0.5

    def folder(name: str) -> Path:
        path = home / f"{name}-{number}"
        path.mkdir()
        return path

    plan = folder("plan")
    (plan / WITNESS).write_bytes(made.data)
    yield _Shown("a plan", plan, made.size, made.spent)
    for name, facts in (("silent", {}), ("told", {SPENT: spent}), ("more", {SPENT: more})):
        files = published.pack(model, ItemCatalogue(ITEMS), facts, key, population=POPULATION, shown=ledger.shown())
        published.write(home / f"{name}-{number}", files)
        yield _Shown(f"a model, {name}", home / f"{name}-{number}", made.size, facts.get(SPENT))
    note = sign_checkpoint(ledger.checkpoint(), ledger.log_key(key.public).name, key).to_bytes().decode()
    cosigned = folder("cosigned")
    (cosigned / COSIGNED).write_bytes(canonical_json({"cosigned": note, SPENT: spent}))
    yield _Shown("a cosigned checkpoint", cosigned, made.size, spent)


def _cases(home: Path, base: int, spent: float, shows: Sequence[_Shown]) -> Iterator[str]:
    """Subsets in any order, in folders of their own and in one."""
    rng = np.random.default_rng(SEED)
    for case in range(CASES):
        count = int(rng.integers(1, MOST + 1))
        chosen = [shows[int(place)] for place in rng.choice(len(shows), count, replace=False)]
        paths = [each.folder for each in chosen]
        if case % 3 == 2:
            joined = home / f"joined-{case}"
            for place, each in enumerate(chosen):
                shutil.copytree(each.folder, joined / f"{place}")
            paths = [joined]
        yield _begun(home / f"case-{case}", home / "backup.tar", paths, chosen, base, spent)


def _begun(folder: Path, archive: Path, paths: list[Path], chosen: list[_Shown], base: int, spent: float) -> str:
    """One restoration, beside the book."""
    size = max(each.size for each in chosen)
    said = [each.spent for each in chosen if each.spent is not None]
    allowed = any(each.spent is not None for each in chosen if each.size == size)
    what = ", ".join(f"{each.name} of size {each.size}" for each in chosen)
    try:
        read_backup(archive, folder, witnesses=paths, without_witness=False)
    except InputError:
        return f"a restoration from {what} must be made, and is refused" if allowed else ""
    if not allowed:
        return f"a restoration from {what} is made, and nobody says what was spent at size {size}"
    with Site.at(folder).ledger(read_only=True) as ledger:
        goes_on, now = ledger.spent(), ledger.checkpoint().size
    if now != size + 1 or size <= base:
        return f"a restoration from {what} goes on at size {now}, after size {size}"
    if goes_on != max([spent, *said]):
        return f"a restoration from {what} goes on at {goes_on!r}, and {max([spent, *said])!r} was shown"
    return ""
