"""The path, from plan to model, in one function: what every engine does, with nothing between the parties but bytes.

    server: charge -> sign plan          Coordinator.open_attempt
    device: verify -> charge -> train -> clip -> encode     Contributor.answer
    server: check -> sum -> noise -> persist -> seal -> next model     Coordinator.close_attempt

Flower's engines run the same two server calls with a Grid in the place of the loop over nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from palate_client.rounds.contribution import Contributor
from palate_server.rounds.coordinator import Coordinator, Release


def run_round(coordinator: Coordinator, nodes: Sequence[Contributor]) -> Release:
    """One attempt at the coordinator's next round.

    Args:
        coordinator: the server's side.
        nodes: the devices; a node hosts one installation, or many simulated ones.

    Returns:
        What the attempt made public.
    """
    plan = coordinator.open_attempt()
    model = coordinator.model.data
    replies = {number: node.answer(plan, model) for number, node in enumerate(nodes)}
    return coordinator.close_attempt(replies)


def run_rounds(
    coordinator: Coordinator, nodes: Sequence[Contributor], on_release: Callable[[Release], None] | None = None
) -> None:
    """Every round that is left of a run."""
    while not coordinator.finished:
        release = run_round(coordinator, nodes)
        if on_release is not None:
            on_release(release)
