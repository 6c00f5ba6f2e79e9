"""Section: which attacks are played on which runs, what they reach, and what the operator could have seen.

    audit_poisoning() -> a star of cells around one run -> honest, attacked -> Section of findings and tables

The middle of the star is `als`, central, eps 5, one device in a hundred, an item promoted by crafted vectors. Each
axis is varied by itself: goals, shares of attackers, modes, eps, algorithms, attacks. A cell is played several times,
with other attackers, another target and fresh noise; figures are means.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from palate_audit.poisoning.attacked_run import DELTA, AttackedSetting, AttackersView, Played, PoisoningAttack, play
from palate_audit.poisoning.campaign import RUNS, CampaignTurn, campaign
from palate_audit.poisoning.crafted import Crafted
from palate_audit.poisoning.edge import Edge
from palate_audit.poisoning.published import PublishedAttack
from palate_audit.poisoning.shilling import KINDS, HardSampling, Shilling
from palate_audit.poisoning.verdicts import passes, said, verdict_on, without
from palate_audit.poisoning.world import GOALS, Goal, Judged, World, goal_of, judged, made_world, read_world

from palate_audit.evidence.evidence import Finding, Section
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import Int64
from palate_core.errors import InputError

ATTACKS = ("crafted", *(f"shilling-{kind}" for kind in KINDS), "PipAttack", "FedRecAttack", "A-hum", "FedAttack")
"""The attacks that can be chosen."""
TARGETED = ("PipAttack", "FedRecAttack", "A-hum")
SHARES, ONE = (0.001, 0.01, 0.05), 1e-9
"""Shares of attackers, and one that is a single device in any population."""
MODES = (("central", False), ("distributed", False), ("distributed", True), ("local", False))
EPSILONS: tuple[float | None, ...] = (1.0, 5.0, None)
ALGORITHMS = ("als", "als-pairs", "sgd", "popularity")
REPEATS = 3
FEW = 24
"""Devices of the run under masks, where each is a party of its own."""
LOOKED_AT = 200
"""Honest contributions that an operator compares with."""
MIDDLE = AttackedSetting()
HEADER = (
    "run", "goal", "attack", "attackers", "exposure, no noise", "honest", "attacked", "others' group", "nDCG@20 honest",
    "attacked", "void", "held", "held, with votes",
)  # fmt: skip
SEEN = ("run", "goal", "attack", "attackers", "clip norms sent", "share in one number", "of honest, 99 %", "seen by")
ASSUMPTIONS = (
    "Attackers are modified devices with a token each: they have the plan, the public model and their own histories, "
    "know each other, and choose every number of what they send. They know a model of the same people from before, and "
    "no other history.",
    "The rounds are production code: charges, plans, clip, noise, what the server refuses, masks where it says so, "
    "seal and model. Noise is fresh and secure.",
    "Exposure: the share of people who never took part, and haven't the target, that have it among their first 20; for "
    "a backdoor, of the taste group, and beside it of all others. Quality: nDCG of the first 20, held-out people.",
    "Crafted vectors are a best response one step ahead, by what attackers can know. A better attack may come: what is "
    "reached here is a lower bound of what can be reached. Only the bounds of clip and impossible sums are proved.",
    "`held`: where devices judge each model against an honest one, with 5 % of mu^2 beside what training costs: the "
    "share of attacked models that isn't published; `with votes`: where attackers spend a clip norm each on their own.",
    "Published attacks are adapted from gradients of item vectors to sums of Palate's blocks, as each module says.",
)

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Cell:
    """One run and one attack on it.

    Attributes:
        setting: of the run.
        goal: what is wanted.
        attack: one of `ATTACKS`.
    """

    setting: AttackedSetting
    goal: str
    attack: str

    @property
    def run(self) -> str:
        """The run in words."""
        setting = self.setting
        masks = ", masks" if setting.masks else ""
        epsilon = "eps off" if setting.epsilon is None else f"eps {setting.epsilon:g}"
        return f"{setting.algorithm}, {setting.dp}{masks}, {epsilon}"


@dataclass(frozen=True)
class MeasuredCell:
    """What one cell came to: means over its repeats.

    Attributes:
        cell: which.
        world: name of the population.
        attackers: how many devices were modified.
        users: how many there were.
        bare: exposure without noise and attackers.
        honest: what honest runs come to.
        attacked: what attacked runs come to.
        error: standard error of the attacked exposure.
        void: share of the runs that ended without a model of all rounds.
        sent: the longest vector of an attacker, in clip norms.
        peak: the largest share that one number has of an attacker's square, the round where it is largest.
        usual: the same of honest devices, the 99th of a hundred.
        said: what the server said of void attempts.
        held: share of the attacked models that devices who judge would hold back; None where there is no verdict.
        outvoted: the same where attackers spend their whole norm in the verdict.
    """

    cell: Cell
    world: str
    attackers: int
    users: int
    bare: Judged
    honest: Judged
    attacked: Judged
    error: float
    void: float
    sent: float
    peak: float
    usual: float
    said: str
    held: float | None
    outvoted: float | None

    def facts(self) -> dict[str, Any]:
        """As the record has it."""
        setting = self.cell.setting
        return {
            "algorithm": setting.algorithm, "dp": setting.dp, "masks": setting.masks, "epsilon": setting.epsilon,
            "unclipped": setting.unclipped, "goal": self.cell.goal, "attack": self.cell.attack, "world": self.world,
            "users": self.users, "attackers": self.attackers, "exposure without noise": self.bare.exposure,
            "honest": vars(self.honest), "attacked": vars(self.attacked), "standard error": self.error,
            "void": self.void, "longest sent": self.sent, "largest share": self.peak, "usual share": self.usual,
            "said": self.said, "held": self.held, "held with votes": self.outvoted,
        }  # fmt: skip

    def cells(self) -> list[str]:
        """A row of the table of effects."""
        quality = [f"{each.quality:.3f}" for each in (self.honest, self.attacked)]
        target = self.cell.goal != "destroy"
        shown = [f"{each.exposure:.3f}" if target else "" for each in (self.bare, self.honest, self.attacked)]
        elsewhere = f"{self.attacked.elsewhere:.3f}" if self.cell.goal == "backdoor" else ""
        held = ["" if share is None else f"{share:.0%}" for share in (self.held, self.outvoted)]
        return [*self._named(), *shown, elsewhere, *quality, f"{self.void:.0%}" if self.void else "", *held]

    def seen(self) -> list[str]:
        """A row of the table of what the operator could have looked at."""
        mode = self.cell.setting
        who = {"central": "the server: each vector", "local": "the server: each noised vector"}.get(mode.dp, "nobody")
        if mode.dp == "distributed" and not mode.masks:
            who = "a simulation only"
        if mode.dp == "off":
            who = "the server: each vector"
        return [*self._named(), f"{self.sent:.3g}", f"{self.peak:.0%}", f"{self.usual:.0%}", who]

    def _named(self) -> list[str]:
        unclipped = {"": "", "blind": ", unclipped", "edge": ", to the edge"}[self.cell.setting.unclipped]
        count = f"{self.attackers:,} of {self.users:,}{unclipped}"
        return [self.cell.run, self.cell.goal, self.cell.attack, count]


def star(
    *,
    goals: Collection[str] = GOALS,
    attacks: Collection[str] = ATTACKS,
    epsilons: Collection[float | None] = EPSILONS,
    algorithms: Collection[str] = ALGORITHMS,
    modes: Collection[tuple[str, bool]] = MODES,
    shares: Collection[float] = (ONE, *SHARES),
) -> tuple[Cell, ...]:
    """The cells: each axis by itself, through the middle."""
    found = [Cell(MIDDLE, goal, "crafted") for goal in goals]
    found += [Cell(replace(MIDDLE, share=share), "promote", "crafted") for share in shares]
    found += [Cell(MIDDLE, "destroy" if attack == "FedAttack" else "promote", attack) for attack in attacks]
    found += [Cell(replace(MIDDLE, algorithm=name, share=0.05), "promote", "crafted") for name in algorithms]
    for epsilon in epsilons:
        dp = "off" if epsilon is None else MIDDLE.dp
        found.append(Cell(replace(MIDDLE, epsilon=epsilon, dp=dp), "promote", "crafted"))
    for dp, masks in modes:
        mode = replace(MIDDLE, dp=dp, masks=masks)
        if dp == "distributed":
            # A device that sends what it likes: more than the sum bears, and as much as it bears.
            found += [
                Cell(replace(mode, share=ONE, unclipped=kind), "promote", "crafted") for kind in ("blind", "edge")
            ]
        if not masks:
            found.append(Cell(replace(mode, unclipped="blind" if dp == "local" else ""), "promote", "crafted"))
    return tuple(dict.fromkeys(found))


def make_attack(name: str, goal: Goal, seed: int) -> PoisoningAttack:
    """An attack by its name.

    Raises:
        InputError: there is none, or it has no such goal.
    """
    if name not in ATTACKS:
        raise InputError(f"`--attack` must be among {', '.join(ATTACKS)}, got {name}")
    if name in TARGETED and goal.target < 0:
        raise InputError(f"`--attack` {name} must have a goal with a target, got {goal.name}")
    if name in TARGETED:
        return PublishedAttack(name, goal, seed)
    if name == "FedAttack":
        return HardSampling(goal, seed)
    if name == "crafted":
        return Crafted(goal, seed)
    return Shilling(name.removeprefix("shilling-"), goal, seed)


def armed(cell: Cell, goal: Goal, seed: int) -> PoisoningAttack:
    """The attack of a cell, stretched to the edge where its setting says so."""
    attack = make_attack(cell.attack, goal, seed)
    return Edge(attack, goal, seed) if cell.setting.unclipped == "edge" else attack


def audit_poisoning(
    *,
    data: Path | None = None,
    goals: Collection[str] = GOALS,
    attacks: Collection[str] = ATTACKS,
    users: int = 2_000,
    repeats: int = REPEATS,
    seed: int = 0,
    core: int = 0,
    notify: Notify = lambda _: None,
) -> Section:
    """Attack runs, and say what that came to.

    Args:
        data: a log, as `palate simulate` takes it; None: a made world.
        goals: which of `GOALS`.
        attacks: which of `ATTACKS`.
        users: people of the made world.
        repeats: plays of each cell.
        seed: of worlds, targets, attackers and all that they draw; noise is always fresh.
        core: of a log: least events of a user and of an item.
        notify: called with what is played.

    Raises:
        InputError: an unknown goal or attack, a number out of range, or a log that can't be read.
    """
    for name, asked, known in (("goal", goals, GOALS), ("attack", attacks, ATTACKS)):
        if not asked or any(each not in known for each in asked):
            wrong = ", ".join(each for each in asked if each not in known) or "none"
            raise InputError(f"`--{name}` must be among {', '.join(known)}, got {wrong}")
    for option, value, least in (("users", users, 100), ("repeats", repeats, 1), ("seed", seed, 0), ("core", core, 0)):
        if value < least:
            raise InputError(f"`--{option}` must be at least {least}, got {value}")
    plays = Plays(data, users=users, repeats=repeats, seed=seed, core=core)
    cells = [cell for cell in star(goals=goals, attacks=attacks) if _chosen(cell, goals, attacks)]
    rows = list[MeasuredCell]()
    for cell in cells:
        notify(f"{cell.run}: {cell.goal}, {cell.attack}")
        rows.append(plays.measure(cell))
    again = list[tuple[bool, tuple[CampaignTurn, ...]]]()
    if "promote" in goals and "crafted" in attacks:
        for voting in (False, True):
            notify(f"{RUNS} runs in a row: promote, crafted{', voting' if voting else ''}")
            again.append((voting, plays.again(voting=voting)))
    return _section(plays, rows, again)


class Plays:
    """The worlds of one audit, and what was played on them.

    Args:
        data: a log; None: made worlds, another one each repeat.
        users: people of a made world.
        repeats: plays of each cell.
        seed: see `audit_poisoning`.
        core: of a log.
    """

    def __init__(self, data: Path | None, *, users: int, repeats: int, seed: int, core: int = 0) -> None:
        self.repeats, self.seed = repeats, seed
        seeds = range(seed, seed + (repeats if data is None else 1))
        items = int(np.clip(users // 5, 40, 400))
        self._worlds = [
            made_world(users=users, items=items, seed=each) if data is None else read_world(data, seed=each, core=core)
            for each in seeds
        ]
        self._honest = cache(self._honest_run)

    @property
    def name(self) -> str:
        """The population in words."""
        return self._worlds[0].name

    def world(self, setting: AttackedSetting, repeat: int) -> World:
        """The population of a play: under masks the first few of its people."""
        found = self._worlds[repeat % len(self._worlds)]
        return replace(found, train=found.train.users(slice(0, FEW))) if setting.masks else found

    def measure(self, cell: Cell) -> MeasuredCell:
        """Play a cell as often as asked, and honest runs beside it."""
        setting, found = cell.setting, list[tuple[Judged, Judged, Judged, Played, float]]()
        for repeat in range(self.repeats):
            world, seed = self.world(setting, repeat), self.seed + repeat
            goal = goal_of(cell.goal, world, seed=seed)
            calm = replace(setting, share=0.0, unclipped="")
            bare = replace(calm, dp="off", epsilon=None, masks=False)
            former = self._honest(calm, repeat).model
            attacked = play(world, setting, armed(cell, goal, seed), seed=seed, former=former)
            told = [judged(self._honest(each, repeat).model, world, goal, seed=seed) for each in (bare, calm)]
            after = judged(attacked.model, world, goal, seed=seed)
            found.append((*told, after, attacked, usual_share(world, attacked)))  # type: ignore[arg-type] # two of them
        plays, verdicts = [each[3] for each in found], self._verdicts(cell, [each[3] for each in found])
        exposures = [each[2].exposure for each in found]
        return MeasuredCell(
            cell,
            self.name,
            attackers=setting.attackers(self.world(setting, 0).users),
            users=self.world(setting, 0).users,
            bare=_mean([each[0] for each in found]),
            honest=_mean([each[1] for each in found]),
            attacked=_mean([each[2] for each in found]),
            error=float(np.std(exposures, ddof=1) / np.sqrt(len(exposures))) if len(exposures) > 1 else 0.0,
            void=float(np.mean([bool(each.said) for each in plays])),
            sent=max(max(each.watched.lengths, default=0.0) for each in plays),
            peak=max(max(each.watched.peaks, default=0.0) for each in plays),
            usual=float(np.mean([each[4] for each in found])),
            said=next((each.said for each in plays if each.said), ""),
            held=_share([held for held, _ in verdicts]),
            outvoted=_share([held for _, held in verdicts]),
        )

    def _verdicts(self, cell: Cell, plays: Sequence[Played]) -> list[tuple[bool, bool]]:
        """Whether devices that judge would hold each attacked model: as they are, and with the attackers' votes.

        Only where a verdict is a sum of clipped votes, and something was released.
        """
        setting, found = cell.setting, list[tuple[bool, bool]]()
        if setting.epsilon is None or setting.masks or setting.dp == "local":
            return []
        for repeat, attacked in enumerate(plays):
            world, seed = self.world(setting, repeat), self.seed + repeat
            if not attacked.plans:
                continue
            calm = replace(setting, share=0.0, unclipped="")
            in_use = self._honest(calm, repeat).model
            honest = without(world, setting.attackers(world.users), seed=seed)
            verdict = verdict_on(honest, calm, attacked.model, in_use, None, seed=seed)
            judged_so = said(verdict, devices=honest.users)
            goal = goal_of(cell.goal, world, seed=seed)
            found.append((judged_so.held, not passes(world, setting, goal, verdict)))
        return found

    def again(self, *, voting: bool) -> tuple[CampaignTurn, ...]:
        """Play several runs in a row, in which five attackers in a hundred push one item: see `campaign`."""
        setting, world = replace(MIDDLE, share=max(SHARES)), self.world(MIDDLE, 0)
        goal = goal_of("promote", world, seed=self.seed)
        in_use = self._honest(replace(MIDDLE, share=0.0), 0).model

        def attack(goal: Goal) -> PoisoningAttack:
            return armed(Cell(setting, "promote", "crafted"), goal, self.seed)

        return campaign(world, setting, [goal] * RUNS, attack, in_use, seed=self.seed, voting=voting)

    def _honest_run(self, setting: AttackedSetting, repeat: int) -> Played:
        return play(self.world(setting, repeat), setting, None, seed=self.seed + repeat)


class TooLong:
    """An attacker that doesn't clip where the server sees it: twice the norm, on one number."""

    name = "too long"

    def sent(self, view: AttackersView) -> Int64:
        """Twice the grid."""
        found = np.zeros((1, view.size), np.int64)
        found[0, 0] = 2 * view.plan.grid
        return found


