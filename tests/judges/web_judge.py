"""A pytest plugin: each verdict of Python's device on a plan, a model or a state of a ledger must be a browser's, too.

    PYTHONPATH=tests/judges pytest -p web_judge tests/common/test_plan.py

It stands before the functions that give these verdicts, asks the browser package the same
(`client/web/test/driver/judge.mjs`), and fails the session where one of the two refuses and the other doesn't.
"""

from __future__ import annotations

import functools
import json
import math
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from palate_client.models import Models
from palate_client.service import Service
from palate_client.store.journal import Journal
from palate_common.models import manifest as manifests
from palate_common.models.published import Published
from palate_core import plan as plans
from palate_core.device.ledger import DeviceLedger
from palate_core.errors import PalateError
from palate_core.log import consistency
from palate_core.log.canonical import canonical_json
from palate_core.log.merkle import Checkpoint
from palate_core.log.pinned import Pinned

WEB = Path(__file__).parents[2] / "client" / "web"
OTHER = "steps for single events"
"""Of a refusal that is a browser's own: it takes no part in rounds whose unit is one event."""


class Judge:
    """The browser package in a process, and how it has judged."""

    def __init__(self) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(["node", "test/driver/judge.mjs"], cwd=WEB, **pipes)
        self.asked = self.refused = self.within = 0
        self.differ: list[str] = []

    def compare(
        self, ask: str, error: PalateError | None, *, after: Mapping[str, Any] | None = None, **question: Any
    ) -> None:
        """Ask the same; remember where the verdict is another, or `after`, what is known afterwards."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"ask": ask, **question}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        verdict = answer["verdict"]
        self.asked += 1
        self.refused += error is not None
        if (verdict is None) != (error is None) and OTHER not in str(verdict):
            self.differ.append(f"{ask}: {error!r:.200} here, {verdict} there")
        elif error is None and after is not None and answer["found"] != after:
            self.differ.append(f"{ask}: {after!r:.200} is known here afterwards, {answer['found']!r:.200} there")

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


judge = Judge()


def outcome(call: Callable[[], Any]) -> tuple[Any, PalateError | None]:
    """What a call gives, or its error."""
    try:
        return call(), None
    except PalateError as error:
        return None, error


def seen(checkpoint: Checkpoint | None, evidence: bytes | None) -> dict[str, Any]:
    state = None if checkpoint is None else {"size": checkpoint.size, "root": checkpoint.root}
    return {"seen": state, "evidence": None if evidence is None else bytes(evidence).hex()}


def pins(pinned: Pinned | None) -> dict[str, Any] | None:
    if pinned is None:
        return None
    quorums = [{"keys": list(each.keys), "needed": each.needed} for each in pinned.quorums]
    said = {name: getattr(pinned, name) for name in ("population", "public_key", "first_key")}
    return {**said, "quorums": quorums}


def number(value: Any) -> Any:
    """As JSON can say it."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


check_pinned, check_growth = consistency.check_pinned, consistency.check_growth
open_plan, read_manifest = plans.open_plan, manifests.read_manifest


def compare_growth(error: Exception | None, what: str, shown: consistency.Shown, **rest: Any) -> None:
    if not judge.within:
        dumped = shown.model_dump(mode="json")
        state = canonical_json({name: dumped[name] for name in consistency.Shown.model_fields if name in dumped})
        judge.compare("growth", error, what=what, shown=state.decode(), **rest)


def judged_pinned(
    what: str, shown: consistency.Shown, *, pinned: Pinned, evidence: bytes | None
) -> consistency.Covered:
    covered, error = outcome(lambda: check_pinned(what, shown, pinned=pinned, evidence=evidence))
    if error is not None:
        compare_growth(error, what, shown, spent=number(math.inf), pinned=pins(pinned), **seen(None, evidence))
        raise error
    return covered  # type: ignore[no-any-return]


