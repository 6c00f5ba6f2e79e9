"""Doors: whatever reads bytes that somebody else has made, and what can be sent to it.

A door says whether it has taken what it was given. What it refuses it refuses by an error of Palate's, or, where a bad
message costs only its sender, by leaving it out.
"""

from __future__ import annotations

import random
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from plans import open_as_device

import palate
from mechanism.secagg.cohort import MaskedCohort
from palate_client.rounds.contribution import Contributor
from palate_common.algorithms import PublicFacts, make_algorithm
from palate_common.campaign import Campaign, open_campaign, sign_campaign
from palate_common.enrolment import Enrolled, Invitation, make_request, new_token, read_request
from palate_common.interactions import Interactions
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.compact import expand
from palate_common.models.item_table import ItemTable
from palate_common.models.manifest import MANIFEST_TAG, read_manifest
from palate_common.models.model import GlobalModel, ModelHeader
from palate_common.rounds.exchange import (
    HEADERS,
    PATH,
    Availability,
    ExchangeRequest,
    MessageKind,
    ServerMessage,
    common_version,
)
from palate_core.accounting import mu_of
from palate_core.device.floors import Floors
from palate_core.errors import PalateError
from palate_core.log.canonical import canonical_json, digest
from palate_core.log.consistency import Shown
from palate_core.log.merkle import Checkpoint
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_core.masks.messages import BOX_BYTES, HEADER, SIGNATURE, Step
from palate_core.plan import MAX_USERS, read_plan
from palate_server.ledger.extract import verify_extract
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.aggregation import aggregate
from palate_server.rounds.run import open_run
from palate_server.rounds.terms import RunTerms
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

MOST = 2**26
"""Bytes of the largest model that the devices here take."""
ITEMS = tuple(f"item-{row}" for row in range(12))
Frame = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Door:
    """One reader.

    Attributes:
        side: whose.
        name: what it reads.
        read: reads a message, and says whether it was taken.
        frames: how what is sent is wrapped, so that it comes further in.
    """

    side: str
    name: str
    read: Callable[[bytes], object]
    frames: Sequence[Frame] = field(default=(bytes,), repr=False)

    def takes(self, message: bytes) -> bool:
        """Whether it takes a message; anything but a refusal goes through."""
        try:
            return bool(self.read(message))
        except PalateError:
            return False


