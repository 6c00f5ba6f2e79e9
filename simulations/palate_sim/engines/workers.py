"""Workers: a `Transport` to nodes that several processes of this machine run.

    run_round --Request--> Workers --plan and model once a process, then node after node--> worker -> ClientApp
                                   <--------------- answers, as they come ---------------

Which process answers for a node changes nothing: a node's answer follows from the plan, the model, its histories and,
with seeded noise, its devices' numbers.

    with Workers(start, 2, descriptors=()) as workers:
        run_rounds(coordinator, workers)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType

from palate_client.rounds.contribution import show_nobody
from palate_common.records.closing import Closing
from palate_core import errors
from palate_core.errors import InputError, PalateError
from palate_server.rounds.run import Request
from palate_sim.engines.worker import Advanced, Answered, Asked, Failed, Lost, Start

PROGRAM = "from palate_sim.engines.worker import main; main()"
PATIENCE = 10.0
"""Seconds for a worker to end by itself."""
ONE_THREAD = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}


def unheard(words: str) -> None:
    """Tell nobody."""


class LostError(PalateError):
    """No worker is left of a cluster, or it failed: the attempt is void, and another one may succeed."""


class Workers(Closing):
    """Processes that answer for nodes 1 to `start.nodes`; they end with this object, or with this process.

    Args:
        start: the run.
        number: how many processes.
        descriptors: open files that they inherit.
        advance: called with numbers of users that are done.
        warn: called with what the user should read of workers that are gone where the others go on.
        program: what each process runs.
        ahead: nodes that a process is asked for at once.
        log: where their standard error goes; None: to this process's.
        lost: what to say of a process that ended too early.

    Raises:
        PalateError: a worker doesn't start, with its own error where it has one.
    """

    def __init__(
        self,
        start: Start,
        number: int,
        *,
        descriptors: Collection[int],
        advance: Callable[[int], None] = show_nobody,
        warn: Callable[[str], None] = unheard,
        program: str = PROGRAM,
        ahead: int = 1,
        log: Path | None = None,
        lost: str = "a worker process must live as long as the run, got one that ended",
    ) -> None:
        self._nodes, self._advance, self._warn = start.nodes, advance, warn
        self._program, self._ahead, self._log, self._mourned = program, ahead, log, lost
        self._exchange = 0
        self._seconds: dict[Connection, float] = {}
        self._processes: dict[Connection, tuple[subprocess.Popen[bytes], Connection]] = {}
        try:
            for _ in range(number):
                self._launch(start, descriptors)
            for answers in self._processes:
                self._receive(answers)
        except BaseException:
            self.end()
            raise

    @property
    def pids(self) -> list[int]:
        """The numbers of the processes."""
        return [process.pid for process, _ in self._processes.values()]

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all workers, up to the latest answer of each."""
        return sum(self._seconds.values())

    def invite(self, *, masked: bool) -> Collection[int]:
        """Invite all nodes.

        Raises:
            InputError: a run with masks, whose devices keep secrets from message to message.
        """
        if masked:
            raise InputError("a run with masks must be in one process, got workers")
        return range(1, self._nodes + 1)

    def exchange(self, request: Request) -> Iterator[tuple[int, bytes]]:
        """Send plan and model to each worker, let each answer for one node after the other, and yield the answers."""
        self._exchange += 1
        nodes, open_nodes = iter(request.to), len(request.to)
        for answers in self._processes:
            self._send(answers, dict(request.shared))
            for _ in range(self._ahead):
                self._ask(answers, nodes)
        while open_nodes:
            ready = set(wait(list(self._processes)))
            for answers in [each for each in self._processes if each in ready]:
                found = self._receive(answers)
                if found is not None and found.exchange == self._exchange:
                    self._ask(answers, nodes)
                    open_nodes -= 1
                    if found.answer is not None:
                        yield found.node, found.answer

    def close(self) -> None:
        """Let the workers close their files and end; closing twice is fine."""
        for _, commands in self._processes.values():
            with suppress(OSError):
                commands.send(None)
        for process, _ in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
        self.end()

    def end(self) -> None:
        """End the workers at once, whatever they do."""
        for answers, (process, commands) in self._processes.items():
            process.kill()
            process.wait()
            answers.close()
            commands.close()
        self._processes.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; after an exception nobody waits for what the workers still compute."""
        if kind is None:
            self.close()
        else:
            self.end()

    def _launch(self, start: Start, descriptors: Collection[int]) -> None:
        """Start a process. It has a session of its own, so that Ctrl-C in a terminal reaches this process alone."""
        with ExitStack() as stack:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-c", self._program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if self._log is None else stack.enter_context(self._log.open("ab")),
                pass_fds=tuple(descriptors),
                env=os.environ | ONE_THREAD,
                start_new_session=True,
            )
        with process.stdin as stdin, process.stdout as stdout:  # type: ignore[union-attr] # both are pipes
            answers = Connection(os.dup(stdout.fileno()), writable=False)
            self._processes[answers] = process, Connection(os.dup(stdin.fileno()), readable=False)
        self._send(answers, start)

    def _ask(self, answers: Connection, nodes: Iterator[int]) -> None:
        """Give a worker its next node, if one is left."""
        node = next(nodes, None)
        if node is not None:
            self._send(answers, Asked(self._exchange, node))

    def _send(self, answers: Connection, task: object) -> None:
        try:
            self._processes[answers][1].send(task)
        except OSError:
            raise self._lost(answers) from None

    def _receive(self, answers: Connection) -> Answered | None:
        """Take what a worker says; return an answer."""
        try:
            said: Answered | Advanced | Lost | Failed = answers.recv()
        except (EOFError, OSError):
            raise self._lost(answers) from None
        if isinstance(said, Failed):
            raise {**vars(errors), "LostError": LostError}.get(said.kind, PalateError)(said.error)
        if isinstance(said, Lost):
            self._warn(said.words)
            return None
        self._seconds[answers] = said.seconds
        self._advance(said.users)
        return said if isinstance(said, Answered) else None

    def _lost(self, answers: Connection) -> PalateError:
        """What to say of a worker that has ended."""
        process, _ = self._processes[answers]
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            code = 1
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        memory = ", as the system does where memory is short" if how == "SIGKILL" else ""
        return PalateError(
            f"{self._mourned} by {how}{memory}: an open attempt is void and stays charged; go on with `--resume`"
        )
