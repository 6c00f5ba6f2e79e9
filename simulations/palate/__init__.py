"""Palate: a federated recommender whose privacy can be checked.

In an app, on a device:

    import palate

    with palate.open("data/palate", app="bookshop", key=key) as device:
        device.consent.grant("store")
        device.track("view", "book-7")

In a notebook, on a log:

    result = palate.simulate("my.csv", epsilon=5)
    result.metrics["recall_capped@20"], result.card["epsilon"]

    recommender = palate.Recommender(epsilon=5).fit("my.csv")
    recommender.recommend(["book-7", "book-15"])

To audit the privacy claim of any mechanism:

    palate.audit(mechanism, epsilon=3, delta=1e-6).verdict

What `simulate` and `audit` need, and the types that a device returns, are imported on first use: `import palate` itself
loads the device core only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from palate.auditing import audit
from palate.estimator import RecommenderEstimator as Recommender
from palate.estimator import ScoredItem, ScoredItems
from palate.simulation import simulate
from palate.starter import sample, starter
from palate_client.consent import Consent, Decision, Purpose
from palate_client.delivery.apprise import apprise_sender
from palate_client.delivery.channel import Channel, Quiet
from palate_client.delivery.message import Message
from palate_client.delivery.messenger import Messenger
from palate_client.delivery.record import Delivery
from palate_client.delivery.rules import Reason
from palate_client.device import Device
from palate_client.device import open_device as open
from palate_client.events import Event, Tracked
from palate_client.online.policy import Policy
from palate_client.portability import ImportReport, Problem
from palate_client.recommend.interests import Interests
from palate_client.service import Service
from palate_client.starter import Starter
from palate_client.store.erasing import erase
from palate_client.store.retention import Limits
from palate_client.store.vault import new_key
from palate_common.interactions import Interactions
from palate_common.kinds import Kind, OwnKind
from palate_common.weighting import Weighting
from palate_core.device.floors import Floors
from palate_core.errors import (
    ClosedError,
    ErasedError,
    InputError,
    IntegrityError,
    LockedError,
    PalateError,
    RefusedError,
    UnreachableError,
    WrongKeyError,
)

if TYPE_CHECKING:
    from palate import testing as testing
    from palate_client.history.preview import HistoryPreview, HistoryReport, Import, Suggestion
    from palate_client.leaving.statement import Statement
    from palate_client.loyalty import Loyalty
    from palate_client.online.enrolment import Enrolment
    from palate_client.online.online import Syncing
    from palate_client.online.sync import SyncResult
    from palate_client.panel import OpenLog
    from palate_client.recommend.adaptation.tuning import Tuning
    from palate_client.recommend.explanation import Contribution, Explanation
    from palate_client.recommend.recommender import Recommendation, Similar
    from palate_client.rounds.participation import Masked
    from palate_client.rounds.report import PrivacyReport, Spending
    from palate_client.store.journal import Contact, Edition, Opened, Refusal, Sent
    from palate_common.enrolment import Invitation
    from palate_common.models.item_table import ItemFacts, ItemTable
    from palate_common.models.model import GlobalModel
    from palate_common.models.published import Published
    from palate_core.device.ledger import Receipt
    from palate_core.log.merkle import Checkpoint

_LATER = {
    "Checkpoint": "palate_core.log.merkle",
    "Contact": "palate_client.store.journal",
    "Contribution": "palate_client.recommend.explanation",
    "Edition": "palate_client.store.journal",
    "Enrolment": "palate_client.online.enrolment",
    "Explanation": "palate_client.recommend.explanation",
    "GlobalModel": "palate_common.models.model",
    "HistoryPreview": "palate_client.history.preview",
    "HistoryReport": "palate_client.history.preview",
    "Import": "palate_client.history.preview",
    "Invitation": "palate_common.enrolment",
    "ItemFacts": "palate_common.models.item_table",
    "ItemTable": "palate_common.models.item_table",
    "Loyalty": "palate_client.loyalty",
    "Masked": "palate_client.rounds.participation",
    "OpenLog": "palate_client.panel",
    "Opened": "palate_client.store.journal",
    "PrivacyReport": "palate_client.rounds.report",
    "Published": "palate_common.models.published",
    "Receipt": "palate_core.device.ledger",
    "Recommendation": "palate_client.recommend.recommender",
    "Refusal": "palate_client.store.journal",
    "Sent": "palate_client.store.journal",
    "Similar": "palate_client.recommend.recommender",
    "Spending": "palate_client.rounds.report",
    "Statement": "palate_client.leaving.statement",
    "Suggestion": "palate_client.history.preview",
    "SyncResult": "palate_client.online.sync",
    "Syncing": "palate_client.online.online",
    "Tuning": "palate_client.recommend.adaptation.tuning",
}
"""Type -> its module, which is imported on first use."""
_MODULES = ("testing",)
"""Modules of this package that are imported on first use."""

__all__ = [  # noqa: RUF022 # in groups, which docs/public.py takes over
    # on a log
    "Recommender",
    "ScoredItem",
    "ScoredItems",
    "audit",
    "simulate",
    # on a device
    "Consent",
    "Device",
    "Interests",
    "Limits",
    "Policy",
    "Service",
    "Starter",
    "Weighting",
    "erase",
    "new_key",
    "open",
    "sample",
    "starter",
    # what a device stores and takes in
    "Event",
    "HistoryPreview",
    "HistoryReport",
    "Import",
    "ImportReport",
    "Kind",
    "OwnKind",
    "Problem",
    "Suggestion",
    "Tracked",
    # what a device recommends and shows
    "Contribution",
    "Explanation",
    "Interactions",
    "ItemFacts",
    "ItemTable",
    "Loyalty",
    "Recommendation",
    "Similar",
    "Tuning",
    # messages to its user
    "Channel",
    "Delivery",
    "Message",
    "Messenger",
    "Quiet",
    "Reason",
    "apprise_sender",
    # at a server
    "Checkpoint",
    "Contact",
    "Edition",
    "Enrolment",
    "Floors",
    "GlobalModel",
    "Invitation",
    "Masked",
    "OpenLog",
    "Opened",
    "Published",
    "Receipt",
    "Refusal",
    "Sent",
    "SyncResult",
    "Syncing",
    # what it cost, and leaving
    "Decision",
    "PrivacyReport",
    "Purpose",
    "Spending",
    "Statement",
    # errors
    "ClosedError",
    "ErasedError",
    "InputError",
    "IntegrityError",
    "LockedError",
    "PalateError",
    "RefusedError",
    "UnreachableError",
    "WrongKeyError",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a type of `_LATER`, or a module of `_MODULES`."""
        if name in _MODULES:
            return import_module(f"palate.{name}")
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_LATER[name]), name)
        return found

    def __dir__() -> list[str]:
        """What is public, for editors."""
        return sorted({*__all__, *_MODULES})
