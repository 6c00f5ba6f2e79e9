"""Honest: many small populations in which nobody attacks, with every defence on, and what these then do to them.

    made people -> runs in a row, each: train, judge against the model in use, publish or hold -> what was counted

A run is the production round under `distributed`, with secure noise: what the server makes of a sum that looks
impossible, what devices say of the model, and which items would go into quarantine. Masks are left out: the sum is the
same without. A population that is too small to pay for a verdict, by the rule of a server, trains with its whole budget
and is counted for impossible sums alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.journal import once_each
from benchmarks.poisoning.attacked_run import DELTA, AttackedSetting, play, terms_of
from benchmarks.poisoning.campaign import ACCUSERS, left_out
from benchmarks.poisoning.verdicts import divided, said, verdict_on
from benchmarks.poisoning.world import World, made_world
from benchmarks.sheet import Table
from palate_common.models.model import GlobalModel
from palate_core.errors import InputError
from palate_core.privacy_mode import DpMode
from palate_server.operation.terms import check_judging
from palate_server.rounds.possible import FALSE_VOID
from palate_server.rounds.replay import Replay, model_header
from palate_server.surveys.accusation import seen

EPSILON, RUNS = 5.0, 5
"""Of a training and its verdict together, and how many there are in a row in each population."""
PEOPLE = (375, 3_125)
"""Of a made world, of whom four fifths take part: 300 to 2,500 devices, as many between any two in the same ratio."""
ALGORITHMS = ("als", "als-pairs", "sgd", "popularity")
COUNTS = (
    "runs", "attempts", "device_rounds", "void", "left_out", "judged", "held", "accused", "quarantined",
)  # fmt: skip


@dataclass(frozen=True)
class HonestRuns:
    """What the defences did to one population.

    Attributes:
        seed: of the population.
        algorithm: of its runs.
        devices: in it.
        runs: that trained.
        attempts: that were charged, those of verdicts included.
        device_rounds: contributions in all that was released.
        left_out: contributions that are missing there.
        void: attempts whose sum was called impossible.
        judged: runs whose model was judged.
        held: of those, the models that were held.
        accused: items that verdicts named.
        quarantined: of those, the ones that would be in quarantine.
        lost: by how much of the devices more lost than won by a model, at most.
        reasons: why models were held, and attempts void.
    """

    seed: int
    algorithm: str
    devices: int
    runs: int = 0
    attempts: int = 0
    device_rounds: int = 0
    left_out: int = 0
    void: int = 0
    judged: int = 0
    held: int = 0
    accused: int = 0
    quarantined: int = 0
    lost: float = 0.0
    reasons: tuple[str, ...] = ()


def honest_runs(seed: int, *, people: tuple[int, int] = PEOPLE, runs: int = RUNS) -> HonestRuns:
    """Play the runs of one population.

    Args:
        seed: of all that is drawn but noise; the algorithm follows from it, too.
        people: least and most of its people.
        runs: in a row.
    """
    number = int(np.exp(np.random.default_rng([seed, 37]).uniform(*np.log(people))))
    world = made_world(users=number, items=int(np.clip(number // 5, 40, 400)), seed=seed)
    setting = AttackedSetting(algorithm=ALGORITHMS[seed % len(ALGORITHMS)], dp="distributed", epsilon=EPSILON)
    budget, found = divided(EPSILON), HonestRuns(seed, setting.algorithm, world.users)
    judging = pays(world, budget.verdict)
    training = replace(setting, epsilon=budget.training if judging else EPSILON)
    terms = terms_of(world, training, seed=seed)
    in_use = GlobalModel(model_header(terms, 0), Replay(terms).algorithm.start())
    items, shown = tuple(f"item {row}" for row in range(world.train.n_items)), frozenset[int]()
    for run in range(runs):
        played = [play(world, training, None, seed=seed * runs + run)]
        verdict = None
        if judging and played[0].plans:
            model = played[0].model
            played.append(verdict_on(world, setting, model, in_use, None, seed=seed * runs + run))
            if played[1].plans:
                verdict = said(played[1], devices=played[1].users[0])
                into = left_out(played[1].model, verdict, shown=shown, accusers=ACCUSERS)
                if not verdict.held:
                    in_use, shown = model, seen(played[1].model, devices=verdict.devices)
        contributed = [users for each in played for users in each.users]
        void = sum(each.void for each in played)
        found = replace(
            found,
            runs=found.runs + 1,
            attempts=found.attempts + void + len(contributed),
            device_rounds=found.device_rounds + sum(contributed),
            left_out=found.left_out + world.users * len(contributed) - sum(contributed),
            void=found.void + void,
            reasons=found.reasons + tuple(each.said for each in played if each.said),
        )
        if verdict is not None:
            found = replace(
                found,
                judged=found.judged + 1,
                held=found.held + verdict.held,
                accused=found.accused + len(verdict.pushed),
                quarantined=found.quarantined + len(into),
                lost=max(found.lost, verdict.lost),
                reasons=found.reasons + tuple(verdict.reasons(items)),
            )
    return found


def pays(world: World, epsilon: float) -> bool:
    """Whether a server would have these people judge at this epsilon."""
    try:
        check_judging(epsilon, dp=DpMode.DISTRIBUTED, delta=DELTA, devices=world.users, n_items=world.train.n_items)
    except InputError:
        return False
    return True


def measure(populations: int) -> list[dict[str, Any]]:
    """Play so many populations, and count by algorithm."""
    about = (EPSILON, RUNS, PEOPLE, ALGORITHMS)
    found = once_each("poisoning-honest", range(populations), lambda seed: asdict(honest_runs(seed)), about=about)
    return [counted(name, [each for each in found if each["algorithm"] == name]) for name in ALGORITHMS]


def counted(algorithm: str, populations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What came of some populations together."""
    return {
        "algorithm": algorithm, "populations": len(populations),
        "judging": sum(each["judged"] > 0 for each in populations),
        "devices": [kind(each["devices"] for each in populations) for kind in (min, max) if populations],
        **{name: sum(each[name] for each in populations) for name in COUNTS},
        "lost": max((each["lost"] for each in populations), default=0.0),
        "reasons": [reason for each in populations for reason in each["reasons"]],
    }  # fmt: skip