def judged_growth(
    covered: consistency.Covered, *, seen: Checkpoint | None, evidence: bytes | None, spent: float
) -> None:
    _, error = outcome(lambda: check_growth(covered, seen=seen, evidence=evidence, spent=spent))
    rest = {"spent": number(spent), "pinned": pins(covered.pinned), **globals()["seen"](seen, evidence)}
    compare_growth(error, covered.what, covered.shown, **rest)
    if error is not None:
        raise error


def judged_plan(
    data: bytes,
    *,
    public_key: str,
    last_seen: Callable[[str], Checkpoint | None],
    evidence: Callable[[str], bytes | None],
    accept: Callable[[plans.RoundPlan], None],
    pinned: Pinned | None,
    event_price: plans.EventPrice,
) -> plans.SignedPlan:
    asked: dict[str, Any] = {"public_key": public_key, "last_seen": last_seen, "evidence": evidence, "pinned": pinned}
    asked["event_price"] = event_price
    judge.within += 1
    signed, error = outcome(lambda: open_plan(data, accept=accept, **asked))
    judge.within -= 1
    read, _ = outcome(lambda: plans.read_plan(data))
    state, _ = outcome(lambda: read and (last_seen(read.plan.population), evidence(read.plan.population)))
    known = accept.keywords if isinstance(accept, functools.partial) else {}
    if read is None or state is not None:  # else its ledger is closed, which is no verdict on the plan
        floors = asdict(known["floors"]) if "floors" in known else None
        rest = {"floors": floors and {name: number(value) for name, value in floors.items() if name != "allow_events"}}
        rest |= {"now": known.get("now", 0), "pinned": pins(pinned), **seen(*(state or (None, None)))}
        judge.compare("plan", error, data=bytes(data).hex(), public_key=public_key, **rest)
    if error is not None:
        raise error
    return signed  # type: ignore[no-any-return]


def judged_manifest(files: Mapping[str, bytes], public_key: str) -> manifests.Manifest:
    found, error = outcome(lambda: read_manifest(files, public_key))
    given = {name: files.get(file, b"").hex() for name, file in (("data", "manifest.json"), ("signature", "signature"))}
    judge.compare("manifest", error, public_key=public_key, **given)
    if error is not None:
        raise error
    return found  # type: ignore[no-any-return]


def judged_take(self: Models, found: Published, service: Service, ledger: DeviceLedger) -> bool:
    """Whether a device takes a model, whatever it has seen of the ledger before, and what it knows of it then."""
    with Journal(self._store.file) as journal:
        editions = [asdict(each) for each in journal.editions()]
    self.see(service, ledger)

    def known() -> tuple[Checkpoint | None, bytes | None]:
        return ledger.seen_checkpoint(service.population), ledger.seen_payload(service.population)

    before = known()
    judge.within += 1
    taken, error = outcome(lambda: take(self, found, service, ledger))
    judge.within -= 1
    state, evidence = known()
    after = None if state is None else {"size": state.size, "root": state.root, "evidence": (evidence or b"").hex()}
    names = ("population", "public_key", "first_key", "witnesses", "next_witnesses", "quorum")
    terms = {name: getattr(service, name) for name in names}
    files = {name: data.hex() for name, data in found.files.items()}
    judge.compare("take", error, after=after, files=files, terms=terms, editions=editions, **seen(*before))
    if error is not None:
        raise error
    return bool(taken)


take = Models._take
Models._take = judged_take  # type: ignore[method-assign] # it stands before it
consistency.check_pinned, consistency.check_growth = judged_pinned, judged_growth
plans.open_plan, manifests.read_manifest = judged_plan, judged_manifest


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Say how many verdicts there were, and fail where one differs."""
    judge.close()
    print(f"\njudged {judge.asked} refused {judge.refused} differ {len(judge.differ)}")
    print("\n".join(judge.differ[:20]))
    if judge.differ:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
