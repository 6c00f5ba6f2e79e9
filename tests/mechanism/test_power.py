"""Power: what a check of principle finds by itself, and in which words: bugs that are listed, and others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice

import pytest

from mechanism.checks import surveys as of_surveys
from mechanism.checks.consent.decisions import decided
from mechanism.checks.consent.failing_calls import failing_calls
from mechanism.checks.costs.accountants import accountants
from mechanism.checks.costs.outside_accountants import compared
from mechanism.checks.leaving import leaving
from mechanism.checks.ledgers.long_lives import long_lives
from mechanism.checks.left_out import left_out
from mechanism.checks.masks.secrets import secrets
from mechanism.checks.surveys import surveys
from mechanism.checks.witnessed import witnessed
from mechanism.checks.worlds.engines import engines
from mechanism.checks.worlds.failing_server import failing_server
from mechanism.enumerated.histories import histories_of_every_size
from mechanism.secagg.attacks import small_rings, stretches_of_their_own
from mechanism.secagg.watching import watched
from mutants.listed import GROUPS, find
from mutants.mutant import LISTED, Mutant, rows
from palate_audit.evidence.evidence import Finding, Verdict, judge
from palate_core.errors import PalateError


def told(findings: Iterable[Finding]) -> list[str]:
    """What findings that are no passes say, with their names."""
    return [f"{each.test}: {each.said}" for each in judge(list(findings)) if each.verdict is not Verdict.PASS]


def first(said: Iterable[str]) -> list[str]:
    """The first thing that is wrong, if any; an attempt that can't end is wrong, too."""
    try:
        return [*islice(said, 1)]
    except PalateError as error:
        return [str(error)]


def of_a_ring() -> list[str]:
    """What is wrong with the secrets of a ring, up to a draw among all members."""
    with watched() as seen, small_rings():
        stretches_of_their_own()
    return first(secrets(seen))


