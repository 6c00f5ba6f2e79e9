"""A ledger's mirror, audited by whoever can fetch it: signature, cosignatures, entries, rules and tiles.

    section = audit_mirror("https://palate.example.org/ledger", public_key=..., quorum=Quorum.of([...], needed=2))

Nothing of the operator's folder is needed. What the files can't show is that devices were shown the same ledger:
witnesses vouch for that, and the devices that insist on them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from palate_audit.evidence.evidence import Finding, Section
from palate_audit.run.card import check_key
from palate_audit.run.live import ruled
from palate_common.records.tiles import (
    CHECKPOINT,
    HASH_BYTES,
    WIDTH,
    Fetch,
    fetch_tile,
    read_log,
    tile,
    tile_path,
    tiles_of,
)
from palate_core.errors import InputError, IntegrityError, PalateError
from palate_core.log.checkpoints import open_checkpoint, origin_of, read_state
from palate_core.log.cosignatures import Quorum
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.notes import ED25519, MOST_NOTE, Note, VerifierKey, read_note
from palate_server.ledger.log import Log

MOST = 2**28
"""Bytes of the largest ledger that is fetched."""
MOST_TIME = 253_402_300_799
"""The latest time of a cosignature that is shown: the end of the year 9999."""
FILE_SECONDS = 60.0
"""Seconds in which one file must come."""
ASSUMPTIONS = (
    "Devices were shown this ledger and no other: a quorum of witnesses vouches for that where devices insist on it.",
    "Every release was charged before it was computed: a release that left no charge can't be seen from the ledger.",
    "SHA-256 and Ed25519 are what they are held to be.",
)


@dataclass(frozen=True)
class FetchedLedger:
    """What was fetched of a mirror.

    Attributes:
        note: the checkpoint.
        checkpoint: what it says.
        log: the ledger replayed as far as the rules allow.
        leaves: all entries.
        refused: why the rules refuse an entry; empty if they don't.
    """

    note: Note
    checkpoint: Checkpoint
    log: Log
    leaves: tuple[bytes, ...]
    refused: str


def is_mirror(folder: Path) -> bool:
    """Whether a folder is a mirror's, and neither a run's nor a server's."""
    return (folder / CHECKPOINT).is_file() and (folder / "tile").is_dir()


def audit_mirror(
    source: str | Path,
    *,
    public_key: str | None = None,
    expect_head: Checkpoint | None = None,
    quorum: Quorum | None = None,
    ca: Path | None = None,
) -> Section:
    """Fetch a ledger, replay it, and check who vouches for it.

    Args:
        source: the prefix of a mirror, an address or a folder.
        public_key: the operator's release key, from outside.
        expect_head: size and root of the ledger, from a source outside the operator.
        quorum: the witnesses that must have cosigned.
        ca: PEM certificates, one of which the server's chain must end in; None: those that the machine trusts.

    Raises:
        InputError: there is no mirror, or an argument is invalid.
    """
    check_key(public_key)
    with ExitStack() as stack:
        fetch = _files(source) if isinstance(source, Path) else _address(source, ca, stack)
        return _audited(fetch, source, public_key, expect_head, quorum)


def _audited(
    fetch: Fetch, source: str | Path, public_key: str | None, expect_head: Checkpoint | None, quorum: Quorum | None
) -> Section:
    """The section about a mirror whose files `fetch` gives."""
    try:
        found = _fetched(fetch)
    except IntegrityError as error:
        finding = Finding.checked("mirror", False, f"the mirror can't be read: {error}")
        return Section("ledger", f"mirror {source}", (finding,), (), ASSUMPTIONS)
    findings = [
        Finding.checked("mirror", True, f"{len(found.leaves)} entries, whose root is the checkpoint's"),
        *_rules(found),
        *_tiles(fetch, found),
        *_signed(found, public_key),
        *_head(found, expect_head),
        *_witnesses(found, public_key, quorum),
        *_on_record(found.log, quorum),
    ]
    population = _population(found.log)
    facts = {"population": population, "entries": len(found.leaves), "mu2": found.log.history.spent()}
    return Section("ledger", f"mirror {source} of {population!r}", tuple(findings), (), ASSUMPTIONS, {"facts": facts})