def usual_share(world: World, played: Played) -> float:
    """The share that one number has of an honest contribution's square in round 0: the 99th of a hundred devices."""
    model = played.model
    if not played.plans:
        return 0.0
    plan, algorithm = played.plans[0], model.algorithm
    some = world.train.users(slice(0, LOOKED_AT))
    clipped = clip(
        algorithm.contribute(algorithm.start(), 0, some), plan.layout, clip_norm=plan.clip_norm, grid=plan.grid
    )
    squares = [np.square(clipped.vector(user).astype(np.float64)) for user in range(some.n_users)]
    return float(np.quantile([each.max() / max(each.sum(), 1.0) for each in squares], 0.99))


def _chosen(cell: Cell, goals: Collection[str], attacks: Collection[str]) -> bool:
    return cell.goal in goals and cell.attack in attacks


def _share(found: Sequence[bool]) -> float | None:
    return float(np.mean(found)) if found else None


def _mean(found: Sequence[Judged]) -> Judged:
    return Judged(*(float(np.mean([getattr(each, name) for each in found])) for name in vars(found[0])))


def _section(
    plays: Plays, rows: Sequence[MeasuredCell], again: Sequence[tuple[bool, tuple[CampaignTurn, ...]]]
) -> Section:
    return Section(
        "poisoning",
        f"{plays.name}: {len(rows)} attacks, {plays.repeats} plays each, delta {DELTA:g}; unit: user, zero-out",
        tuple(_findings(plays, rows)),
        (),
        ASSUMPTIONS,
        {
            "facts": {"plays of each attack": plays.repeats, "population": plays.name},
            "tables": [
                {
                    "title": "Poisoning: the target in lists of people who took no part",
                    "header": list(HEADER),
                    "rows": [row.cells() for row in rows],
                },
                {
                    "title": "Poisoning: what the operator could have looked at",
                    "header": list(SEEN),
                    "rows": [row.seen() for row in rows],
                },
                *([_again_table(again)] if again else []),
            ],
            "measured": [row.facts() for row in rows],
            "again": [{"voting": voting, "turns": [asdict(each) for each in turns]} for voting, turns in again],
        },
    )


