"""Every outgoing byte of a device with marked events: no mark in it, in clear or in a form that can be decoded.

What leaves by design is numbers at the places of items. In `central` the server reads from them which items of its own
catalogue a user had, and the report says so; under masks it can't. An app's texts, ids and other items never leave.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import json
import lzma
import re
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import palate
from palate_client.rounds.contribution import Contributor, Identity
from palate_common.models.catalogue import ItemCatalogue
from palate_common.rounds.wire import REFUSED
from palate_core.cohort_terms import CohortTerms
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

MARKS = (b"MARKED-item-77-\xc3\xa9", b"MARKED-prop-78", b"MARKED-id-79-of-the-app")
DEVICES = 12
OWN = 5
"""The device under test among them."""
UNPACKERS: dict[bytes, Callable[[], Any]] = {
    b"\x78": zlib.decompressobj,
    b"\x1f\x8b": lambda: zlib.decompressobj(31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ": lzma.LZMADecompressor,
    b"": lambda: zlib.decompressobj(-15),
}


def unpacked(data: bytes) -> Iterator[bytes]:
    """What was compressed, anywhere in it."""
    for start, make in UNPACKERS.items():
        for at in (match.start() for match in re.finditer(b"(?=%s)" % re.escape(start), data, re.DOTALL)):
            try:
                yield make().decompress(data[at:])
            except (zlib.error, OSError, EOFError, lzma.LZMAError):
                continue


def decoded(data: bytes) -> Iterator[bytes]:
    """What was written as text, whole runs of it, at every alignment."""
    for run in re.findall(rb"[0-9a-fA-F]{16,}", data):
        for shift in (0, 1):
            yield bytes.fromhex(run[shift : shift + (len(run) - shift) // 2 * 2].decode())
    for run in re.findall(rb"[A-Za-z0-9+/_-]{12,}", data):
        for shift in range(4):
            yield base64.b64decode(_filled(run[shift:].translate(bytes.maketrans(b"-_", b"+/")), 4))
    for run in re.findall(rb"[A-Z2-7]{16,}", data):
        for shift in range(8):
            yield base64.b32decode(_filled(run[shift:], 8))
    for run in re.findall(rb"[0-9A-Za-z!#$%&()*+;<=>?@^_`{|}~-]{12,}", data):
        for shift in range(5):
            for cut in range(5):  # the last group may have run into what comes behind it
                yield from _of_base85(run[shift : len(run) - cut])
    if b"%" in data:
        yield urllib.parse.unquote_to_bytes(data)
    if b"\\u" in data:
        yield re.sub(rb"\\u00([0-9a-f]{2})", lambda each: chr(int(each[1], 16)).encode(), data)


def _filled(run: bytes, size: int) -> bytes:
    """A run up to whole groups: its last one may have been cut, or go on as something else."""
    return run + b"A" * (-len(run) % size)


def _of_base85(run: bytes) -> Iterator[bytes]:
    """Group by group: one that is none ends a text, and another may follow."""
    made = b""
    for at in range(0, len(run), 5):
        try:
            made += base64.b85decode(run[at : at + 5])
        except ValueError:
            yield made
            made = b""
    yield made


def as_numbers(data: bytes) -> Iterator[bytes]:
    """One character a number: integers and floats of every width, at every alignment."""
    for width in range(1, 9):
        for first in range(width):
            yield data[first::width]
    for kind in ("<f4", ">f4", "<f8", ">f8"):
        size = np.dtype(kind).itemsize
        for first in range(size):
            numbers = np.frombuffer(data[first : first + (len(data) - first) // size * size], kind)
            with np.errstate(invalid="ignore", over="ignore"):
                fits = (numbers >= 0) & (numbers < 256) & (numbers == np.rint(numbers))
                yield np.where(fits, numbers, 255).astype(np.uint8).tobytes()


def steps(data: bytes) -> tuple[bytes, bytes]:
    """Differences and exclusive-ors of neighbours: what adding or xoring one byte to all leaves as it is."""
    plain = np.frombuffer(data, np.uint8)
    return (plain[1:] - plain[:-1]).tobytes(), (plain[1:] ^ plain[:-1]).tobytes()


def found(data: bytes, marks: tuple[bytes, ...] = MARKS, *, depth: int = 2) -> bool:
    """Whether a mark is in the data, or in anything it decodes to."""
    spelled = {form for mark in marks for form in (mark, mark[::-1], mark.swapcase(), hashlib.sha256(mark).digest())}
    moved = {form for mark in marks for form in steps(mark)}
    for plain in as_numbers(data):
        if any(form in plain for form in spelled):
            return True
        if any(form in part for part in steps(plain) for form in moved):
            return True
    if depth == 0:
        return False
    return any(found(part, marks, depth=depth - 1) for part in (*unpacked(data), *decoded(data)) if len(part) > 8)


def numbers(mark: bytes, kind: str) -> bytes:
    return np.frombuffer(mark, np.uint8).astype(kind).tobytes()


HIDING: dict[str, Callable[[bytes], bytes]] = {
    "clear": bytes,
    "reversed": lambda mark: mark[::-1],
    "hex": lambda mark: mark.hex().encode(),
    "base64": lambda mark: base64.b64encode(b"xy" + mark),
    "base64 for addresses": lambda mark: base64.urlsafe_b64encode(b"x" + mark + b"\xff\xfe"),
    "base32": lambda mark: base64.b32encode(b"xyz" + mark),
    "base85": base64.b85encode,
    "an address": lambda mark: urllib.parse.quote(mark, safe="").encode(),
    "JSON": lambda mark: json.dumps({"a": [mark.decode()]}).encode(),
    "utf-16": lambda mark: mark.decode("latin-1").encode("utf-16-le"),
    "utf-32": lambda mark: mark.decode("latin-1").encode("utf-32-be"),
    "zlib": lambda mark: zlib.compress(b"a lot of text " + mark),
    "deflate": lambda mark: zlib.compress(mark, wbits=-15),
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zlib in base64": lambda mark: base64.b64encode(zlib.compress(mark)),
    "base64 in zlib": lambda mark: zlib.compress(base64.b64encode(mark)),
    "int16": lambda mark: numbers(mark, "<i2"),
    "int32": lambda mark: numbers(mark, ">i4"),
    "int64": lambda mark: numbers(mark, "<i8"),
    "float32": lambda mark: numbers(mark, "<f4"),
    "float64": lambda mark: numbers(mark, ">f8"),
    "each byte xored": lambda mark: bytes(byte ^ 0x5A for byte in mark),
    "each byte moved": lambda mark: bytes((byte + 13) % 256 for byte in mark),
    "a hash": lambda mark: hashlib.sha256(mark).digest(),
    "a hash in hex": lambda mark: hashlib.sha256(mark).hexdigest().encode(),
}


@pytest.mark.parametrize("how", HIDING)
@pytest.mark.parametrize("mark", MARKS)
def test_the_search_finds_what_is_hidden(how: str, mark: bytes) -> None:
    rng = np.random.default_rng(0)
    assert found(rng.bytes(37) + HIDING[how](mark) + rng.bytes(50))


def test_the_search_finds_nothing_in_noise() -> None:
    assert not found(np.random.default_rng(1).bytes(20_000))


def marked(device: palate.Device) -> None:
    """Events with marks in everything an app may say, on an item of the catalogue and on others."""
    item, text, id_ = (mark.decode() for mark in MARKS)
    props = {"note": text, text: [item, id_]}
    assert device.track("like", item, id=id_, props=props)
    assert device.track("purchase", "item-3", value=2, id=f"{id_} 2", props=props)
    assert device.track("rate", "item-7", value=5, props=props, source="offline")
    device.like_to_start([item])


def service_of(run: Any, **floors: Any) -> palate.Service:
    chosen = palate.Floors(allow_seeded=True, **floors).for_few()
    return palate.Service(public_key=run.key.public, population="readers", floors=chosen, epsilon=100.0)


def checked(outgoing: list[bytes]) -> None:
    for data in outgoing:
        assert not found(data, (*MARKS, b"item-"))


def test_no_mark_leaves_where_the_server_adds_the_noise(
    make_run: Callable[..., Any], open_device: Callable[..., palate.Device]
) -> None:
    run = make_run()
    device = open_device(service=service_of(run, allow_central=True))
    device.consent.grant("train")
    device.update_model(run.publish(run.coordinator()))
    marked(device)
    plan, model = run.first()
    outgoing = []
    for _ in range(3):
        outgoing.append(device.contribute(plan, model))
        assert device.refusal == ""
        plan = run.altered(plan)
    device.consent.revoke("train")
    outgoing += [device.contribute(plan, model), device.identity.encode()]
    assert outgoing[3] == REFUSED
    checked(outgoing)
    assert [sent.bytes for sent in device.privacy_report().sent] == [len(data) for data in outgoing[:3]]


def test_no_mark_leaves_under_masks_and_what_does_is_noise(
    make_run: Callable[..., Any], open_device: Callable[..., palate.Device]
) -> None:
    """A device made by `palate.open` takes part in masked rounds beside others; every byte it says is recorded."""
    keys = [SigningKey.generate() for _ in range(DEVICES)]
    publics = [key.public for key in keys]
    run = make_run(**_terms())
    device = open_device(service=service_of(run))
    device.consent.grant("train")
    publics[OWN] = device.identity
    directory = Directory(dict(enumerate(publics)))
    coordinator, outgoing, vectors = run.coordinator(), [device.identity.encode()], list[bytes]()
    device.update_model(run.publish(coordinator))
    marked(device)
    with SimulatedLedger(":memory:", durable=False) as ledger:
        while not coordinator.finished:
            plan, model = coordinator.open_attempt(directory), coordinator.model.data
            others = {
                number: Contributor(
                    run.histories.user(number), [number], ledger, run.key.public, run.floors, pinned=None
                ).join(plan, model, Identity(keys[number], directory))
                for number in range(DEVICES)
                if number != OWN
            }
            own = device.join(plan, model, directory.to_bytes(), number=OWN)
            assert own is not None, device.refusal
            attempt = coordinator.unmasking()
            while not attempt.finished:
                step = attempt.step
                for number in attempt.asked:
                    request = attempt.request(number)
                    if number == OWN:
                        answer = own.answer(request)
                        assert own.refusal == ""
                        outgoing.append(answer)
                        vectors += [answer] if step.name == "INPUT" else []
                    else:
                        answer = others[number].answer(step, request)
                    attempt.receive(number, answer)
                attempt.close()
            own.close()
            released = coordinator.close_masked(attempt)
            assert released.participation.users == DEVICES
    assert len(vectors) == coordinator.rounds
    checked(outgoing)
    for vector in vectors:  # uniform to whoever lacks the masks: it doesn't get smaller
        assert len(zlib.compress(vector, 9)) > 0.98 * len(vector)
    report = device.privacy_report()
    assert sum(sent.bytes for sent in report.sent) == sum(map(len, outgoing[1:]))
    assert {sent.dp for sent in report.sent} == {"distributed"}


def _terms() -> dict[str, Any]:
    """Terms of a run under masks."""
    settings = {"rounds": 3, "popularity_only_below": 0, "embedding_size": 4}
    cohort = CohortTerms(n_max=DEVICES, n_min=DEVICES, c_max=1, masks=True, max_tosses=4)
    catalogue = ItemCatalogue(tuple(f"item-{row}" for row in range(30))).hash
    return {
        "algorithm": "als", "settings": settings, "dp": "distributed", "cohort": cohort, "epsilon": 5.01,
        "catalogue": catalogue,
    }  # fmt: skip
