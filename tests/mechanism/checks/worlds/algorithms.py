"""Every mode: the side outputs of every algorithm's run, in every mode, whoever did something.

Three worlds: everybody as they are, one user emptied, everybody emptied, so that whole blocks are zero and nobody has
anything to tell. Each registered algorithm and a survey are run in them, in two of the modes, which take turns: with
noise of the server, of devices, of each device alone, and under masks; a user a node, and many. The world in which one
user is emptied takes turns, too. The quick form has one mode for each, and not that world. What is compared is all of
`side_outputs`: sizes, headers and refusals of answers, metadata of sealed releases, plans, charges, counts, logs,
files, both ledgers; and that a restarted server knows as much.

**Assumes:** timing is not protected, and was left out, as were hashes of noised numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mechanism.checks.differential import RUNS, Whole
from mechanism.checks.side_outputs import Seen, difference, observed
from mechanism.harness.probe_run import Setting, crowd
from palate_audit.evidence.evidence import Finding
from palate_common.algorithms import algorithm_names
from palate_common.interactions import Interactions
from palate_common.survey import SURVEYING, Survey
from palate_core.privacy_mode import CENTRAL, DISTRIBUTED, LOCAL, PrivacyMode

TEST = "every mode"
USERS, ITEMS, SUBJECT = 7, 24, 4


@dataclass(frozen=True)
class Mode:
    """A way to add noise, and how many users a node has."""

    mode: PrivacyMode
    per_node: int = 1
    masks: bool = False


MODES: Mapping[str, Mode] = {
    "central, a user a node": Mode(CENTRAL),
    "central, four users a node": Mode(CENTRAL, 4),
    "distributed, four users a node": Mode(DISTRIBUTED, 4),
    "masks": Mode(DISTRIBUTED, masks=True),
    "local": Mode(LOCAL),  # the last: in the quick form it is met by what has no other
}
TURNS = {False: 2, True: 1}
"""How many modes an algorithm meets, and in the quick form: other ones than the algorithm before it."""


def every_mode(*, quick: bool = False, deep: bool = False) -> list[Finding]:
    """Every algorithm and every mode: each meets some of the others, at every second pair in two worlds of three.

    Args:
        quick: half of the pairs, in two worlds.
        deep: every pair in all three.
    """
    wrong: dict[str, str] = {}
    turns, worlds = TURNS[quick], "two" if quick else "three"
    count = dict.fromkeys(MODES, 0)
    number = -1
    for name, run in _runs(quick=quick):
        number += run.events is None
        for turn, mode in enumerate(MODES):
            if run.events is not None and MODES[mode].mode is not LOCAL:
                continue
            if run.events is None and (turn - turns * number) % len(MODES) >= turns:
                continue
            count[mode] += 1
            few = quick or (not deep and (turn + number) % 2 == 1)
            if mode not in wrong and (told := next(_told(run, MODES[mode], few=few), "")):
                wrong[mode] = f"{name}: {told}"
    said = {mode: wrong.get(mode, f"{count[mode]} algorithms, the same in {worlds} worlds") for mode in MODES}
    return [Finding.checked(f"{TEST}: {mode}", mode not in wrong, said[mode]) for mode in MODES]


def _runs(*, quick: bool = False) -> Iterator[tuple[str, Whole]]:
    """One run of each algorithm, with settings that give it its blocks; `quick` leaves out those that load torch."""
    known: dict[str, Whole] = {}
    for run in RUNS.values():
        if run.events in (None, 1.0):
            known.setdefault(run.algorithm, run)
    known["als"] = RUNS["als, pairs and votes"]
    for name in sorted(known if quick else {*algorithm_names(), *known}):
        yield name, known.get(name, Whole(name, {"rounds": 2}))


def _told(run: Whole, mode: Mode, *, few: bool) -> Iterator[str]:
    """What differs between the worlds of one algorithm in one mode."""
    setting = Setting(
        mode=mode.mode, users_per_node=mode.per_node, masks=mode.masks, algorithm=run.algorithm,
        settings=dict(run.settings), clip_norm=run.clip_norm, epsilon=20.0, events=run.events,
    )  # fmt: skip
    everybody = _histories(run)
    worlds = {"everybody": everybody, "nobody": crowd([[]] * USERS, n_items=everybody.n_items)}
    if not few:
        acts = [everybody.user(row).indices.tolist() if row != SUBJECT else [] for row in range(USERS)]
        worlds["one user emptied"] = crowd(acts, n_items=everybody.n_items)
    base: Seen | None = None
    for world, histories in worlds.items():
        seen = observed(setting, histories, ())
        if isinstance(seen, str):
            yield f"a run must end whoever does something, got with `{world}`: {seen}"
            return
        if seen["beyond the release"]:
            yield f"what follows a release must follow from its sealed bytes, got {seen['beyond the release'][0]}"
        base = base or seen
        for where in seen:
            if seen[where] != base[where]:
                yield f"{where} tell `{world}`: {difference(base[where], seen[where])}"


def _histories(run: Whole) -> Interactions:
    """Users with one item and with many; of a survey, with answers."""
    items = len(Survey.model_validate(dict(run.settings)).questions()) if run.algorithm == SURVEYING else ITEMS
    rng = np.random.default_rng(11)
    sizes = [1 + 3 * user % 11 for user in range(USERS)]
    sizes[SUBJECT] = min(items, 20)
    return crowd([rng.choice(items, size, replace=False).tolist() for size in sizes], n_items=items)
