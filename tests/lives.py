"""A device with a life behind it: events, rounds that it took part in, a model, messages, decisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import palate
from palate_client.delivery.channel import Channel
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.rounds.wire import REFUSED
from palate_core.log.consistency import SPENT

LOOSE = palate.Floors(allow_seeded=True, allow_central=True).for_few()
DAY = 86_400.0


def lived(
    make_run: Callable[..., Any],
    open_device: Callable[..., palate.Device],
    now: float,
    *,
    title: str = "A new <b>book</b>",
) -> palate.Device:
    """A device that took part in a run of als with central noise, and has its model; one more plan was refused."""
    settings = {"rounds": 2, "popularity_only_below": 0, "embedding_size": 4}
    run = make_run(algorithm="als", settings=settings)
    service = palate.Service(public_key=run.key.public, population="readers", floors=LOOSE, epsilon=20.0)
    device = open_device(service=service, clock=lambda: now, zone="Europe/Berlin", consent=False)
    device.consent.grant("store", version="2026-01")
    device.consent.grant("train", version="2026-01")
    device.consent.grant("messaging")
    device.consent.grant("analytics")
    device.consent.revoke("analytics")
    kinds = ("view", "like", "purchase", "play", "impression")
    device.track_many(
        palate.Event(kinds[n % 5], f"item-{n % 7}", time=now - DAY * (n * n % 170), id=f"event-{n}") for n in range(90)
    )
    with run.lock:
        coordinator = run.coordinator(clock=lambda: now)
        catalogue = ItemCatalogue(run.items)

        def publish(name: str) -> None:
            folder = run.folder / name
            facts = {"run": run.terms.run, SPENT: run.ledger.spent()}
            packed = published.pack(
                coordinator.model, catalogue, facts, run.key, population="readers", shown=run.ledger.shown()
            )
            published.write(folder, packed)
            device.update_model(folder)

        publish("start")
        while not coordinator.finished:
            plan, model = coordinator.open_attempt(), coordinator.model.data
            nodes = run.nodes(users_per_node=16, clock=lambda: now)
            replies = {number: node.answer(plan, model) for number, node in enumerate(nodes)}
            replies[len(nodes)] = device.contribute(plan, model)
            assert replies[len(nodes)] != REFUSED, device.refusal
            coordinator.close_attempt(replies)
        publish("end")
    assert device.contribute(b"no plan", b"") == REFUSED
    quick = Channel(name="feed", per_day=None, per_week=None, quiet=None)
    messenger = device.messenger({"feed": lambda messages: None}, channels=[quick], control=0.0)
    messenger.deliver(palate.Message("new-1", title="Too early", item="item-1"))
    messenger.allow("feed", version="2026-01")
    messenger.deliver(palate.Message("new-2", title=title, item="item-2", transactional=True))
    return device