def kinds(size: int) -> Mapping[str, Callable[[], bytes]]:
    """What is sent, of so many bytes, made when it is needed."""
    noise = random.Random(5).randbytes(2**16)  # noqa: S311 - garbage, no secret

    def of(piece: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
        room = size - len(before) - len(after)
        return before + (piece * (room // len(piece) + 1))[:room] + after

    return {
        "zeros": lambda: bytes(size),
        "small members": lambda: of(b'{"a":{}},', b'{"a":[', b"1]}"),
        "deep nesting": lambda: of(b"["),
        "one string": lambda: of(b"x", b'"', b'"'),
        "one string, one character of four bytes": lambda: of(b"x", '"\U0001f600'.encode(), b'"'),
        "digits": lambda: of(b"1"),
        "line feeds": lambda: of(b"\n"),
        "fields": lambda: of(b"\x08\x01"),
        "empty messages": lambda: of(b"\x0a\x00"),
        "noise": lambda: of(noise),
    }


@contextmanager
def doors() -> Iterator[list[Door]]:
    """All of them, over one small world."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="palate-")))
        key = SigningKey.generate()
        made = [*_answers(stack, home, key), *_masked(), *_identities(), *_models(key), *_messages(key)]
        made += [_extract(key), _campaign(key), _imports(stack, home)]
        yield made


def _after(valid: bytes) -> Frame:
    """A whole message, and more."""
    return lambda more: valid + more


def _pieces(valid: bytes) -> Frame:
    """A whole message, and more of the boxes or signatures at its end, none of them cut off."""
    return lambda more: valid + more[: len(more) // (BOX_BYTES * SIGNATURE) * BOX_BYTES * SIGNATURE]


def _counted(width: int, order: Any, most: int) -> tuple[Frame, Frame]:
    """A header that is all of it, behind its length; and one that is as long as may be, with the rest behind it."""
    return (
        lambda more: len(more).to_bytes(width, order) + more,
        lambda more: most.to_bytes(width, order) + more,
    )


def _answers(stack: ExitStack, home: Path, key: SigningKey) -> Iterator[Door]:
    """Answers to plans that ask for no masks, and the plans."""
    histories = Interactions.from_pairs([0, 0, 1], [1, 2, 1], n_users=2, n_items=len(ITEMS))
    for dp in ("central", "local", "distributed"):
        folder = home / dp
        folder.mkdir()
        mu = mu_of(epsilon=2.0, delta=1e-6 - 2.0**-30)
        terms = RunTerms(
            population="readers", run="run-1", algorithm="popularity", settings={}, delta=1e-6, epsilon=2.0, dp=dp,
            facts=PublicFacts(n_users=2, n_items=len(ITEMS), mu=mu, local=dp == "local"), per_node=MAX_USERS,
            catalogue=ItemCatalogue(ITEMS).hash, noise="seeded", grid=2**14,
            cohort={"n_max": 2, "n_min": 2, "c_max": 1, "masks": False} if dp == "distributed" else None,
        )  # fmt: skip
        coordinator = stack.enter_context(open_run(terms, folder, ledger=folder / "ledger.db", key=key))
        plan = coordinator.open_attempt()
        floors = Floors(allow_central=True, allow_seeded=True, allow_unmasked=True).for_few()
        devices = stack.enter_context(SimulatedLedger(":memory:", durable=False))
        node = Contributor(histories, range(2), devices, key.public, floors, pinned=None)
        answer = node.contribute(plan, coordinator.model.data)
        asked = read_plan(plan).plan

        def taken(message: bytes, asked: Any = asked) -> bool:
            return bool(aggregate({1: message}, asked).participation.users)

        yield Door("server", f"answer, {dp}", taken, (bytes, _after(answer), *_counted(4, "big", 2**12)))
    opened = partial(open_as_device, public_key=key.public)
    yield Door("device", "plan", opened, (bytes, _after(plan)))


def _masked() -> Iterator[Door]:
    """Both ends of each step of a masked attempt, among all and on a ring."""
    for ring in (False, True):
        world = MaskedCohort(6, n_min=5, n_max=251 if ring else None, size=7)
        server = world.begin()
        while not server.finished:
            step, who = server.step, min(server.asked)
            request = server.request(who)
            answers = {i: world.devices[i].answer(step, server.request(i)) for i in sorted(server.asked)}
            if ring == (step is Step.COMMIT):
                name = f"masked, {step.name.lower()}"
                frames = (bytes, _pieces(answers[who]), _after(answers[who][:HEADER]))
                yield Door("server", name, _receiver(world, step, who), frames)
                frames = (bytes, _pieces(request), _after(request[:HEADER]))
                yield Door("device", name, _asked(world, step, who), frames)
            for i, answer in answers.items():
                server.receive(i, answer)
            server.close()


def _until(world: MaskedCohort, step: Step) -> Any:
    """The server of an attempt that has come to a step."""
    server = world.begin()
    while server.step is not step:
        world.exchange(server, {})
    return server


def _receiver(world: MaskedCohort, step: Step, who: int) -> Callable[[bytes], object]:
    server = None

    def receive(message: bytes) -> object:
        nonlocal server
        server = server or _until(world, step)
        return server.receive(who, message)

    return receive


def _asked(world: MaskedCohort, step: Step, who: int) -> Callable[[bytes], object]:
    began = False

    def answer(message: bytes) -> object:
        nonlocal began
        if not began:
            _until(world, step)
            began = True
        return world.devices[who].answer(step, message)

    return answer


def _identities() -> Iterator[Door]:
    """Enrolment, invitation, keys, directory."""
    identity, token = SigningKey.generate(), new_token()
    request = make_request(token, identity).to_bytes()
    yield Door("server", "enrolment", read_request, (bytes, _after(request)))
    yield Door("device", "enrolment's answer", Enrolled.from_bytes, (bytes,))
    yield Door("device", "invitation", Invitation.from_json, (bytes, lambda more: b'{"ca":' + more + b"}"))
    yield Door("device", "key of an identity", SigningKey.from_pem, (bytes, _after(identity.to_pem())))
    directory = Directory({0: identity.public}).to_bytes()
    yield Door("device", "directory", Directory.from_bytes, (bytes, _after(directory), lambda more: bytes(32) + more))


def _models(key: SigningKey) -> Iterator[Door]:
    """A model in its three forms, its manifest, and the files beside it, signed as a hostile operator would."""
    facts = PublicFacts(n_users=9, n_items=len(ITEMS), mu=None)
    header = {"algorithm": "popularity", "settings": {}, "facts": facts, "releases": 0}
    start = make_algorithm("popularity", {}, facts).start()
    model = GlobalModel(ModelHeader.model_validate({**header, "catalogue": ItemCatalogue(ITEMS).hash}), start)
    files = published.pack(
        model,
        ItemCatalogue(ITEMS),
        {},
        key,
        population="readers",
        shown=Shown(checkpoint=Checkpoint(size=3, root="ab" * 32)),
    )
    headers = (bytes, *_counted(8, "little", 2**21))
    yield Door("device", "model", GlobalModel.from_bytes, (*headers, _after(model.data)))
    packed = [lambda more, frame=frame: zlib.compress(frame(more), 1) for frame in headers]
    yield Door("device", "compact model", partial(expand, most=MOST), (bytes, *packed))

    def manifest(message: bytes) -> object:
        signature = key.sign(MANIFEST_TAG, message).encode()
        return read_manifest({published.MANIFEST: message, published.SIGNATURE: signature}, key.public)

    yield Door("device", "manifest", manifest, (bytes, _after(files[published.MANIFEST])))
    named = read_manifest(files, key.public).model_dump(mode="json")
    for name in (published.ITEMS, published.DOMAINS, published.COMPACT):

        def collected(message: bytes, name: str = name) -> object:
            facts = named["files"] | {name: {"sha256": digest(message), "bytes": len(message)}}
            payload = canonical_json({**named, "files": facts})
            signed = {published.MANIFEST: payload, published.SIGNATURE: key.sign(MANIFEST_TAG, payload).encode()}
            own = {each: files[each] for each in (published.ITEMS, published.COMPACT)}
            return published.unpack(own | {name: message} | signed, public_key=key.public, most=MOST)

        yield Door("device", f"published {name}", collected, (bytes,))
    plain_table = b'{"columns":{"title":[%s]},"format":1,"ids":{},"items":' + str(len(ITEMS)).encode() + b"}"
    tables = (bytes, lambda more: zlib.compress(more, 1), lambda more: zlib.compress(plain_table % more, 1))
    yield Door("device", "item table", partial(ItemTable.from_bytes, items=ITEMS), tables)


def _messages(key: SigningKey) -> Iterator[Door]:
    """A device's requests, and what they are replied with."""
    asked = ExchangeRequest(7, "", 1.0, Availability(9.0, 1), 1_790_000_000_000).signed("readers", PATH, key)
    for name in (*HEADERS, "content-length"):

        def header(message: bytes, name: str = name) -> object:
            return ExchangeRequest.read({**asked, name: message.decode("latin-1")})

        yield Door("server", f"header {name}", header)
    said = ServerMessage(MessageKind.MASKED, "a" * 32, 1.0).headers()
    yield Door(
        "device",
        "first message",
        lambda message: ServerMessage.read(said, message).parts,
        (bytes, _counted(4, "big", 0)[0]),
    )
    for name in said:

        def reply(message: bytes, name: str = name) -> object:
            return ServerMessage.read({**said, name: message.decode("latin-1")}, b"")

        yield Door("device", f"header {name}", reply)
    yield Door("device", "versions", lambda message: common_version(message.decode("latin-1")))


def _extract(key: SigningKey) -> Door:
    """A ledger's extract, for whoever audits it."""
    with Ledger(":memory:", population="readers") as ledger:
        ledger.open_run("run-1", {})
        extract = ledger.extract("run-1", key)
    verified = partial(verify_extract, public_key=key.public)
    return Door("auditor", "extract of a ledger", verified, (bytes, _after(extract)))


def _campaign(key: SigningKey) -> Door:
    """A campaign."""
    campaign = Campaign(id="spring", population="readers", title="Spring", item="book-7", expires=2e9)
    opened = partial(open_campaign, public_key=key.public, now=1.9e9)
    return Door("device", "campaign", opened, (bytes, _after(sign_campaign(campaign, key))))


def _imports(stack: ExitStack, home: Path) -> Door:
    """A file that a user imports."""
    device = stack.enter_context(palate.open(home / "store", app="doors", key=bytes(range(32))))
    device.consent.grant("store")
    file = home / "events.jsonl"

    def imported(message: bytes) -> bool:
        file.write_bytes(message)
        return bool(device.import_jsonl(file).stored)

    return Door("device", "import of events", imported, (bytes, lambda more: more.replace(b",", b"\n")))
