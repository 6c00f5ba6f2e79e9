"""statement.json: what remains of who leaves, as a file and in words."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from typing import Any

from palate_client.device import open_device
from palate_client.leaving.statement import Statement
from palate_client.ledger.reliance import conditions, worst_case_costs
from palate_client.online.enrolment import Enrolment, keep
from palate_client.rounds.report import Spending
from palate_client.service import Service
from palate_client.store.journal import Journal, Opened, Sent
from palate_core.accounting import total_mu2
from palate_core.device.ledger import Receipt
from palate_core.device.trust import Trust
from palate_core.plan import SignedPlan

from .key import SECRET, test_key
from .plan import plan


def statement() -> dict[str, Any]:
    """What remains of who leaves: from what a device knows to the statement's file and words."""
    service = Service(public_key=test_key().public, population="readers", epsilon=8.0)
    signed = plan()["signed_plan"].encode()
    state = SignedPlan.model_validate_json(signed).charge
    now, day = [1_795_824_000.0], 86_400.0
    shared, alone = Trust(5, 50, 3.5), Trust(None, None, 0.75)
    receipts = (
        Receipt("run-1", 0, 0, "11" * 32, 1.257182307415832, 4096, now[0] + day, shared, "train"),
        Receipt("run-1", 1, 0, "22" * 32, 0.0000123456, 4096, now[0] + 2 * day, Trust(8, 60, 0.25), "train"),
        Receipt("survey-2", 0, 1, "33" * 32, 0.5, 512, now[0] + 3 * day, alone, "analytics"),
        Receipt("run-4", 0, 0, "44" * 32, 0.25, 4096, now[0] + 4 * day, shared, "train"),
    )
    steps = ("advertise", "share", "check", "input", "consistency", "unmask")
    sent = (
        *(Sent(step, "distributed", "run-1", 0, 0, 1000 + place, now[0] + day) for place, step in enumerate(steps)),
        *(Sent(step, "distributed", "run-1", 1, 0, 2000, now[0] + 2 * day) for step in steps[:3]),
        Sent("contribution", "local", "survey-2", 0, 1, 512, now[0] + 3 * day),
        *(Sent(step, "distributed", "run-4", 0, 0, 123_456, now[0] + 4 * day) for step in steps),
        Sent("contribution", "central", "run-0", 2, 0, 640, now[0]),
    )
    cases: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        open_device(folder, app="bookshop", key=SECRET, service=service, clock=lambda: now[0]) as device,
    ):

        def told(name: str, *, final: bool, problem: str = "", few: bool = False, **server: Any) -> None:
            base = device.privacy_report()
            own = () if few else receipts
            trusts = [each.trust for each in own]
            costs = worst_case_costs(trusts)
            mu2 = total_mu2([each.mu2 for each in own])
            spending = Spending(
                population="readers",
                epsilon=service.epsilon_of(mu2),
                conditions=conditions(trusts),
                epsilon_alone=None if costs is None else service.epsilon_of(total_mu2(costs)),
                limit=service.epsilon,
                delta=service.delta,
                mu2=mu2,
                participations=len(own),
                participation_limit=service.participations,
                receipts=own,
                seen=None if few or state is None else state.checkpoint,
            )
            opened = () if few else (Opened(now[0] + 5 * day, 12, "2026-01"),)
            left = () if few else sent
            report = replace(base, spending=None if problem else spending, problem=problem, sent=left, opened=opened)
            evidence = None if few else signed
            made = Statement.of(report, device.store, device.consent, service, evidence=evidence, final=final)
            given = {
                "receipts": [asdict(each) for each in own],
                "sent": [asdict(each) for each in left],
                "opened": len(opened),
                "decisions": [[each.purpose, each.granted, each.time] for each in report.decisions],
                "time": report.time,
                "problem": problem,
                "seen": None if few or state is None else asdict(state.checkpoint),
                "evidence": None if few else signed.decode(),
                "server": None if made.server is None else made.server.model_dump(),
                "final": final,
            }
            cases.append({"name": name, "given": given, "file": made.to_bytes().decode(), "text": str(made)})

        told("nothing has happened", final=False, few=True)
        for purpose, granted in (("train", True), ("analytics", True), ("panel", True), ("panel", False)):
            (device.consent.grant if granted else device.consent.revoke)(purpose)
        keep(device.store, Enrolment("shop.example", 443, "", service.public_key, "readers", 7, "/p/books"))
        now[0] += 6 * day
        told("rounds, enrolled", final=False)
        with Journal(device.store.file) as journal:
            journal.secret("identity", test_key().to_pem())
            journal.keep("leaving", b'{"answered": false}')
        told("asked to delete", final=False)
        with Journal(device.store.file) as journal:
            journal.keep("leaving", b'{"answered": true}')
        device.consent.revoke("train")
        told("the server has answered; erased next", final=True)
        told("a ledger that can't be read", final=True, problem="the ledger must be whole, and is damaged")
    service_facts = {"public_key": service.public_key, "population": "readers", "epsilon": 8.0}
    return {"app": "bookshop", "service": service_facts, "cases": cases}