def tables(figures: Any) -> list[Table]:
    """One row an algorithm, and all of them."""
    whole = {"algorithm": "**all**", "devices": [], "reasons": [each for row in figures for each in row["reasons"]]}
    whole |= {name: sum(row[name] for row in figures) for name in (*COUNTS, "populations", "judging")}
    whole["lost"] = max(row["lost"] for row in figures)
    shown = [row for row in figures if row["populations"]]
    whole["devices"] = [min(row["devices"][0] for row in shown), max(row["devices"][1] for row in shown)]
    header = (
        "algorithm", "populations", "devices", "runs", "attempts", "device-rounds", "void", "left out", "judged",
        "held", "items named", "in quarantine", "lost at most",
    )  # fmt: skip
    rows = [
        (
            row["algorithm"], f"{row['populations']:,}", " to ".join(f"{each:,}" for each in row["devices"]),
            *(f"{row[name]:,}" for name in COUNTS), f"{row['lost']:.1%}",
        )
        for row in [*shown, whole]
    ]  # fmt: skip
    law = whole["attempts"] * 2.0**FALSE_VOID
    held, void = _most(whole["held"], whole["judged"]), _most(whole["void"], whole["attempts"])
    note = (
        f"Made populations in which nobody attacks: {RUNS} runs in a row each, `distributed`, "
        f"eps {EPSILON:g} of a training and its verdict (delta {DELTA:g}, unit user, adjacency zero-out, accountant: "
        "Palate's closed form), without masks. "
        f"`void`: by law with probability {law:.0e} at most (2^{FALSE_VOID:.0f} an attempt). "
        "`left out`: contributions that no release has. `lost`: by how much more devices lost than won. "
        f"{whole['populations'] - whole['judging']:,} populations are too small for a verdict. With 95 % "
        f"confidence at most {held} of these models are held, and at most {void} of these attempts void."
    )
    return [Table("Nobody attacks, and every defence is on", header, rows, note)]


def _most(found: int, of: int) -> str:
    """The upper end of a share's exact one-sided 95 % interval."""
    return f"{stats.binomtest(found, of, alternative='less').proportion_ci(0.95, 'exact').high:.2%}" if of else "100 %"
