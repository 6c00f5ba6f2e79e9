"""Settings: a server's configuration and folder, what follows from them, and what is refused."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.publication.sites import DAY, made_links, made_settings, made_site, steady_mu
from palate_audit.answers.still import NOW
from palate_audit.harness.probe_algorithm import NAME, performing
from palate_common.algorithms import State
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.algorithms.parts.panel import panel_inputs
from palate_common.survey import Survey
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import PalateError
from palate_core.log.canonical import canonical_json
from palate_core.log.checkpoints import sign_checkpoint
from palate_core.log.consistency import SPENT
from palate_core.log.merkle import Checkpoint
from palate_core.masks.directory import Directory
from palate_server.folder import quarantine, server_folder
from palate_server.folder.config import ServerConfig
from palate_server.folder.server_folder import Site, format_of, owner_only, read_cosigned, site_signs, write_format
from palate_server.ledger.ledger import Ledger
from palate_server.operation import (
    absences,
    dismissals,
    outlook,
    releases,
    rotation,
    survey_results,
    surveys,
    terms,
)
from palate_server.operation.schedule import directory_of
from palate_server.operation.terms import (
    check_config,
    check_judging,
    cost_of,
    counting,
    next_terms,
    period_of,
)
from palate_server.rounds import terms as rounds
from palate_server.rounds.registry import pack_inputs
from palate_server.rounds.terms import RunTerms
from palate_server.surveys import accusation, intervals
from palate_server.surveys import analytics as analytics_figures
from palate_server.surveys import verdict as judged


def _terms(dice: Dice, answer: CaseAnswer) -> None:
    """Terms of runs of any configuration, and which configurations are refused before anybody is asked."""
    settings = {
        **made_settings(dice), "privacy.grid": dice.one_of((None, None, 2**10)), "training.settings": {},
        "privacy.corrupt": dice.one_of((0.1, 0.0, 0.4)), "privacy.dropout": dice.one_of((0.1, 0.3)),
        "cohort.size": dice.one_of((8, 30, 400)), "privacy.dp": dice.one_of(("central", "distributed", "local")),
        "privacy.noise": dice.one_of(("secure", "seeded")),
    }  # fmt: skip
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        if value is not None:
            (nested.setdefault(section, {}) if section else nested)[name] = value
    nested["training"]["algorithm"] = dice.mostly(nested["training"]["algorithm"], NAME)
    config, n_items = ServerConfig.model_validate(nested), dice.one_of((6, 6, 40))
    inputs: State = dict(dice.some_of([(FEATURES, np.ones((n_items, 2), np.float32))], 0.15))
    if dice.chance(0.15):
        inputs |= panel_inputs(made_links(n_items), users=dice.whole(1, 9))
    directory = None if dice.chance(0.3) else Directory(("00" * 32, "11" * 32))
    if dice.chance(0.3):
        asked = config.surveys.survey("2025-10-06")
        config = counting(config, Survey, asked.model_dump(mode="json"), config.surveys.epsilon)
    with mock.patch.object(terms, "ENOUGH", terms.ENOUGH[::16]), performing([]):
        now = dice.one_of((None, 0.0, NOW + dice.real(0.0, 9e8)))
        with mock.patch.object(rounds, "mu_of", steady_mu):
            named = {
                "catalogue": "ab" * 32,
                "n_items": n_items,
                "directory": directory,
                "inputs": inputs,
                "about": {"x": 1},
            }
            made = answer.tried(next_terms, config, **named, now=now)
            answer.tell(None if isinstance(made, PalateError) else made.model_dump(mode="json"))
            answer.of(check_config, config, n_items=n_items, inputs=inputs)
        answer.tell(cost_of(config), period_of(config, now or NOW), period_of(config, config.privacy.period_days * DAY))
        devices = dice.one_of((2, 8, 100, 3000))
        answer.of(
            check_judging, dice.one_of((0.1, 1.0, 9.0)), dp=config.privacy.dp, delta=config.privacy.delta,
            devices=devices, n_items=n_items,
        )  # fmt: skip


def _folders(dice: Dice, answer: CaseAnswer) -> None:
    """A folder whose files are missing, spoilt, or of another population."""
    with made_folder(answer) as folder:
        settings = {
            "population": "readers", "training.features": dice.one_of((None, "features.npy")), "privacy.dp": "central",
            "backup.witness": dice.one_of((None, "kept")), "gateway.superlinks": dice.whole(1, 3),
            "gateway.port": dice.one_of((None, 443)), "name": dice.one_of((None, "example.com")),
        }  # fmt: skip
        site, rows = made_site(folder, settings), dice.mostly(6, 5)
        shape = dice.mostly((rows, 3), (rows,), (rows, 0), (rows, 1025))
        features = dice.floats(*shape, low=0.0, high=1.0).astype(dice.mostly(np.float64, np.int32, np.str_))
        if features.size and features.dtype.kind == "f" and dice.chance(0.1):
            features.flat[0] = math.nan
        np.save(folder / "features.npy", features)
        if dice.chance(0.1):
            (folder / "features.npy").write_bytes(b"no matrix")
        if dice.chance(0.5):
            panel = pack_inputs(panel_inputs(made_links(rows), users=3))
            other = (b"", b"x" * 70_000, pack_inputs({"x": np.ones(1)}), panel[:-1])
            site.panel_file.write_bytes(panel if dice.chance(0.6) else dice.one_of(other))
        items = dice.one_of((None, None, None, b"", b"a\nb", b"a\na\n", b"\xff\n", b"a\nb\n"))
        if items is not None:
            (folder / "items").write_bytes(items)
        answer.of(lambda: (site.catalogue.items, site.catalogue.hash))
        answer.of(lambda: {name: array.tolist() for name, array in site.public_inputs.items()})
        (folder / "format").write_text(dice.one_of(('{"format": 1}', '{"format": 99}', "7", "[]", '{"format": "x"}')))
        if dice.chance(0.4):
            write_format(folder)
        if dice.chance(0.1):
            (folder / "house.toml").touch()
        answer.of(format_of, folder)
        answer.of(lambda: str(Site.at(folder).folder == folder.resolve()))
        with Ledger(site.ledger_file, population="readers") as ledger:
            key, now = site.key(), ledger.checkpoint()
            for each in range(2):
                note = sign_checkpoint(dice.mostly(now, Checkpoint(1, "ab" * 32)), ledger.log_key(key.public).name, key)
                kept = canonical_json({"cosigned": note.to_bytes().decode(), SPENT: dice.one_of((0.5, 1))})
                wrong = (b"{}", b"", b"[]", kept + b" ", kept.replace(b"0.5", b'"x"'), b'{"cosigned":1,"spent_mu2":1}')
                for data in (dice.one_of(wrong), dice.mostly(kept, *wrong)):
                    site.cosigned_file.write_bytes(data)
                    answer.of(lambda: _cosigned(site.cosigned_file))
                answer.of(site.mirror_cosigned, ledger)
                answer.tell(
                    {
                        p.relative_to(folder).as_posix(): p.read_bytes()
                        for p in sorted(site.mirror.rglob("*"))
                        if p.is_file()
                    }
                )
                ledger.open_run(f"{each}", {})
                now = ledger.checkpoint()
        names = CohortTerms(n_max=9, n_min=8, c_max=1, masks=True, directory=Directory(("22" * 32,)).hash)
        construct: Any = RunTerms.model_construct
        for written in (None, Directory(("11" * 32,)), Directory(("22" * 32,))):
            if written is not None:
                (site.directories / str(names.directory)).write_bytes(written.to_json())
            with suppress(FileNotFoundError):
                answer.of(lambda: str(directory_of(site, construct(cohort=dice.mostly(names, None)))))
        with site.reading() as ledger:
            answer.of(ledger.open_run, "a", {})
        former = os.umask(0o022)
        owner_only()
        answer.tell(os.umask(former))
        if dice.chance(0.3):
            (folder / "key").write_bytes(b"no key")
        paths = [
            site.run("a"),
            site.tls,
            site.address,
            *site.superlink_files,
            *site.certificate,
            site.progress_file,
            site.witness,
        ]
        answer.tell(site_signs(site), [str(each).replace(str(folder), "") for each in paths])
        answer.tell(
            sorted(
                path.relative_to(folder).as_posix() + oct(path.stat().st_mode)
                for path in folder.rglob("*")
                if path.is_dir()
            )
        )


def _cosigned(path: Path) -> list[Any]:
    """What is kept of the latest cosigned checkpoint."""
    note, spent = read_cosigned(path)
    return [note.to_bytes(), spent]


CONSTANTS = (
    absences, accusation, analytics_figures, dismissals, intervals, judged, outlook, quarantine, releases, rotation,
    server_folder, survey_results, surveys, terms,
)  # fmt: skip


def _constants(dice: Dice, answer: CaseAnswer) -> None:
    """The numbers and names that modules have."""
    for module in CONSTANTS:
        for name, value in sorted(vars(module).items()):
            if name.isupper() and isinstance(value, int | float | str | bytes | tuple | Mapping):
                answer.tell(name, repr(value) if isinstance(value, float) else value)


SEAMS = (
    Seam("constants of what is published", _constants, 1),
    Seam("terms of runs, and configurations that are refused", _terms, 24),
    Seam("server folders whose files are missing, spoilt or others", _folders, 12),
)