def _again_table(again: Sequence[tuple[bool, tuple[CampaignTurn, ...]]]) -> dict[str, Any]:
    """What attackers come to who come again."""
    return {
        "title": "Poisoning: runs in a row, whose items in quarantine are left out",
        "header": ["votes", "run", "model", "target", "exposure", "nDCG@20"],
        "rows": [
            [
                "for their model" if voting else "as everybody", f"{number + 1}", "held" if turn.held else "published",
                "in quarantine" if turn.target in turn.out else "pushed", f"{turn.exposure:.3f}", f"{turn.quality:.3f}",
            ]
            for voting, turns in again
            for number, turn in enumerate(turns)
        ],
    }  # fmt: skip


def _findings(plays: Plays, rows: Sequence[MeasuredCell]) -> Iterator[Finding]:
    """What is claimed of poisoning, and whether the attacks are strong enough to say anything."""
    world = plays.world(MIDDLE, 0)
    long = play(world, replace(MIDDLE, share=ONE), TooLong(), seed=plays.seed)
    counted = all(users == world.users - 1 for users in long.users)
    yield Finding.checked(
        "bound of an installation, central",
        counted and not long.void,
        "a vector of two clip norms is left out by itself, and the others are summed"
        if counted
        else "a vector of two clip norms was summed",
    )
    clipped = [row for row in rows if not row.cell.setting.unclipped]
    longest = max((row.sent for row in clipped), default=0.0)
    yield Finding.checked(
        "clipped attackers", longest <= 1.0, f"the longest vector that they sent was {longest:.6f} clip norms"
    )
    blind = [row for row in rows if row.cell.setting.unclipped == "blind" and row.cell.setting.dp == "distributed"]
    if blind:
        applied = [row for row in blind if row.void < 1]
        yield Finding.checked(
            "impossible sums, distributed",
            not applied,
            "a device that sends all that the modulus bears ends each attempt, and no model is made of it"
            if not applied
            else f"a sum that no clipped contributions can make was released: {applied[0].cell.run}",
        )
    worked = [row for row in rows if row.cell.attack == "crafted" and row.cell.goal in ("promote", "backdoor")]
    best = max(worked, key=lambda row: row.attacked.exposure - row.honest.exposure, default=None)
    if best is not None:
        told = f"{best.cell.run}, {best.attackers:,} attackers: exposure {best.attacked.exposure:.3f}"
        told = f"{told} where honest runs have {best.honest.exposure:.3f}"
        control = best.attacked.exposure > 2 * best.honest.exposure + 0.02
        yield (
            replace(Finding.checked("an attack that works", True, told), control=True)
            if control
            else Finding.missing(
                "an attack that works", f"the strongest one did little, so that others' failures say nothing: {told}"
            )
        )
