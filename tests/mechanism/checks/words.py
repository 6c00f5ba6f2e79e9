"""W: noise is what the sampler makes of the secure source's words, of each word once, and the sampler has its law.

Every road by which noise leaves is played with nobody acting, and every random word is recorded at its source. From
these words the reference sampler, which shares no line with production, makes the noise again. It has to be the same
numbers, and it has to take all words: not one more is drawn, and none is left over. So noise can't come from another
generator, from fewer words, from an older noise, or with another sigma, whatever its length. No word may come from a
seeded source.

Then the sampler by itself, at lengths around its seams and at sigmas up to the largest: again number by number; and its
law, by exact binomial tails of how many numbers lie in each of some intervals, whose probabilities are sums over the
whole numbers in them.

**Assumes:** words are uniform. Test K looks at keys and keystreams, R at repeated words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from palate_audit.checks.events import recorded_steps
from palate_audit.harness.probe_algorithm import Gesture
from palate_audit.harness.probe_run import Setting, crowd, probe_run
from palate_audit.harness.quiet_runs import QuietRun, quiet_runs
from palate_audit.harness.recording import RecordedSource, recorded
from palate_audit.reference.noise import discrete_gaussian, shares

from palate_audit.evidence.evidence import Finding
from palate_client.rounds import contribution
from palate_common.mechanism.update import Int64
from palate_common.rounds import shares as production_shares
from palate_core.errors import PalateError
from palate_core.layout import layout_size
from palate_core.noise.randomness import SecureSource
from palate_core.plan import Noise, RoundPlan
from palate_core.privacy_mode import DISTRIBUTED
from palate_server.rounds import noise as production_noise

Again = Callable[[Iterator[int], int], list[int]]
"""(words, how many numbers) -> the numbers that the reference makes of the next words."""

TEST = "W words"
LENGTHS = (1, 64, 100, 4095, 4096, 4097)
"""A single number, the dummies, a survey, and around what may be a long vector to an implementation."""
SIGMAS = (1, 3, 64, 1001, 2**14 + 1)
LARGEST = 2**30
LAW = 4096
"""Numbers whose law is looked at, for each length and sigma, at least; single ones are drawn less often."""
MOST_CALLS, QUICK_CALLS = 32, 8
CROWDS = (1, 2, 3, 7, 999, 1000, 1001, 1023, 1024, 1025, 20_011)
"""Devices of a node: squares, and what comes next to squares."""
EDGES = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Ends of intervals of a number's size, in sigmas."""


def words(*, quick: bool = False) -> list[Finding]:
    """Every road, nodes of many sizes, the steps of single events, and the sampler by itself."""
    found = []
    try:
        runs = quiet_runs(times=1)
    except PalateError as error:
        return [Finding.checked(TEST, False, f"rounds in which nobody acts must end, got: {error}")]
    for run in runs:
        wrong = next(_run(run), "")
        said = f"{len(run.noises)} noises from {sum(len(each.words) for each in run.sources):,} words, each used once"
        found.append(Finding.checked(f"{TEST}: {run.name}", not wrong, wrong or said))
    wrong = next(_crowds(), "")
    found.append(Finding.checked(f"{TEST}: nodes of many sizes", not wrong, wrong or f"up to {CROWDS[-1]:,} devices"))
    wrong = next(_events(), "")
    found.append(Finding.checked(f"{TEST}: steps of single events", not wrong, wrong or "each step has its own"))
    return [*found, *_sampler(QUICK_CALLS if quick else MOST_CALLS)]


def _run(run: QuietRun) -> Iterator[str]:
    """One run's noises against its words."""
    if len(run.sources) != len(run.noises):
        yield f"{len(run.noises)} noises were made with words of {len(run.sources)} sources"
    for (name, drawn), source in zip(run.noises.items(), run.sources, strict=False):
        yield from _differs(name, drawn.steps, source, partial(shares, sigma=drawn.sigma, devices=drawn.devices))


def _differs(name: str, steps: Int64, source: RecordedSource, again: Again) -> Iterator[str]:
    """How a noise differs from what its words make, if they are all that was drawn for it."""
    drawn = iter(source.words.tolist())
    yield from _part(name, steps, source, drawn, again)
    if left := sum(1 for _ in drawn):
        yield f"{left} of {len(source.words)} words were drawn for {name} and not used"


