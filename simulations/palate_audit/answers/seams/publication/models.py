"""Models: which are published, judged, held and published again."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from unittest import mock

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.publication.servers import MadeServer, MadeWitnesses
from palate_audit.answers.seams.publication.sites import HandingOn, steady_mu
from palate_common.algorithms import lent
from palate_server.ledger import witnesses
from palate_server.rounds import terms as rounds
from palate_server.surveys import accusation
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


MOVES = {"train": 3, "judge": 4, "publish": 5, "change": 3, "operator": 2, "survey": 2, "again": 4, "start": 1,
         "ended": 1, "rotate": 1, "lose": 2, "spoil": 1}  # fmt: skip


SEAMS = (Seam("models that are trained, judged, published, held and published again", _published, 12),)
