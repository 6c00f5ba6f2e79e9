"""PalateStrategy: Flower carries the messages of a run, the coordinator decides everything else.

    configure_train   open_attempt   -> the signed plan and the model, one bytes record each, to every node
    aggregate_train   close_attempt  <- one contribution a node; errors, strangers and second answers are dropped

The loop is our own: it goes on where the ledger says the run stopped, and it ends when the coordinator says so,
which looks at released values only.

    strategy = PalateStrategy(coordinator, on_release=print)
    strategy.start(grid)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from palate_common.errors import InputError
from palate_common.secagg.directory import Directory
from palate_server.flower.exchanges import RECORD, roll_call, run_masked
from palate_server.rounds.coordinator import Coordinator, Release

logger = logging.getLogger(__name__)


class PalateStrategy(Strategy):
    """A run's rounds over a Flower grid.

    Args:
        coordinator: the server's side of the run: charges, checks, adds noise, seals.
        on_release: called with each release, after it is sealed.
        directory: the devices' identities, for a run with masks.
        invite: the node of each device that the next attempt asks, and whom it waits for; everybody online when left
            out.

    Raises:
        InputError: a directory without masks, masks without one, or another directory than the run's.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        *,
        on_release: Callable[[Release], None] | None = None,
        directory: Directory | None = None,
        invite: Callable[[Grid], Mapping[int, int]] | None = None,
    ) -> None:
        cohort = coordinator.terms.cohort
        if (cohort is not None and cohort.masks) != (directory is not None):
            raise InputError("`directory` must be given for a run with masks, and only then")
        if cohort is not None and directory is not None and directory.hash != cohort.directory:
            raise InputError("`directory` must be the one that the run was started with, got another")
        self.coordinator = coordinator
        self.on_release = on_release
        self.directory = directory
        self._invite = invite
        self._nodes: Mapping[int, int] = {}
        self._asked: frozenset[int] = frozenset()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Charge the next attempt, and put its signed plan into one message a node.

        Args:
            server_round: number of the attempt in this process; the round itself is the coordinator's.
            arrays: not used: the model travels as the bytes that the plan's hash names.
            config: not used: the plan is the only instruction a device takes.
            grid: whose nodes are asked.

        Raises:
            BudgetError: the budget doesn't allow another attempt.
            LockedError: this process no longer owns the run.
            InputError: there is no node to ask; nothing is charged.
        """
        nodes = list(grid.get_node_ids() if self._invite is None else self._invite(grid).values())
        if not nodes:
            raise InputError("`grid` must have at least one node online, got none: nothing is charged")
        self._asked = frozenset(nodes)
        record = ConfigRecord({"plan": self.coordinator.open_attempt(), "model": self.coordinator.model.data})
        # One shared record: a grid that sends bytes then hashes it once, and one in this process copies it.
        content = RecordDict({RECORD: record})
        ttl, group = float(self.coordinator.terms.plan_seconds), str(server_round)
        return [Message(content, node, MessageType.TRAIN, ttl=ttl, group_id=group) for node in nodes]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Close the open attempt with one answer a node.

        Returns:
            No arrays, because the coordinator holds the model, and the counts of who took part.

        Raises:
            IntegrityError: too few contributions; nothing is released and the attempt stays charged.
        """
        return None, self._told(self.coordinator.close_attempt(answers(replies, self._asked)))

    def _masked(self, grid: Grid, directory: Directory, patience: float) -> MetricRecord:
        """One attempt under masks: some more exchanges in the place of one."""
        ttl = float(self.coordinator.terms.plan_seconds)
        if self._invite is not None:
            self._nodes = self._invite(grid)
        elif not self._nodes:
            self._nodes = roll_call(grid, ttl=ttl, timeout=patience)
        return self._told(run_masked(self.coordinator, directory, grid, nodes=self._nodes, ttl=ttl, timeout=patience))

    def _told(self, release: Release) -> MetricRecord:
        """Pass a sealed release on; the counts of who took part."""
        if self.on_release is not None:
            self.on_release(release)
        return MetricRecord(asdict(release.participation))

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Nothing: a number measured on devices would need a charge of its own."""
        return ()

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nothing was asked."""
        return None

    def summary(self) -> None:
        """Log what the run promises and where it stands."""
        terms = self.coordinator.terms
        logger.info(
            "run %s: %s, dp %s, epsilon %s at delta %g (unit user, zero-out), round %d of %d",
            terms.run, terms.algorithm, terms.dp, terms.epsilon, terms.delta,
            self.coordinator.round, self.coordinator.rounds,
        )  # fmt: skip

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord | None = None,
        num_rounds: int | None = None,
        timeout: float | None = None,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run every round that is left, or the next `num_rounds` of them.

        Args:
            grid: who carries the messages.
            initial_arrays: must be left out: the coordinator holds the model.
            num_rounds: stop after this many releases; None leaves it to the coordinator.
            timeout: seconds to wait for an attempt's answers; as long as its plan is valid when left out.
            train_config: must be left out: the plan is the only instruction.
            evaluate_config: must be left out, and
            evaluate_fn: too: `on_release` sees each model.

        Returns:
            The model's arrays, and who took part, by number of the attempt from 1.

        Raises:
            InputError: an argument that must be left out was given, or no node is online.
            BudgetError: the budget doesn't allow the next attempt.
            IntegrityError: too few contributions. Paying for another attempt is a person's decision: start again.
            LockedError: this process no longer owns the run.
        """
        for name, value in (
            ("initial_arrays", initial_arrays),
            ("train_config", train_config),
            ("evaluate_config", evaluate_config),
            ("evaluate_fn", evaluate_fn),
        ):
            if value is not None:
                raise InputError(f"`{name}` must be left out: the signed plan and the coordinator take its place")
        self.summary()
        result = Result()
        patience = float(self.coordinator.terms.plan_seconds) if timeout is None else timeout
        attempt, counts = 0, None
        while not self.coordinator.finished and attempt != num_rounds:
            attempt += 1
            if self.directory is not None:
                counts = self._masked(grid, self.directory, patience)
            else:
                messages = self.configure_train(attempt, result.arrays, ConfigRecord(), grid)
                replies = grid.send_and_receive(messages, timeout=patience)
                _, counts = self.aggregate_train(attempt, replies)
            if counts is not None:
                result.train_metrics_clientapp[attempt] = counts
        result.arrays = ArrayRecord({name: Array(value) for name, value in self.coordinator.model.state.items()})
        return result


def answers(replies: Iterable[Message], asked: frozenset[int]) -> Mapping[int, bytes]:
    """Each node's first answer, by node id; what isn't the bytes it should be becomes bytes that fail every check."""
    found: dict[int, bytes] = {}
    for reply in replies:
        node = reply.metadata.src_node_id
        if reply.has_error() or node not in asked or node in found:
            continue
        record = reply.content.get(RECORD)
        value = record.get("contribution") if isinstance(record, ConfigRecord) else None
        found[node] = value if isinstance(value, bytes) else b""
    return found
