"""Power: what a check of principle finds by itself, and in which words: bugs that are listed, and others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import pytest

from mechanism.checks import surveys as of_surveys
from mechanism.checks.costs.accountants import accountants
from mechanism.checks.costs.outside_accountants import compared
from mechanism.checks.surveys import surveys
from mechanism.checks.witnessed import witnessed
from mechanism.checks.worlds.failing_server import failing_server
from mechanism.enumerated.histories import histories_of_every_size
from mutants.mutant import LISTED, Mutant, rows
from palate_audit.evidence.evidence import Finding, Verdict, judge


def told(findings: Iterable[Finding]) -> list[str]:
    """What findings that are no passes say, with their names."""
    return [f"{each.test}: {each.said}" for each in judge(list(findings)) if each.verdict is not Verdict.PASS]


KINDS = ("several releases", "void attempts", "sampled steps, both orders", "a population's life")
CHECKS: dict[str, Callable[[], list[str]]] = {
    "surveys": lambda: told(surveys()),
    "a failing server": lambda: told(failing_server(quick=True)),
    "histories": lambda: told(histories_of_every_size(quick=True)),
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
@ palate_client.rounds.contribution:Contributor.contribute
- histories = self._read(joined)
+ histories = self._read(joined)
+ if not histories.nnz:
+     raise RefusedError("nothing to say")

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
@ palate_sim.accounting:account
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
@ palate_server.rounds.coordinator:Coordinator._noised
- noisy = noised(summed, plan)
+ (self.registry.folder / "draft").write_bytes(summed.total.tobytes())
+ noisy = noised(summed, plan)
@ palate_server.rounds.coordinator:Coordinator._release
- self._replay.apply(noisy)
+ (self.registry.folder / "draft").unlink()
+ self._replay.apply(noisy)
""",
)


@pytest.mark.parametrize("each", LISTED[__name__], ids=lambda each: each.name)
def test_a_check_finds_what_is_on_no_list(each: Mutant) -> None:
    with each.injected():
        assert any(each.seen in said for said in CHECKS[each.test]())


def test_the_check_of_witnesses_asks_of_every_wrong_plan() -> None:
    assert witnessed()[0].said.startswith("60 plans with one thing wrong each")


def test_texts_that_leave_in_surveys_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The marks of the texts are what every answer holds."""
    monkeypatch.setattr(of_surveys, "MARK", "plan_hash")
    assert any("texts" in said for said in CHECKS["surveys"]())
