"""The ClientApp: what a node of a simulation runs when it gets a signed plan.

    message "train"         plan, model            -> contribution
            "train"         the same, and
                            directory, request     -> answer       the first message of a masked attempt
            "train.masked"  request                -> answer       its later messages
            "query"         anything               -> device       the number of the node's first installation

A message and its answer each have one record of named values. The model comes with the plan, in memory; an app's device
fetches it by its hash (`palate_client.online.hosting`). A node hosts one installation or many
(`palate_sim.engines.node`).

    >>> from palate_common.interactions import Interactions, map_interactions
    >>> histories = Interactions.from_pairs([0, 1, 2], [4, 4, 1], n_users=3, n_items=5)
    >>> batch, devices = Shards(histories, users_per_node=2).shard(1)
    >>> batch.n_users, list(devices)
    (1, [2])
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from palate_client.rounds.contribution import Contributor, Identity, ModelReader, Participations, show_nobody
from palate_common.interactions import Interactions
from palate_common.rounds.wire import REFUSED
from palate_core.device.attempt import MaskedDevice
from palate_core.device.floors import Floors
from palate_core.errors import InputError, RefusedError
from palate_core.log.pinned import Pinned
from palate_core.log.signing import SigningKey
from palate_core.masks.messages import step_of
from palate_core.plan import read_plan

logger = logging.getLogger(__name__)

RECORD: Final = "palate"
"""Name of the one record of a message."""


class HistorySource(Protocol):
    """Gives a node the private histories that it hosts."""

    def shard(self, node: int) -> tuple[Interactions, Sequence[int]]:
        """The histories of node `node`, one row per installation, and the numbers of the installations."""


@dataclass(frozen=True)
class Shards:
    """A simulated population, cut into nodes of `users_per_node` consecutive users."""

    histories: Interactions
    users_per_node: int

    def shard(self, node: int) -> tuple[Interactions, Sequence[int]]:
        """Users `node * users_per_node` and following.

        Raises:
            InputError: there is no such node.
        """
        first = node * self.users_per_node
        if not 0 <= first < self.histories.n_users:
            raise InputError(f"`node` must lie in [0, {-(-self.histories.n_users // self.users_per_node)}), got {node}")
        devices = range(first, min(first + self.users_per_node, self.histories.n_users))
        return self.histories.users(slice(devices.start, devices.stop)), devices


@dataclass(frozen=True)
class Host:
    """What one process keeps open for all nodes that it runs.

    Attributes:
        source: gives the nodes' histories.
        ledger: the devices' own ledger, or that of simulated ones.
        public_key: the pinned release key.
        floors: the conditions of the devices on a plan.
        key_of: gives a device's signing key, for masked attempts.
        advance: called with a number of users whose updates are made, in the course of a node's answer.
        pinned: the release key with the witnesses that the devices' app pins; None: it pins none.
    """

    source: HistorySource
    ledger: Participations
    public_key: str
    floors: Floors = field(default_factory=Floors)
    key_of: Callable[[int], SigningKey] | None = None
    advance: Callable[[int], None] = show_nobody
    pinned: Pinned | None = None
    _reader: ModelReader = field(default_factory=ModelReader, init=False, repr=False)
    _masked: dict[int, tuple[bytes, MaskedDevice]] = field(default_factory=dict, init=False, repr=False)

    def answer(self, node: int, plan: bytes, model: bytes) -> bytes:
        """A contribution's bytes, or the constant refusal.

        **Guarantees:** whatever goes wrong the answer says nothing: it is one constant. An error's text may tell of
        behaviour, so it goes to the local log alone.
        """
        try:
            contributor = self._contributor(node)
            answer = contributor.answer(plan, model)
            if contributor.refusal:
                logger.info("node %d refuses: %s", node, contributor.refusal)
            return answer
        except Exception:
            logger.exception("node %d failed and refuses", node)
            return REFUSED

    def join(self, node: int, plan: bytes, model: bytes, directory: bytes, request: bytes) -> bytes:
        """Take part in a masked attempt, and answer its first request; the constant refusal if anything is wrong.

        The state machine stays in this process's memory until the next attempt, and nowhere else: a device that
        restarts has dropped out. For the same plan again the same state machine answers.
        """
        try:
            begun = self._masked.get(node)
            if begun is None or begun[0] != plan:
                if self.key_of is None:
                    raise RefusedError("this node has no identity among devices that mask for each other")
                contributor = self._contributor(node)
                key = self.key_of(int(contributor.devices[0]))
                identity = Identity.among(directory, read_plan(plan).plan, key)
                machine = contributor.join(plan, model, identity)
                self._masked[node] = (plan, machine)
        except Exception as error:
            logger.info("node %d refuses: %s", node, error)
            return REFUSED
        return self.go_on(node, request)

    def go_on(self, node: int, request: bytes) -> bytes:
        """Answer a later request of this node's masked attempt."""
        try:
            _, machine = self._masked[node]
            return machine.answer(step_of(request), request)
        except Exception as error:
            logger.info("node %d refuses: %s", node, error)
            return REFUSED

    def _contributor(self, node: int) -> Contributor:
        """The installations of a node, for one message."""
        histories, devices = self.source.shard(node)
        return Contributor(
            histories,
            devices,
            self.ledger,
            self.public_key,
            self.floors,
            reader=self._reader,
            advance=self.advance,
            pinned=self.pinned,
        )

    def device(self, node: int) -> int:
        """The number of the first installation that a node hosts."""
        _, devices = self.source.shard(node)
        return int(devices[0])


def node_app(host_of: Callable[[Context], Host]) -> ClientApp:
    """Make the ClientApp.

    Args:
        host_of: gives the host of a node; it is called for each message, and should open files only once.
    """
    client = ClientApp()

    def host_and_values(message: Message, context: Context) -> tuple[Host, int, list[bytes]]:
        """The host, the node's number, and plan, model, directory and request, each empty where there is none."""
        found = message.content.get(RECORD)
        names = "plan", "model", "directory", "request"
        values = [found.get(name) if isinstance(found, ConfigRecord) else None for name in names]
        given = [value if isinstance(value, bytes) else b"" for value in values]
        return host_of(context), int(context.node_config["partition-id"]), given

    @client.train()
    def train(message: Message, context: Context) -> Message:
        """Answer a signed plan."""
        host, node, (plan, model, directory, request) = host_and_values(message, context)
        if request:
            return _reply(message, "answer", host.join(node, plan, model, directory, request))
        return _reply(message, "contribution", host.answer(node, plan, model))

    @client.train("masked")
    def masked(message: Message, context: Context) -> Message:
        """Answer a later request of a masked attempt."""
        host, node, (*_, request) = host_and_values(message, context)
        return _reply(message, "answer", host.go_on(node, request))

    @client.query()
    def present(message: Message, context: Context) -> Message:
        """Say that this node is online and, if that is asked, the number of its first device."""
        host, node, _ = host_and_values(message, context)
        if not isinstance(message.content.get(RECORD), ConfigRecord):
            return Message(RecordDict(), reply_to=message)
        return _reply(message, "device", host.device(node))

    return client


def _reply(message: Message, name: str, value: bytes | int) -> Message:
    """The answer to a message: one record of one value."""
    return Message(RecordDict({RECORD: ConfigRecord({name: value})}), reply_to=message)
