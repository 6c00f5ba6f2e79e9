"""Backups: a server folder that is saved, lost, and restored from what others have seen of it."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from unittest import mock

from palate_audit.answers.answer import NAMED, CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import files_in, made_folder
from palate_audit.answers.made.keys import HASH, release_key
from palate_audit.answers.made.telling import tell_error, tell_result
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.records.plans import made_plan
from palate_audit.answers.seams.witnesses.quorums import by_witnesses, witness
from palate_common.models.manifest import MANIFEST, MANIFEST_TAG, SIGNATURE
from palate_common.system import lock_folder
from palate_core.errors import PalateError
from palate_core.log.canonical import canonical_json
from palate_core.log.checkpoints import origin_of, sign_checkpoint
from palate_core.log.merkle import Checkpoint
from palate_core.log.notes import Note
from palate_core.plan import ChargeProof, sign_plan
from palate_server.folder import archive, backup
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import Site
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.mirror import Mirror

_CONFIG = 'population = "readers"\n[privacy]\nlifetime_epsilon = 100.0\n'


_WATCHED = f'[witnesses]\nkeys = ["{witness(0)}"]\nurls = ["http://w0.example"]\n'


class _SavedServer:
    """A server folder whose ledger goes on, and all that others have seen of it."""

    def __init__(self, dice: Dice, root: Path) -> None:
        self.dice, self.folder, self.keys = dice, root / "site", [release_key(0)]
        for name in ("keys", "runs/r", "public/round/x", "public/models", "tls", "state"):
            (self.folder / name).mkdir(parents=True)
        config = (
            _CONFIG
            + (_WATCHED if dice.chance(0.5) else "")
            + ('[training]\nfeatures = "genres.npy"\n' if dice.chance(0.3) else "")
        )
        for name, content in (("server.toml", config), ("items", "a\nb\n"), ("genres.npy", "g"),
            ("runs/r/terms", "t"), ("runs/r/.draft", "d"),
                              ("public/round/x/m", "m"), ("tls/ca.pem", "c"), ("runs/lock", ""),
                              ("superlink.db", "s")):  # fmt: skip
            (self.folder / name).write_text(content)
        for name in ("quarantine.json", "panel.safetensors"):
            if dice.chance(0.3):
                (self.folder / name).write_text("{}")
        self.keys[0].save(self.folder / "key")
        self.site = Site.at(self.folder)
        self.plans: list[bytes] = []
        self.notes: list[bytes] = []
        self.manifests: list[tuple[bytes, bytes]] = []
        self.runs = 0
        with self.site.ledger() as ledger:
            if dice.chance(0.8):
                ledger.set_budget(mu2=dice.one_of((4.0, 8.0)), epsilon=9.0, delta=1e-5)
        with Enrolments(self.site.enrolment_file) as register:
            for number in range(dice.whole(0, 2)):
                token = register.invite(now=0.0, hours=1.0)
                register.enrol(token, node_key=f"pem {number}", identity=f"{number:064x}", now=0.0)
        self.grow(dice.whole(0, 2))

    def grow(self, steps: int) -> None:
        """Charges, which plans show; closed runs, models, and seldom a handover."""
        with self.site.ledger() as ledger:
            for _ in range(steps):
                self._step(ledger, self.dice.whole(0, 9))

    def _step(self, ledger: Ledger, kind: int) -> None:
        if kind <= 6 or not self.runs:
            self.runs += 1
            self.plans.append(self.charged(ledger, f"run-{self.runs}"))
        else:
            ledger.publish(None, HASH, "cd" * 32)
            self._models(ledger)

    def rotate(self) -> None:
        """The release key is handed over."""
        with self.site.ledger() as ledger:
            self.keys.append(release_key(len(self.keys)))
            ledger.hand_over(self.keys[-2], self.keys[-1])
        (self.folder / "key").unlink()
        self.keys[-1].save(self.folder / "key")

    def charged(self, ledger: Ledger, run: str) -> bytes:
        """A signed plan, for which a ledger is charged."""
        alone = {"cohort": None, "events": None}
        plan = made_plan(self.dice, population="readers", run=run, dp="central", grid=64, sigma=128, mu2=0.5, **alone)
        place: dict[str, Any] = {"run": plan.run, "round_": plan.round, "attempt": plan.attempt}
        ledger.open_run(plan.run, {})
        charge = ledger.charge(**place, plan_hash=plan.hash, mu2=plan.mu2, facts={}, run_limit=9.0)
        shown = self._cosigned(ledger)
        proof = ledger.inclusion_proof(charge.seq, shown.checkpoint.size)
        fields = shown.model_dump()
        if self.dice.chance(0.5):
            ledger.close_run(plan.run, {})
        return sign_plan(
            plan, ChargeProof(**fields, entry=charge.entry.body, inclusion=proof), self.keys[-1]
        ).to_bytes()

    def others(self) -> list[tuple[str, bytes]]:
        """What says that it is of this server, and isn't, or contradicts it."""
        free = made_plan(self.dice, population="readers", dp="off", sigma=0, mu2=0.0, cohort=None, events=None)
        with Ledger(":memory:", population="readers") as fork, self.site.ledger(read_only=True) as ledger:
            while fork.checkpoint().size < ledger.checkpoint().size - 2:
                fork.publish(None, HASH, "ef" * 32)
            kept, self.notes = self.notes, []
            forked = self.charged(fork, "forked")
            self.notes = kept
        note = by_witnesses(
            sign_checkpoint(Checkpoint(9, HASH), origin_of("others", self.keys[0].public), self.keys[-1]), [0]
        )
        foreign = by_witnesses(
            sign_checkpoint(Checkpoint(9, HASH), origin_of("readers", self.keys[0].public), release_key(5)), [0]
        )
        later = by_witnesses(
            sign_checkpoint(Checkpoint(9, HASH), origin_of("readers", self.keys[0].public, 3), self.keys[0]), [0]
        )
        found = [
            ("plan.json", sign_plan(free, None, self.keys[-1]).to_bytes()),
            *[("plan.json", forked)] * 4,
            ("plan.json", b"x"),
        ]
        for each in (note, foreign, later):
            found.append(("checkpoint.json", canonical_json({"cosigned": each.to_bytes().decode(), "spent_mu2": 1.0})))
        return [*found, ("checkpoint.json", b"{}"), ("checkpoint.json", b'{"cosigned":"x","spent_mu2":1}')]

    def _cosigned(self, ledger: Ledger) -> Any:
        """The state of the ledger; some are cosigned, and kept."""
        shown, note = ledger.shown(), self._note(ledger)
        if self.dice.chance(0.5):
            note = by_witnesses(note, [0])
            self.notes.append(canonical_json({"cosigned": note.to_bytes().decode(), "spent_mu2": ledger.spent()}))
            return shown if self.dice.chance(0.4) else shown.model_copy(update={"cosigned": note.to_bytes().decode()})
        return shown

    def _note(self, ledger: Ledger) -> Note:
        return sign_checkpoint(ledger.checkpoint(), ledger.log_key(self.keys[-1].public).name, self.keys[-1])

    def _models(self, ledger: Ledger) -> None:
        """A manifest, of this version or of an earlier one."""
        shown = self._cosigned(ledger)
        said = {"population": self.dice.one_of(("readers", "readers", "others")), "algorithm": "als", "releases": 1,
            "catalogue": HASH, "items": 2, "model_hash": HASH,
                "files": {}, "public_key": self.keys[-1].public, "format": 3 if shown.beyond_proofs else 2,
                "recent_half_life_days": None, "unpacked": None}  # fmt: skip
        said |= {"spent_mu2": ledger.spent()} if self.dice.chance(0.7) else {}
        payload = canonical_json({**said, **shown.model_dump(mode="json")})
        self.manifests.append((payload, self.keys[-1].sign(MANIFEST_TAG, payload).encode()))

    def mirrored(self, where: Path) -> None:
        """The ledger's mirror in its present state."""
        with self.site.ledger(read_only=True) as ledger:
            Mirror(where).update(ledger, lambda _: self._note(ledger))


