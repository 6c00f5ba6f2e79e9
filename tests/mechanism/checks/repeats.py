"""R: noise is never used twice, whoever made it and wherever it went.

All noises of `palate_audit.harness.quiet_runs` are laid beside each other: of the server, of nodes, of devices alone
and under masks, of equal rounds, of attempts that failed, of two runs each; with all their dummies. One exact search
for equal stretches (`palate_audit.statistics.repeats`) goes through them, and one through every word behind them.

**Assumes:** nothing. A repetition by chance has the probability that is stated.
"""

from __future__ import annotations

from palate_audit.harness.quiet_runs import quiet_runs

from palate_audit.evidence.evidence import Finding
from palate_audit.statistics.repeats import gaussian_chance, search
from palate_core.errors import PalateError

TEST = "R repeats"
WORD = 2.0**-64


def repeats(*, quick: bool = False) -> list[Finding]:
    """Repeated noise, and repeated words."""
    try:
        runs = quiet_runs(times=2)
    except PalateError as error:
        return [Finding.checked(f"{TEST} of noise", False, f"rounds in which nobody acts must end, got: {error}")]
    drawn = {name: each for run in runs for name, each in run.noises.items()}
    noises = {name: each.steps for name, each in drawn.items()} | {
        name: steps for run in runs for name, steps in run.sums.items()
    }
    least = min(each.sigma for each in drawn.values())
    noise = search(noises, chance=gaussian_chance(least))
    words = search(
        {f"{run.name}, source {place}": each.words for run in runs for place, each in enumerate(run.sources)},
        chance=WORD,
    )
    return [
        Finding.counted(f"{TEST} of noise", noise.p_value, str(noise), by_chance=noise.probability),
        Finding.counted(f"{TEST} of words", words.p_value, str(words), by_chance=words.probability),
    ]
