"""Person: one of a sandbox's people with the real device SDK: an encrypted store, consents, lists, messages, rounds.

    Population (what they do) -> Person -> palate.open, consent, update_model, recommend, feedback, messenger,
    contribute

A person's device has the sandbox's clock. Their taste is in `Population` alone: the device learns of it what they do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import palate
from palate_client.events import HISTORY
from palate_common.kinds import Kind
from palate_common.records.closing import Closing
from palate_sandbox.config import Scenario
from palate_sandbox.operator import CHANNEL, TEST

TEXT = "sandbox-1"
"""The version of the text that they agreed to."""
TAKES: dict[Scenario, tuple[Kind, float | None]] = {
    "films": ("play", 5400.0),
    "shop": ("purchase", 1.0),
    "news": ("click", None),
    "music": ("play", 200.0),
}
"""What it means to take an item: the kind of event, and its value."""
SKIP: Kind = "skip"
"""What a visit leaves in which nothing was taken: the first item was skipped. It counts for a visit, and for no
taste."""


class Person(Closing):
    """A person and their device.

    Args:
        folder: where their store is.
        scenario: what is offered.
        service: the server, as the app has it built in.
        clock: the sandbox's.
        agrees: purpose -> whether they agree to it.
    """

    def __init__(
        self,
        folder: Path,
        scenario: Scenario,
        *,
        service: palate.Service,
        clock: Callable[[], float],
        agrees: dict[palate.Purpose, bool],
    ) -> None:
        self._kind, self._value = TAKES[scenario]
        self._heard: list[palate.Message] = []
        preset = {"films": "movies"}.get(scenario, scenario)
        self.device = palate.open(
            folder,
            app=f"sandbox {scenario}",
            key=palate.new_key(),
            preset=preset,
            service=service,
            zone="UTC",
            clock=clock,
        )
        self.device.consent.grant("store", version=TEXT)
        for purpose, agreed in agrees.items():
            if agreed:
                self.device.consent.grant(purpose, version=TEXT)
        self.messenger = self.device.messenger({CHANNEL: self._heard.extend})
        if agrees["messaging"]:
            self.messenger.allow(CHANNEL, version=TEXT)
        self.arm = self.device.arm(TEST)

    def close(self) -> None:
        """Close the device."""
        self.device.close()

    def brought(self, items: Sequence[str]) -> None:
        """Tell the device what its person had before, as an import of their history does."""
        now = self.device.store.clock()
        had = [palate.Event(self._kind, item, now, self._value, "offline", f"{HISTORY}{item}") for item in items]
        self.device.store.add_history(had, "before")

    def lists(self, n: int) -> list[palate.Recommendation]:
        """What Palate recommends now."""
        return self.device.recommend(n)

    def saw(self, shown: Sequence[palate.Recommendation], taken: Sequence[str]) -> None:
        """Tell the device what was seen of its list, and what was taken of that."""
        self.device.feedback(shown, {item: self._take(item) for item in taken})
        if shown and not taken:
            self.device.track(SKIP, shown[0].item)

    def browsed(self, shown: Sequence[str], taken: Sequence[str]) -> None:
        """Tell the device what was seen of a list that isn't its own, and what was taken of that."""
        seen = [palate.Event("impression", item, props={"position": place}) for place, item in enumerate(shown)]
        did = [self._take(item) for item in taken] or [palate.Event(SKIP, shown[0])]
        self.device.track_many([*seen, *did])

    def rated(self, item: str, verdict: int) -> None:
        """Tell the device a verdict from 1 to 5."""
        self.device.track("rate", item, value=float(verdict))

    def offered(self, campaign: bytes | None) -> list[palate.Message]:
        """The messages that reach this person now: of a campaign, if one is offered, and of those that waited."""
        self._heard.clear()
        if campaign is not None:
            self.messenger.offer(campaign)
        self.messenger.deliver_waiting()
        return list(self._heard)

    def answer(self, plan: bytes, model: bytes) -> bytes:
        """A contribution's bytes, or the constant refusal."""
        return self.device.contribute(plan, model)

    def _take(self, item: str) -> palate.Event:
        return palate.Event(self._kind, item, value=self._value)