def _survived(dice: Dice, server: _SavedServer, where: Path) -> list[Path]:
    """What has survived elsewhere: plans, models and checkpoints, in folders; or others'."""
    where.mkdir(exist_ok=True)
    (where / "other.txt").write_text("x")
    for name, kept in (("plan.json", server.plans), ("checkpoint.json", server.notes)):
        for inner in ("", "deep"):
            if kept and dice.chance(0.6):
                (where / inner).mkdir(exist_ok=True)
                (where / inner / name).write_bytes(kept[-1] if dice.chance(0.6) else dice.one_of(kept))
    if dice.chance(0.22):
        name, data = dice.one_of(server.others())
        (where / "odd").mkdir(exist_ok=True)
        (where / "odd" / name).write_bytes(data)
    if server.manifests and dice.chance(0.6):
        model = where / "models"
        model.mkdir(exist_ok=True)
        payload, signature = server.manifests[-1] if dice.chance(0.7) else dice.one_of(server.manifests)
        (model / MANIFEST).write_bytes(payload)
        (model / SIGNATURE).write_bytes(signature if dice.chance(0.95) else b"00")
    plain = sorted(where.rglob("plan.json"))
    return dice.one_of(
        (*[[where]] * 7, plain or [where], [*plain, where], [*plain, where], [*plain, where], [where / "none"], [])
    )