def with_witnesses(section: Section, folder: Path, quorum: Quorum, public_key: str | None) -> Section:
    """A section about a server folder or a run's, with what the witnesses say of the ledger in its mirror.

    Args:
        section: the other findings.
        folder: the folder.
        quorum: the witnesses that must have cosigned.
        public_key: the operator's release key, from outside.
    """
    try:
        found = _fetched(_files(folder / "public" / "ledger"))
    except InputError:
        said = "there is no checkpoint with cosignatures: only a server's mirror has one"
        more = [Finding.missing("witnesses", said)]
    except IntegrityError as error:
        more = [Finding.checked("witnesses", False, f"the mirror can't be read: {error}")]
    else:
        more = [*_signed(found, public_key), *_witnesses(found, public_key, quorum)]
        more += _on_record(found.log, quorum)
    return replace(section, findings=(*section.findings, *more))


def _fetched(fetch: Fetch) -> FetchedLedger:
    """Fetch a mirror's checkpoint and entries, and replay them.

    Raises:
        IntegrityError: they can't be read, or the entries aren't the checkpoint's.
        InputError: the mirror can't be reached.
    """
    note = read_note(fetch(CHECKPOINT, MOST_NOTE))
    checkpoint = read_state(note.text).checkpoint
    leaves = read_log(fetch, checkpoint, most=MOST)
    log, broken = ruled(leaves)
    refused = "" if broken is None else f"entry {broken.last} can't follow the ones before it: {broken.reason}"
    return FetchedLedger(note, checkpoint, log, leaves, refused)


def _population(log: Log) -> str:
    return next((str(entry.body["population"]) for entry in log.entries()[:1] if entry.kind == "population"), "")


def _log(found: FetchedLedger, public_key: str | None) -> VerifierKey | None:
    """The key that the ledger's checkpoints must be signed by; None if nobody has said.

    A release key that was handed over in the ledger leads to the present one: the rules have checked both signatures.
    """
    if public_key is None:
        return None
    population, history = _population(found.log), found.log.history
    first = present = public_key
    if any(public_key in (each.old_key, each.new_key) for each in history.handovers):
        first, present = history.handovers[0].old_key, history.handovers[-1].new_key
    return VerifierKey(origin_of(population, first, history.epoch), ED25519, bytes.fromhex(present))


def _rules(found: FetchedLedger) -> Iterator[Finding]:
    """Whether every entry may follow the ones before it, and what was spent."""
    if found.refused:
        yield Finding.checked("rules", False, found.refused)
        return
    history = found.log.history
    budget = history.budget
    limit = "" if budget is None else f" of {budget.mu2:g}, ε = {budget.epsilon:g} at δ = {budget.delta:g}"
    said = f"every entry follows from the ones before it; mu^2 {history.spent():g} spent{limit}"
    yield Finding.checked("rules", True, said)


def _tiles(fetch: Fetch, found: FetchedLedger) -> Iterator[Finding]:
    """Whether the tiles are the hashes of the entries."""
    tree = MerkleTree(found.leaves)
    count = 0
    for level, index, width in tiles_of(len(found.leaves)):
        expected, path = tile(tree, level, index, width), tile_path(level, index, width)
        try:
            data, _ = fetch_tile(fetch, level, index, width, each=HASH_BYTES, most=WIDTH * HASH_BYTES)
            same = data[: len(expected)] == expected
        except IntegrityError:
            same = False
        if not same:
            yield Finding.checked("tiles", False, f"{path} isn't what its entries hash to")
            return
        count += 1
    yield Finding.checked("tiles", True, f"{count} tiles are what the entries hash to")


def _signed(found: FetchedLedger, public_key: str | None) -> Iterator[Finding]:
    """Whether the operator has signed the checkpoint."""
    test, log = "checkpoint", _log(found, public_key)
    if log is None:
        yield Finding.missing(test, "whose ledger it is isn't known: give --public-key from outside")
        return
    try:
        open_checkpoint(found.note, log)
    except PalateError as error:
        yield Finding.checked(test, False, str(error))
    else:
        yield Finding.checked(test, True, f"size {found.checkpoint.size} is signed by {log.public.hex()[:16]}…")


def _head(found: FetchedLedger, expected: Checkpoint | None) -> Iterator[Finding]:
    """Whether a state that is known from elsewhere is one of this log."""
    if expected is None:
        return
    tree = MerkleTree(found.leaves)
    fits = expected.size <= tree.size and tree.root(expected.size) == expected.root
    said = f"the expected head of size {expected.size} is {'' if fits else 'not '}a state of this ledger"
    yield Finding.checked("expected head", fits, said)