KINDS = ("several releases", "random variables", "void attempts", "sampled steps, both orders", "a population's life")
CHECKS: dict[str, Callable[[], list[str]]] = {
    "surveys": lambda: told(surveys()),
    "left out": lambda: told(left_out()),
    "witnesses": lambda: told(witnessed()),
    "leaving": lambda: told(leaving()),
    "engines": lambda: told(engines()),
    "a failing server": lambda: told(failing_server(quick=True)),
    "failing calls": lambda: first(failing_calls(quick=True)),
    "decisions": lambda: first(decided()),
    "long lives": lambda: told(long_lives(quick=True)),
    "histories": lambda: told(histories_of_every_size(quick=True)),
    "secrets": of_a_ring,
    "accountants": lambda: told(accountants()),
    **{kind: partial(lambda kind: told([compared(kind, quick=True)]), kind) for kind in KINDS},
}
rows(  # `seen` is what the check says
    __name__,
    """
reasons leave | surveys
bug: how much was held back is in an answer
seen: what is not asked
@ palate_client.rounds.survey_answers:_delivery
- return found
+ return found | {"answered:email": min(sum(each.sent is None for each in deliveries) / 20, 1.0)}

hours leave | surveys
bug: when in the day somebody came is in an answer
seen: what is not asked
@ palate_client.rounds.survey_answers:answers
- return found
+ hours = [calendar.moment(event.time).hour / 24 for event in behaviour.events]
+ return {**found, "verdict": max(hours, default=0.0)}

silence tells | surveys
bug: who did nothing doesn't answer
seen: surveys
@ palate_client.rounds.survey_answers:OwnAnswers.users
- return as_interactions([self._answers()], self.survey).users(rows)
+ from palate_core.errors import PalateError
+ found = as_interactions([self._answers()], self.survey).users(rows)
+ if not found.nnz:
+     raise PalateError("nothing to say")
+ return found

sizes tell | surveys
bug: the answer's header counts what was answered: a server refuses who speaks for two, and that it does tells
seen: surveys
@ palate_client.rounds.contribution:Contributor.contribute
- rejected=len(joined) - histories.n_users,
+ rejected=len(joined) - histories.n_users + int(histories.nnz > 5),

nobody asked | surveys
bug: consent to surveys is not looked at
seen: without consent
@ palate_client.rounds.participation:Rounds._check_consent
- if not self.consent.get(purpose):
+ if False:

the last release is free | several releases
bug: of several releases the last one costs nothing
seen: several releases
@ palate_common.accounting.releases:account
- mu2 = round_up(sum(
+ known = known[:-1] if len(known) > 1 else known
+ mu2 = round_up(sum(

the last release is free, at random | random variables
bug: of several releases the last one costs nothing
seen: random variables
@ palate_common.accounting.releases:account
- mu2 = round_up(sum(
+ known = known[:-1] if len(known) > 1 else known
+ mu2 = round_up(sum(

nothing reserved | void attempts
bug: all of delta goes to the noise, and graphs may fail besides
seen: void attempts
@ palate_core.privacy_mode:PrivacyMode.reserved_delta
- if uses_reserve(
+ if False and uses_reserve(

nothing reserved in a life | a population's life
bug: all of delta goes to the noise, and graphs may fail besides
seen: a population's life
@ palate_core.privacy_mode:PrivacyMode.reserved_delta
- if uses_reserve(
+ if False and uses_reserve(

one step | sampled steps, both orders
bug: sampled steps cost what one of them does
seen: sampled steps
@ palate_common.accounting.sampled:_mu2_of_sampled
- if _cells(
+ steps = 1
+ if _cells(

half of the spend | a population's life
bug: the population's spend is half of it, and nothing asks for it
seen: a population's life
@ palate_server.ledger.history:History.spent
- return round_up(
+ return 0.5 * round_up(
@ palate_server.ledger.history:History._admit_charge
- latest = run.latest
+ return
+ latest = run.latest

more than a budget | several releases
bug: a budget buys a quarter more than it should
seen: several releases
@ palate_core.accounting:mu_of
- return _mu(check_epsilon(epsilon),
+ return _mu(1.25 * check_epsilon(epsilon),

no slack | accountants
bug: a sum of shares counts as a single draw
seen: discrete noise
@ palate_core.cohort_terms:shares_slack
- if shares == 1:
+ if True:

continuous noise | accountants
bug: noise of whole numbers is charged as if it had three steps more
seen: discrete noise
@ palate_core.accounting:charged_mu2
- whole_number("sigma", sigma, CENTRAL_SIGMA_FLOOR) ** 2 - 4
+ (whole_number("sigma", sigma, CENTRAL_SIGMA_FLOOR) + 3) ** 2

a lock that loses a note | failing calls
bug: what a busy journal can't note is sent without being in it
seen: the journal hasn't
@ palate_client.rounds.participation:Rounds._note
- with Journal(self.store.file) as journal,
+ from contextlib import suppress
+ from palate_core.errors import LockedError
+ with suppress(LockedError), Journal(self.store.file) as journal,

a count that stops | long lives
bug: the store knows of nine charges, however many there are
seen: after 10 charges a device goes on with the ledger of 9
@ palate_client.ledger.anchor:know_charges
- (_NAME, count),
+ (_NAME, min(count, 9)),

messages that are forgotten | long lives
bug: the journal tells the latest hundred messages
seen: and 100 are told, or others
@ palate_client.store.journal:Journal.sent
- return tuple(Sent(*row) for row in connection.execute(query))
+ return tuple(Sent(*row) for row in connection.execute(query))[-100:]

a history that is cut | histories
bug: a round reads the last 250 items of a store
seen: a store has 300 items, and a round reads 250, or others
@ palate_client.recommend.interests:Interests.interactions
- return self.look().interactions
+ found = self.look().interactions
+ return found.entries(found.indices >= found.nnz - 250)

a file that a failed attempt leaves | a failing server
bug: the raw sum is in a draft until its round is sealed
seen: what fails on the server, central
@ palate_server.rounds.coordinator:Coordinator._release
- noisy = noised(summed, plan)
+ (self.registry.folder / "draft").write_bytes(summed.total.tobytes())
+ noisy = noised(summed, plan)
- self._replay.apply(noisy)
+ (self.registry.folder / "draft").unlink()
+ self._replay.apply(noisy)
""",
)
KNOWN = {
    "an attempt left out of a statement": ("leaving", "must list 2 attempts"),
    "half the cost in a statement's bound": ("leaving", "must bound the hits"),
    "an earlier model taken for a later one": ("leaving", "the initial model is from before"),
    "another ledger's model taken": ("leaving", "a model of another ledger"),
    "an attempt without a receipt overlooked": ("leaving", "receipts are lost"),
    "histories in a file": ("engines", "for many users"),
    "a decision on an older text is ignored": ("decisions", "was decided otherwise"),
    "sampled sums in one order only": ("sampled steps, both orders", "sampled steps"),
    "a draw that can be foretold": ("secrets", ""),
    "b reused": ("secrets", ""),
    "one key for all boxes": ("secrets", ""),
    "coefficients for two secrets": ("secrets", ""),
    **{each.name: ("witnesses", "witnesses") for each in GROUPS["witnesses"]},
    **{each.name: ("left out", "") for each in GROUPS["quarantine"]},
}
"""Listed mutants, the check that is to find them by itself, and what it says."""


@pytest.mark.parametrize("each", LISTED[__name__], ids=lambda each: each.name)
def test_a_check_finds_what_is_on_no_list(each: Mutant) -> None:
    with each.injected():
        assert any(each.seen in said for said in CHECKS[each.test]())


@pytest.mark.parametrize("name", KNOWN)
def test_a_check_finds_a_listed_mutant_by_itself(name: str) -> None:
    check, words = KNOWN[name]
    with find(name).injected():
        found = CHECKS[check]()
    assert any(words in said for said in found)
    assert check not in ("leaving", "witnesses") or len(found) == 1


def test_the_check_of_witnesses_asks_of_every_wrong_plan() -> None:
    assert witnessed()[0].said.startswith("60 plans with one thing wrong each")


def test_texts_that_leave_in_surveys_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The marks of the texts are what every answer holds."""
    monkeypatch.setattr(of_surveys, "MARK", "plan_hash")
    assert any("texts" in said for said in CHECKS["surveys"]())
