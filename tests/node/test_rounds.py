"""People of a node take part in rounds if they agree: each as a device of their own, and nothing of the node leaves."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from households import Household, listen, model_of
from stand_in_server import Heard, StandIn, plan_message, serving

import palate
from palate_client.online import retry
from palate_client.starter import Starter
from palate_core.errors import InputError
from palate_core.plan import Noise
from palate_node.people import HostedPeople, HostedPerson
from palate_node.work import take_part

NAMES = ("anna-marked-of-the-node", "ben-marked-of-the-node", "cleo-marked-of-the-node")
FLOORS = palate.Floors(allow_seeded=True, allow_central=True).for_few()


def everything(heard: Heard) -> tuple[bytes, ...]:
    """All bytes of a request, and what is inside compressed ones."""
    head = "\n".join((heard.line, *(f"{name}: {value}" for name, value in heard.headers.items()))).encode()
    return head, heard.body, *(inflated(heard.body[at:]) for at in range(len(heard.body)))


def inflated(data: bytes) -> bytes:
    with suppress(zlib.error):
        return zlib.decompressobj(-15 if data[:1] != b"x" else 15).decompress(data, 2**20)
    return b""


def forms(mark: str) -> Iterator[bytes]:
    """A mark as it may be written; how hard a device's own bytes are looked through says test_nothing_leaves.py."""
    plain = mark.encode()
    yield from (plain, plain.swapcase(), plain[::-1], plain.hex().encode(), quote(mark, safe="").encode())
    yield from (base64.b64encode(plain[at : at + len(plain[at:]) // 3 * 3]) for at in range(3))
    yield from (hashlib.sha256(plain).digest(), hashlib.sha256(plain).hexdigest().encode(), mark.encode("utf-16-le"))


class Commons:
    """Servers of one population, each with one device; what each hears is recorded."""

    def __init__(self, make_run: Callable[..., Any], stack: ExitStack) -> None:
        run = make_run(noise=Noise.SEEDED)
        coordinator = run.coordinator()
        self.run, folder, plan = run, run.publish(coordinator), coordinator.open_attempt()
        self.servers = [StandIn(public_key=run.key.public) for _ in NAMES]
        for server in self.servers:
            server.publish(folder)
            server.offer("round", coordinator.model.data)
            server.messages = [plan_message(plan)]
            stack.enter_context(serving(server))
        self.service = palate.Service(public_key=run.key.public, population="readers", epsilon=50.0, floors=FLOORS)

    def people(self, home: Path, starter: Starter) -> HostedPeople:
        """A node whose people accept a server for few."""
        made = HostedPeople(home, starter)
        for each in list(made):
            made._people[each.name] = HostedPerson(each.name, home, starter, self.service)
        return made


@pytest.fixture
def commons(make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Commons]:
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", (0.001, 0.01))
    with ExitStack() as stack:
        yield Commons(make_run, stack)


def test_who_agrees_takes_part_at_once_with_the_others_and_nothing_of_the_node_leaves(
    commons: Commons, tmp_path: Path
) -> None:
    home, starter = tmp_path / "node", model_of(tmp_path / "starter")
    with HostedPeople(home, starter) as people:
        tokens = {name: people.add(name) for name in NAMES}
        for name, server in zip(NAMES, commons.servers, strict=True):
            people.invite(name, server.invitation(), epsilon=50.0)
        for other, word in (({"population": "others"}, "population"), ({"public_key": "ab" * 32}, "public_key")):
            with pytest.raises(InputError, match=f"the invitation's {word} must be the service's"):
                people.invite(NAMES[0], commons.servers[0].invitation(**other))
        handed_over = {"public_key": "ab" * 32, "former_keys": [commons.service.public_key], "version": 2}
        people.invite(NAMES[2], commons.servers[2].invitation(**handed_over))
    node = Household(home, starter, commons.people(home, starter), tokens)
    for person in node.people:
        person.device.consent.grant("store")
        person.device.track_many([palate.Event("like", f"item-{row}") for row in (0, 2, 5)])
        node.ask(person.name, "/1/submit-listens", listen(3))
    assert node.ask(NAMES[0], "/list.json").json()[0]["title"], "before any round"
    assert take_part(node.people, seconds=60) == {}, "nobody has agreed"
    for name in NAMES[:2]:
        assert node.press(name, "grant", purpose="train").status_code == 303
    assert take_part(node.people, seconds=60) == dict.fromkeys(NAMES[:2], "come back")
    assert [len(each.answers) for each in commons.servers] == [1, 1, 0]
    assert commons.servers[2].heard == []
    marks = [*tokens.values(), *NAMES, "Maker 3", "Song 3", "item-", "listenbrainz"]
    said = b"".join(each for server in commons.servers for heard in server.heard for each in everything(heard))
    assert len(said) > 1000
    assert not [mark for mark in marks for form in forms(mark) if len(form) > 4 and form in said]
    page = node.ask(NAMES[0], "/", basic=True).text
    assert "rounds: 1 of readers" in page
    assert node.ask(NAMES[0], "/list.json").json()[0]["item"].startswith("item-"), "by the population's model now"
    node.close()
    again = Household(home, starter, commons.people(home, starter), tokens)
    assert again.ask(NAMES[0], "/list.json").json()[0]["item"].startswith("item-")
    again.close()


def test_the_page_says_what_all_people_have_spent_as_one(commons: Commons, tmp_path: Path) -> None:
    home, starter = tmp_path / "node", model_of(tmp_path / "starter")
    with HostedPeople(home, starter) as people:
        tokens = {name: people.add(name) for name in ("owner", *NAMES)}
        for name, server in zip(NAMES, commons.servers, strict=True):
            people.invite(name, server.invitation(), epsilon=50.0)
    node = Household(home, starter, commons.people(home, starter), tokens)
    for person in node.people:
        for purpose in ("store", "train"):
            person.device.consent.grant(purpose)  # type: ignore[arg-type]  # they are purposes
        person.device.track_many([palate.Event("like", f"item-{row}") for row in (0, 2, 5)])
    take_part(node.people, seconds=60)
    spent = [each.device.privacy_report().spending for each in node.people]
    alone = spent[0].mu2 if spent[0] is not None else 0.0
    assert alone > 0
    together = commons.service.epsilon_of(alone * 9)
    said = node.ask("owner", "/", basic=True).text
    assert f"The 3 who are on, as one: epsilon {together:.2f}" in said
    terms = "unit: 3 installations; adjacency: zero-out; accountant: palate closed form"
    assert terms in said
    assert terms.replace("3 installations", "this installation") in said
    assert "as one" not in node.ask(NAMES[0], "/", basic=True).text, "of two, each would know of the other"
    node.press("owner", "erase", name=NAMES[0], sure="yes")
    left = [each.line for each in commons.servers[0].heard]
    assert left[-1] == "POST /v1/enroll", "whoever is erased leaves the server first"
    node.close()