def _witnesses(found: FetchedLedger, public_key: str | None, quorum: Quorum | None) -> Iterator[Finding]:
    """Whether enough witnesses have cosigned the checkpoint."""
    test, log = "witnesses", _log(found, public_key)
    if quorum is None:
        yield Finding.missing(test, "nobody outside is known to have seen this ledger: give --witness")
    elif log is None:
        yield Finding.missing(test, "whose ledger they have cosigned isn't known: give --public-key from outside")
    else:
        try:
            counted = quorum.check(found.note, log=log, checkpoint=found.checkpoint)
        except PalateError as error:
            yield Finding.checked(test, False, str(error))
            return
        first = datetime.fromtimestamp(min(min(each.time for each in counted), MOST_TIME), UTC)
        names = ", ".join(each.witness.name for each in counted)
        share = f"{len(counted)} of {len(quorum.witnesses)}"
        said = f"{share} have cosigned, the first at {first:%Y-%m-%d %H:%M:%S} UTC: {names}"
        yield Finding.checked(test, True, said)


def _on_record(log: Log, quorum: Quorum | None) -> Iterator[Finding]:
    """Whether the ledger says that the operator asks those witnesses, and as many of them: apps may pin others."""
    test, said = "witnesses on record", log.history.witnesses
    if quorum is None or said is None:
        if said is not None:
            kept = f"{said.needed} of {len(said.keys)} must cosign: {', '.join(_names(said.keys))}"
            yield Finding.missing(test, f"the ledger says that {kept}; give --witness for those that apps pin")
        return
    lacking = [key.name for key in quorum.witnesses if str(key) not in said.keys]
    good = not lacking and said.needed >= quorum.needed
    asked = f"{said.needed} of {len(said.keys)} are asked since entry {said.seq}"
    gone = f", and not {', '.join(lacking)}" if lacking else ""
    yield Finding.checked(test, good, f"{asked}{gone}: {', '.join(_names(said.keys)) or 'nobody'}")


def _names(keys: Sequence[str]) -> list[str]:
    return [VerifierKey.read(key).name for key in keys]


def _files(folder: Path) -> Fetch:
    """Reads a mirror's files from a folder."""

    def fetch(path: str, most: int) -> bytes:
        try:
            with (folder / path).open("rb") as file:
                data = file.read(most + 1)
        except OSError as error:
            raise IntegrityError(f"{path} must be a readable file, got {error.strerror}") from None
        if len(data) > most:
            raise IntegrityError(f"{path} must have at most {most} bytes, got more")
        return data

    if not (folder / CHECKPOINT).exists():
        raise InputError(f"`DIR` must be a mirror, got no checkpoint in {folder}")
    return fetch


def _address(prefix: str, ca: Path | None, stack: ExitStack) -> Fetch:
    """Fetches a mirror's files over HTTP until the stack ends: no redirects, bounded in size and time."""
    import httpx  # here, since reading files needs no network

    context = ssl.create_default_context()
    if ca is not None:
        try:
            context = ssl.create_default_context(cafile=str(ca))
        except (OSError, ssl.SSLError):
            raise InputError(f"`--ca` must be a file of PEM certificates, got {ca}") from None
    runner = stack.enter_context(asyncio.Runner())  # so a limit holds for a whole file, whatever of it is slow
    client = httpx.AsyncClient(
        verify=context, timeout=30.0, trust_env=False, follow_redirects=False, headers={"Accept-Encoding": "identity"}
    )

    stack.callback(lambda: runner.run(client.aclose()))

    async def fetched(path: str, most: int) -> bytes:
        data = bytearray()
        async with asyncio.timeout(FILE_SECONDS), client.stream("GET", f"{prefix.rstrip('/')}/{path}") as response:
            if response.status_code != httpx.codes.OK:
                raise IntegrityError(f"{path} must be there, got status {response.status_code}")
            async for piece in response.aiter_raw():
                data += piece
                if len(data) > most:
                    raise IntegrityError(f"{path} must have at most {most} bytes, got more")
        return bytes(data)

    def fetch(path: str, most: int) -> bytes:
        try:
            return runner.run(fetched(path, most))
        except TimeoutError:
            raise IntegrityError(f"{path} must come within {FILE_SECONDS:g} s, got a part of it, or nothing") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(f"the mirror must be reachable, got {why}: {prefix:.200}") from None

    return fetch
