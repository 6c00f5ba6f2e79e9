"""The ledger of a run, replayed and recomputed: what was charged, sealed and claimed, and what was changed since.

It reads a run folder, the live ledger, and receipts of devices; it opens no connection and writes nothing.

    section = audit_ledger(Path("runs/demo"), expect_head=Checkpoint(11, "13e5..."))
    [found.said for found in section.alarms]

Changes show against hashes that others remember: the operator's own signature, a head from outside, devices. Without
hashes from outside, a ledger that was rolled back and rewritten looks intact; a finding says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from palate_audit.evidence.claim import UNITS, stated
from palate_audit.evidence.evidence import Finding, Section
from palate_audit.evidence.guard import guarded
from palate_audit.run.accounts import accounts
from palate_audit.run.card import check_key, read_file
from palate_audit.run.checkpoints import checkpoints
from palate_audit.run.completeness import completeness
from palate_audit.run.extract import RunExtract, named, read_extract
from palate_audit.run.live import LiveLedger, read_live
from palate_audit.run.receipts import Receipts, participation, read_receipts, reconcile
from palate_audit.run.run_records import RunRecords
from palate_audit.run.server.folder import audit_server, is_server
from palate_core.errors import InputError, IntegrityError, PalateError
from palate_core.log.merkle import Checkpoint
from palate_server.ledger.history import Entry
from palate_sim.run.run_folder import RunFolder

ASSUMPTIONS = (
    "Every release was charged before it was computed: a release that left no file, no charge and no receipt can't be "
    "seen from files.",
    "The stated code ran: this compares what was written down, and the mechanism's own tests are another part.",
    "SHA-256 and Ed25519 are what they are held to be, and the operator's key has signed one story only: two show "
    "against witnesses.",
)


def audit_ledger(
    folder: Path,
    *,
    ledger: Path | None = None,
    expect_head: Checkpoint | None = None,
    receipts: Sequence[Path] = (),
    public_key: str | None = None,
) -> Section:
    """Replay and recompute a run's ledger.

    Args:
        folder: the run folder, or a server folder.
        ledger: the population's live ledger; None uses the one that `run.json` names, if it exists.
        expect_head: size and root of the ledger, from a source outside the operator.
        receipts: files from devices.
        public_key: the operator's, from outside the folder.

    Raises:
        InputError: not a run folder, an invalid key, or a file of another kind than expected.
    """
    check_key(public_key)
    if is_server(folder):
        found = [read_receipts(path, population=_population(folder, ledger)) for path in receipts]
        return audit_server(folder, ledger=ledger, expect_head=expect_head, receipts=found, public_key=public_key)
    records, unread = _collected(folder, ledger)
    outside = [read_receipts(path, population=records.population) for path in receipts]
    devices = folder / "devices.db"
    inside, damaged = list[Receipts](), [*unread]
    try:
        inside += [read_receipts(devices, population=records.population)] if devices.is_file() else []
    except PalateError:
        damaged.append(Finding.checked("device ledger", False, "devices.db of the folder isn't a ledger of devices"))
    findings = [
        *guarded("checkpoints", lambda: checkpoints(records, expect_head, inside, outside, public_key)),
        *guarded("files", lambda: completeness(records, public_key=public_key)),
        *guarded("accounts", lambda: accounts(records)),
        *damaged,
        *guarded("devices", lambda: _devices(records, inside, outside)),
    ]
    assumed = (*_qualifiers(records), *ASSUMPTIONS)
    series: dict[str, Any] = {
        "facts": {"run": records.run, "charges": len(records.charges), "releases": len(records.seals)}
    }
    with suppress(PalateError):
        series["claim"] = stated(records.terms, (records.read("privacy_card.json") or {}).get("epsilon"))
    return Section("ledger", _subject(records), (*_worst_entry(findings, records), *findings), (), assumed, series)


def _population(folder: Path, ledger: Path | None) -> str:
    """Whose ledger a server folder has."""
    try:
        entries = read_live(folder / "ledger.db" if ledger is None else ledger).entries
    except InputError:
        return "unknown"
    return str(getattr(entries[0], "population", "unknown")) if entries else "unknown"


def _collected(folder: Path, ledger: Path | None) -> tuple[RunRecords, list[Finding]]:
    """A run's records; where its extract is damaged or gone, the ledger's own entries, and a finding.

    Raises:
        InputError: as `audit_ledger`.
    """
    path, begun = folder / "ledger.json", RunFolder(folder).run_file.exists()
    try:
        return records_of(folder, ledger=ledger), []
    except InputError as error:
        if not begun or not (path.exists() or RunFolder(folder).finished):
            raise
        if ledger is not None:
            read_live(ledger)  # what is wrong with a file that was named is an error, and no finding
        said = str(error) if path.exists() else "ledger.json is gone, and the run is finished"
        lost = Finding.checked("extract", False, said, changed=["ledger.json"])
    try:
        live = _live(folder, ledger)
    except InputError:
        live = None
    try:
        return _records(folder, None, live), [lost]
    except (InputError, KeyError, TypeError):
        return RunRecords(folder, "unknown", "unknown", (), None, None), [lost]


def records_of(folder: Path, *, ledger: Path | None = None) -> RunRecords:
    """Collect a run's records, from its folder and its live ledger.

    Raises:
        InputError: as `audit_ledger`.
    """
    extract = read_extract(read_file(folder, "ledger.json")) if (folder / "ledger.json").exists() else None
    live = _live(folder, ledger)
    if extract is None and live is None:
        read_file(folder, "ledger.json")  # if this is no run folder, the error says what it is
    return _records(folder, extract, live)


def _live(folder: Path, ledger: Path | None) -> LiveLedger | None:
    """The given live ledger, or the one that the run was started with."""
    if ledger is not None:
        return read_live(ledger)
    try:
        named_path = Path(str(RunFolder(folder).read()["ledger"]))
    except InputError:
        return None
    return read_live(named_path) if named_path.is_file() else None


def _records(folder: Path, extract: RunExtract | None, live: LiveLedger | None) -> RunRecords:
    if extract is not None:
        return RunRecords(folder, extract.run, extract.population, extract.entries, extract, live)
    started = RunFolder(folder).read()["terms"]
    run, population = str(started["run"]), str(started["population"])
    whole: Sequence[Entry] = live.entries if live is not None else ()
    own = [entry for entry in whole if entry.body.get("run", run) == run]
    return RunRecords(folder, run, population, own, None, live)


def _subject(records: RunRecords) -> str:
    """What was audited, in one line."""
    live = "no live ledger" if records.live is None else f"live ledger {records.live.path}"
    return f"run {records.run} of {records.population!r} in {records.folder}; {live}"


def _qualifiers(records: RunRecords) -> Iterator[str]:
    """The qualifiers of every epsilon of the section."""
    with suppress(IntegrityError):
        delta = records.terms.delta
        yield f"Every ε here is for δ = {delta!r}, unit: {UNITS[records.terms.unit]}, adjacency: zero-out."


def _devices(records: RunRecords, inside: Sequence[Receipts], outside: Sequence[Receipts]) -> Iterator[Finding]:
    for found in inside:
        yield participation(records, found)
        yield from reconcile(records, found, test="device ledger")
    if not inside:
        yield Finding.missing("participation cap", "the folder has no devices.db")
    for found in outside:
        yield from reconcile(records, found, test="receipts")


def first_bad_entry(findings: Sequence[Finding]) -> tuple[int, int] | None:
    """First and last entry of the range that has the first bad one, by all findings; None if none is bad."""
    bad = [found.figures for found in findings if found.figures.get("first_bad") is not None]
    stretches = [(int(each["first_bad"]), int(each.get("last_suspect", each["first_bad"]))) for each in bad]
    # Each range has a bad entry: take the one that ends first, and of those the shortest.
    return min(stretches, key=lambda stretch: (stretch[1], -stretch[0]), default=None)


def _worst_entry(findings: Sequence[Finding], records: RunRecords) -> Iterator[Finding]:
    """The first bad entry by all findings, in words; nothing if there is none."""
    stretch = first_bad_entry(findings)
    if stretch is None:
        return
    at, last = stretch
    known = {entry.seq: entry for entry in [*records.entries, *(records.live.entries if records.live else ())]}
    what = ""
    if at == last and at in known:
        entry = known[at]
        about = [f"{name} {getattr(entry, name)}" for name in ("run", "round", "attempt") if hasattr(entry, name)]
        what = f", a {entry.kind}{' of ' if about else ''}{', '.join(about)}"
    yield Finding.checked(
        "first bad entry", False, f"{named(range(at, last + 1))}{what}", first_bad=at, last_suspect=last
    )


def parse_head(text: str) -> Checkpoint:
    """Parse SIZE:ROOT.

    Raises:
        InputError: it is not of that form.
    """
    size, _, root = text.partition(":")
    try:
        number = int(size)
        if number < 1 or len(bytes.fromhex(root)) != 32 or root != root.lower():
            raise ValueError
    except ValueError:
        raise InputError(
            f"`--expect-head` must be SIZE:ROOT, a number of entries and 64 hexadecimal digits, got {text!r:.120}"
        ) from None
    return Checkpoint(number, root)