def _part(name: str, steps: Int64, source: RecordedSource, drawn: Iterator[int], again: Again) -> Iterator[str]:
    """How a noise differs from what the next words make."""
    if not source.secure:
        yield f"{name} has words of a seeded source"
    try:
        expected = again(drawn, len(steps))
    except PalateError:
        yield f"{len(source.words)} words were drawn for {len(steps)} numbers of {name}, which takes more"
        return
    if wrong := int((steps != np.asarray(expected, np.int64)).sum()):
        yield f"{wrong} of {len(steps)} numbers of {name} are not what the sampler makes of its words"


def _crowds() -> Iterator[str]:
    """A node's noise is the sum of its devices' shares, however many there are."""
    plan = _plan()
    for devices in CROWDS:
        with recorded() as seen:
            source = vars(contribution)["share_source"](plan, range(devices))
            zeros = np.zeros(layout_size(plan.layout), np.int64)
            made = production_shares.with_noise(zeros, devices, plan, source).steps
        if len(seen.sources) != 1:
            yield f"the noise of {devices:,} devices has words of {len(seen.sources)} sources"
            continue
        again = partial(shares, sigma=plan.share_sigma, devices=devices)
        yield from _differs(f"the noise of {devices:,} devices", made, seen.sources[0], again)


def _plan() -> RoundPlan:
    """A plan with secure noise of devices, and few numbers."""
    setting = Setting(mode=DISTRIBUTED, noise=Noise.SECURE, width=1)
    with probe_run(setting, crowd([[]] * 4, n_items=1), [Gesture()]) as stage:
        stage.play()
        return stage.seen.plans[0].plan


def _events() -> Iterator[str]:
    """Where the unit is one event: the noise of each step on the device, and of what is sent."""
    steps, source = recorded_steps()
    drawn = iter(source.words.tolist())
    for name, (made, sigma, devices) in steps.items():
        yield from _part(name, made, source, drawn, partial(shares, sigma=sigma, devices=devices))
    if left := sum(1 for _ in drawn):
        yield f"{left} of {len(source.words)} words were drawn for the steps and not used"


def _sampler(most: int) -> Iterator[Finding]:
    """The sampler at every length: against the reference, and, so many calls together at most, against the law."""
    # Looked up where the production path looks them up; as a rule it is one function.
    samplers = {"server": vars(production_noise), "device": vars(production_shares)}
    found = {names["sample_discrete_gaussian"]: who for who, names in samplers.items()}
    for sample, who in found.items():
        for n in LENGTHS:
            looks, wrong = list[tuple[float, str]](), ""
            for sigma in (*SIGMAS, LARGEST):
                numbers = []
                for call in range(min(most, max(1, LAW // n))):
                    with recorded() as seen:
                        made = sample(n, sigma=sigma, source=SecureSource())
                    numbers.append(made)
                    if not wrong and len(seen.sources) != 1:
                        wrong = "a sampler must draw from the source that it was given"
                    elif not wrong and call == 0:
                        again = partial(discrete_gaussian, sigma=sigma)
                        wrong = next(_differs(f"sigma {sigma}", made, seen.sources[0], again), "")
                if sigma <= SIGMAS[-1]:
                    looks += _law(np.concatenate(numbers), sigma)
            test = f"{TEST}: sampler of the {who}, {n} numbers"
            yield Finding.checked(test, not wrong, wrong or "as the reference draws them")
            p_value, said = min(looks)
            together = min(1.0, p_value * len(looks))
            yield Finding.counted(f"{test}, law", together, f"the least likely of {len(looks)} counts: {said}")


def _law(numbers: Int64, sigma: int) -> Iterator[tuple[float, str]]:
    """The exact two-sided tail of how many numbers lie in each interval, and of how many are below zero."""
    from scipy.stats import binom  # type: ignore[import-untyped]  # ships no types

    reach = np.arange(-12 * sigma, 12 * sigma + 1)
    weights = np.exp(-0.5 * (reach / sigma) ** 2)
    weights /= weights.sum()
    sizes, possible_sizes = np.abs(numbers), np.abs(reach)
    events = {f"up to {edge:g} sigma": (sizes <= edge * sigma, possible_sizes <= edge * sigma) for edge in EDGES}
    events["below zero"] = (numbers < 0, reach < 0)
    for name, (found, possible) in events.items():
        count, chance = int(found.sum()), float(weights[possible].sum())
        few, many = binom.cdf(count, len(numbers), chance), binom.sf(count - 1, len(numbers), chance)
        said = f"{count:,} of {len(numbers):,} with sigma {sigma} are {name}, {chance * len(numbers):,.1f} are expected"
        yield min(1.0, 2 * float(min(few, many))), said