def _backups(dice: Dice, answer: CaseAnswer) -> None:
    """A server is saved, goes on, is lost, and restored from what others have seen."""
    with made_folder(answer) as root, ExitStack() as stack:
        server = _SavedServer(dice, root)
        if dice.chance(0.4):
            server.rotate()
            server.grow(dice.whole(0, 1))
        asked = answer.tell
        real: Callable[..., str] = tempfile.mkdtemp

        def made(**named: Any) -> str:
            asked(named["prefix"], Path(named["dir"]).relative_to(root))
            return real(**named)

        def lock(path: Path, *, wait: bool) -> int:
            asked(path.parent.relative_to(root), wait)
            return lock_folder(path, wait=wait)

        stack.enter_context(mock.patch.object(tempfile, "mkdtemp", made))
        stack.enter_context(mock.patch.object(backup, "MOST_EPOCH", dice.one_of((2, 3, 4))))
        stack.enter_context(mock.patch.object(backup, "lock_folder", lock))
        (server.folder / "state" / "copy-left").mkdir()
        (server.folder / "state" / "copy-left" / "key").write_text("left over")
        saved, last = root / "backup.tar", backup.last_backup(server.site)
        answer.tell(last is None)
        tell_result(answer, backup.write_backup, server.site, saved, remember=dice.chance(0.7))
        if dice.chance(0.35):
            tell_result(answer, backup.write_backup, server.site, dice.one_of((saved, root / "no" / "backup.tar")))
        answer.tell(sorted(path.name for path in (server.folder / "state").iterdir()))
        tell_result(answer, lambda: vars(found) if (found := backup.last_backup(server.site)) else None)
        (server.folder / "state" / "backup.json").write_bytes(
            dice.one_of((b"", b"{}", b"[]", b'{"at":1,"devices":2,"size":"x"}', b'{"at":1.5,"devices":2,"size":3}'))
        )
        tell_result(answer, lambda: vars(found) if (found := backup.last_backup(server.site)) else None)
        with closing(tarfile.open(saved)) as tar:
            answer.tell(
                [(each.name, each.isdir()) for each in tar if each.name != "format"], saved.stat().st_mode & 0o777
            )
        if dice.chance(0.3):
            server.mirrored(root / "mirror")
        if dice.chance(0.35):
            server.rotate()
        server.grow(dice.whole(0, 3))
        if dice.chance(0.4):
            server.mirrored(root / "mirror")
        if dice.chance(0.2):
            server.grow(1)
        there, target = _survived(dice, server, root / "witness"), root / "again"
        if dice.chance(0.3):
            target.mkdir()
            (target / "x").write_text("x") if dice.chance(0.3) else None
        mirror = dice.one_of((root / "mirror", None, root / "mirror"))
        lost = sorted((root / "mirror").rglob("*.p/*"))
        if lost and dice.chance(0.15):
            dice.one_of(lost).unlink()
        _restored(dice, answer, saved, target, there, mirror)
        _epochs(dice, answer, server, root, saved)


def _epochs(dice: Dice, answer: CaseAnswer, server: _SavedServer, root: Path, saved: Path) -> None:
    """The ledger of one backup goes on from what others have seen: of one thing after the other."""
    archive.unpack(saved, root / "once")
    site = Site.at(root / "once")
    site.make_folders()
    ledger_file = site.ledger_file.read_bytes()
    for _ in range(4):
        shutil.rmtree(root / "witness")
        there = _survived(dice, server, root / "witness")
        for name in ("ledger.db-wal", "ledger.db-shm"):
            (site.folder / name).unlink(missing_ok=True)
        site.ledger_file.write_bytes(ledger_file)
        with site.ledger(read_only=True) as ledger:
            since = ledger.checkpoint().size
        found = tell_result(answer, backup._new_epoch, site, there, max(0, since - dice.whole(0, 6)))
        if found is not None:
            with site.ledger(read_only=True) as ledger:
                answer.tell(ledger.checkpoint(), repr(ledger.spent()), ledger.epoch)


def _restored(
    dice: Dice, answer: CaseAnswer, saved: Path, target: Path, there: list[Path], mirror: Path | None
) -> None:
    """Restore, and tell the ledger, the register and the files."""
    without = not there if dice.chance(0.9) else dice.chance(0.5)
    try:
        said = backup.read_backup(
            saved,
            target,
            witnesses=there,
            without_witness=without,
            mirror=mirror if mirror is None or mirror.exists() or dice.chance(0.1) else None,
        )
    except PalateError as error:
        tell_error(answer, error)
    else:
        answer.tell(NAMED.findall(said), len(said.split(";")))
        site = Site.at(target)
        with site.ledger(read_only=True) as ledger:
            answer.tell(ledger.leaves(ledger.checkpoint().size)[1], repr(ledger.spent()), ledger.epoch)
        with Enrolments(site.enrolment_file) as register:
            answer.tell([each.identity for each in register.devices()])
    answer.tell(
        [
            each
            for each in files_in(target)
            if not each[0].endswith((".db", ".db-wal", ".db-shm")) and each[0] != "format"
        ]
        if target.exists()
        else None
    )


SEAMS = (Seam("backups: saved, lost, restored", _backups, 9),)
