"""Models: which are published, judged, held and published again, and what is due next."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from unittest import mock

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.pasts import asked_of_any_past
from palate_audit.answers.made.servers import MadeServer, MadeWitnesses
from palate_audit.answers.made.sites import HandingOn, made_folder, steady_mu
from palate_audit.answers.seam import Seam
from palate_common.algorithms import lent
from palate_server.folder import quarantine, server_folder
from palate_server.ledger import witnesses
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
from palate_server.rounds import terms as rounds
from palate_server.surveys import accusation, intervals
from palate_server.surveys import analytics as analytics_figures
from palate_server.surveys import verdict as judged


def _published(dice: Dice, answer: CaseAnswer) -> None:
    """Models of trainings, before and after their verdicts, and again; keys, settings and items that change."""
    with (
        made_folder(answer) as folder,
        ExitStack() as stack,
        lent(HandingOn),
        mock.patch.object(rounds, "mu_of", steady_mu),
        mock.patch.object(judged, "DRAWS", 20),
        mock.patch.object(accusation, "SPLITS", 3),
    ):
        stack.enter_context(server := MadeServer(dice, answer, folder))
        stack.enter_context(mock.patch.object(witnesses, "WitnessClient", partial(MadeWitnesses, dice, server.keys)))
        if dice.chance(0.7):
            server.start()
        moves = [getattr(server, name) for name, weight in MOVES.items() for _ in range(weight)]
        first = [
            server.train,
            *dice.some_of((server.operator, server.judge, server.judge, server.publish, server.again), 0.6),
        ]
        for move in [*first, *(dice.one_of(moves) for _ in range(3)), *dice.some_of([server.rotate] * 2, 0.6)]:
            answer.tried(move)
            server.tell()
        server.end()


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


MOVES = {"train": 3, "judge": 4, "publish": 5, "change": 3, "operator": 2, "survey": 2, "again": 4, "start": 1,
         "ended": 1, "rotate": 1, "lose": 2, "spoil": 1}  # fmt: skip


SEAMS = (
    Seam("models that are trained, judged, published, held and published again", _published, 12),
    Seam("what is due next, and what the budgets allow, after any past", asked_of_any_past, 18),
    Seam("constants of what is published", _constants, 1),
)
