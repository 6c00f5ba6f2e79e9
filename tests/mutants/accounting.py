"""Mutants of the accounting: less is charged than was spent, or the statement differs from the charge."""

from __future__ import annotations

from mutants.mutant import rows

rows(
    __name__,
    """
ledger sigma differs from sampler sigma | ledgers
bug: the ledger says more noise than the plan asks for
seen: two configuration keys for one number
@ palate_server.rounds.coordinator:Coordinator._charge
- "sigma": plan.sigma}
+ "sigma": round(1.1 * plan.sigma)}

c_max ignored | idle rounds
bug: every survivor's share of the noise is counted on, as if none were the adversary's
seen: sigma^2 / n in papers whose clients are all honest
@ palate_core.cohort_terms:CohortTerms.noise_shares
- self.n_min - self.c_max
+ self.n_min

dropout shrinks noise | idle rounds
bug: shares are cut for all that are invited, and those who are lost take theirs along
seen: distributed noise without a floor on survivors (Kairouz et al. 2021, section 4)
@ palate_core.cohort_terms:CohortTerms.noise_shares
- self.n_min - self.c_max
+ self.n_max - self.c_max

sub-cohorts share one noise | idle rounds
bug: the shares of all sub-cohorts' devices make up one noise, of which each sum has a part
seen: distributed noise for the total that is released, where the server sees the sums that it is made of
@ palate_core.cohort_terms:CohortTerms.noise_shares
- self.n_min - self.c_max
+ (self.n_min - self.c_max) * self.subcohorts

a sub-cohort pays its part | idle rounds
bug: an attempt of k sub-cohorts is charged a k-th: each device is in one of k sums
seen: parallel composition taken for a sample of the population
@ palate_server.rounds.budget:BudgetSchedule.price
- return sigma, charged_mu2(sensitivity=grid, sigma=sigma), attempt
+ parts = self._terms.cohort.subcohorts if self._terms.cohort else 1
+ return sigma, charged_mu2(sensitivity=grid, sigma=sigma) / parts, attempt

a device drawn for two sub-cohorts | idle rounds
bug: the server draws each sub-cohort of all devices, so that one can be in two
seen: `sample` in a loop over groups
@ palate_server.rounds.cohort:drawn
- parts = [sorted(shuffled[first::subcohorts]) for first in range(subcohorts)]
+ size = -(-len(shuffled) // subcohorts)
+ parts = [sorted(SystemRandom().sample(shuffled, size)) for _ in range(subcohorts)]

sigma_l rounded down | masks
bug: a device's share is rounded down to whole steps
seen: integer division; with many devices and few steps a third of the variance is missing
@ palate_core.privacy_mode:share_sigma
- variance = -(-(sigma**2) // shares)
+ return max(LEAST_SHARE, math.isqrt(sigma**2 // shares))

adjacency mismatch, on paper | ledgers
bug: the card claims replace-one, and the charge is for zero-out: off by a factor of two
seen: epsilons of two definitions in one table
@ palate_sim.card.card:card_payload
- "adjacency": "zero-out",
+ "adjacency": "replace-one",

tuning uncharged though claimed | ledgers
bug: the card leaves tuning out of its exclusions, and no charge pays for it
seen: Papernot and Steinke (2022): choosing the best of many runs leaks, and is rarely counted
@ palate_sim.card.card:_exclusions
- else EXCLUSIONS)
+ else [each for each in EXCLUSIONS if "hyper-parameter" not in each[0]])

sampled sums in one order only | ledgers
bug: sampled events are accounted in one order of the pair, and the other one is dearer
seen: add-or-remove taken for remove: a curve of one side only
@ palate_common.accounting.sampled:_mu2_of_sampled
- for removed in (True, False)]
+ for removed in (False,)]

accountant's integral cut off | ledgers
bug: the integral of delta stops early, so that an epsilon of 5.9 is sold as 5
seen: a quadrature that was tested where it is easy
@ palate_core.accounting:_excess
- for s, w in _NODES])
+ for s, w in _NODES[:61]])

composition by the maximum | ledgers
bug: several releases are accounted as the dearest of them
seen: parallel composition, for releases of the same users
@ palate_sim.accounting:account
- mu2 = round_up(sum(
+ known = sorted(known, key=lambda event: event.mu2)[-1:]
+ mu2 = round_up(sum(

several sums for the price of one | ledgers
bug: a release of several sums in which everybody takes part is accounted as one of them
seen: a short cut for the simple case, whose condition lacks a word
@ palate_sim.accounting:GaussianEvent.mu2
- if (self.inclusion, self.steps) == (1.0, 1):
+ if self.inclusion == 1:

no reserve for sampled steps | ledgers
bug: a run whose steps are sampled keeps nothing of delta for their tails, which are taken for masks' alone
seen: a part of delta that two things share, and one of them is forgotten
@ palate_core.privacy_mode:PrivacyMode.reserved_delta
- if uses_reserve(masked=self.cohort, inclusion=sampled) else
+ if self.cohort else

fixed cohort accounted as Poisson | ledgers
bug: a cohort that is always the same is charged as if each device came with probability 0.1, unseen
seen: amplification claimed for whoever happens to be online
@ palate_core.plan:_verify_cost
- owed = charged_mu2(
+ owed = 0.01 * charged_mu2(
@ palate_server.rounds.budget:BudgetSchedule.price
- charged_mu2(
+ 0.01 * charged_mu2(

shuffled epochs accounted as Poisson | ledgers
bug: users are dealt out over the rounds, each once, and charged as if drawn anew each time
seen: DP-SGD on shuffled batches; Chua et al. (2024) show how much larger epsilon is
@ palate_core.plan:_verify_cost
- owed = charged_mu2(
+ owed = 0.9 * charged_mu2(
@ palate_server.rounds.budget:BudgetSchedule.price
- charged_mu2(
+ 0.9 * charged_mu2(

the tail of an attempt is the reserve of all | ledgers
bug: each attempt of sampled steps may fail as often as all attempts together
seen: a constant in the place of another, a thousand times larger
@ palate_common.accounting.sampled:_Curve.over
- allowed = TAIL * (1 - 1e-6) + (1 - TAIL) *
+ from palate_core.cohort_terms import RESERVED_DELTA
+ allowed = RESERVED_DELTA * (1 - 1e-6) + (1 - RESERVED_DELTA) *
""",
)
