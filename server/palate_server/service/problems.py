"""Problems: what is wrong with a server now, as one list that everything an operator looks at shares.

    server folder, events, clock, disks, parts -> problems(site) -> status, health, metrics, alerts

Each has a code, by which alerts are made and which `problems.toml` and docs/server.md describe, and says in one line
what is wrong and in another what to do. The list is read from files and the system: no part of the server has to work
for it. It never names a device, an address of one, or a key.

>>> sorted({kind.severity for kind in KINDS.values()})
['error', 'note', 'warning']
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import shutil
import sqlite3
import stat
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from cryptography import x509

from palate_common.records.database import NoRoomError
from palate_core.errors import InputError, PalateError
from palate_server.folder.backup import last_backup
from palate_server.folder.certificates import is_awaited
from palate_server.folder.config import read_config
from palate_server.folder.edges import ends_of_edges
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import RESTARTS, EventSummary, at, told_reason
from palate_server.folder.server_folder import Site
from palate_server.operation.outlook import local
from palate_server.operation.releases import added_items
from palate_server.operation.restraint import restraint_of
from palate_server.operation.terms import DAY, budgets_of, cost_of
from palate_server.rounds.cohort import least_of
from palate_server.service.parts import is_alive

Severity = Literal["error", "warning", "note"]
"""error: devices can't take part, or nothing is trained, until somebody acts. warning: it will come to that, or the
server deals with it by itself and somebody should know. note: it is as it was configured."""

STARTING = 60.0
"""Seconds after a start in which a part that isn't up yet is no problem."""
FLAPS, FLAPPING = RESTARTS, 600.0
"""A part that was started again so often within so many seconds is ill."""
SKEW = 60.0
"""Seconds by which a clock may differ from what is written."""
BROKEN = (
    PalateError, OSError, sqlite3.Error, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
    RecursionError,
)  # fmt: skip
"""What a file that is damaged, or that somebody has edited, makes of whoever reads it."""
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No more can be written: of the disk, of this account's quota, of a file."""
NO_ROOM = "make room, and look again: what else is wrong can't be read before"
FULL = 1 / 8
"""Part of `problems.disk_mib` below which a disk is full rather than low."""


@dataclass(frozen=True)
class Kind:
    """A kind of problem.

    Attributes:
        severity: how bad it is.
        means: what it means, for the table of docs/server.md.
        act: what to do.
    """

    severity: Severity
    means: str
    act: str


def kinds_of(name: str) -> Mapping[str, Kind]:
    """The kinds of a table beside this module, by their code."""
    table = tomllib.loads((resources.files("palate_server.service") / name).read_text(encoding="utf-8"))
    return {code: Kind(**facts) for code, facts in table.items()}


KINDS = kinds_of("problems.toml")
"""Code -> what it means and what to do."""


@dataclass(frozen=True)
class ServerProblem:
    """Something that is wrong now.

    Attributes:
        code: which kind, one of `KINDS`.
        severity: how bad it is.
        since: since when, ISO 8601 in this machine's zone, as far as it is known.
        said: what is wrong, in one line.
        act: what to do, in one line.
    """

    code: str
    severity: Severity
    since: str | None
    said: str
    act: str

    def as_dict(self) -> dict[str, Any]:
        """The problem as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Seen:
    """What the problems are told from."""

    site: Site
    now: float
    parts: Mapping[str, bool] | None
    told: EventSummary


def problems(
    site: Site, *, now: float, parts: Mapping[str, bool] | None, told: EventSummary | None = None
) -> tuple[ServerProblem, ...]:
    """What is wrong with a server now, the worst first.

    It takes some milliseconds and can be called at any time; it never raises because something is broken, but says so.

    Args:
        site: the server folder.
        now: seconds since 1970.
        parts: part -> whether it runs, as `/ready` says; None: nobody answers.
        told: what the events say, if a running server has read them; None: they are read.
    """
    told = told or EventSummary(site.events).follow()
    seen = _Seen(site, now, parts, told)
    found: list[ServerProblem] = []
    for look in _LOOKS:
        try:
            found += look(seen)
        except BROKEN as error:
            found.append(broken(error))
    found = told_once(found)
    order = ("error", "warning", "note")
    return tuple(sorted(dict.fromkeys(found), key=lambda problem: order.index(problem.severity)))


def broken(error: Exception) -> ServerProblem:
    """What is wrong where an error is in the way of looking: a disk without room, or a folder that is damaged."""
    if isinstance(error, NoRoomError) or getattr(error, "errno", None) in NO_SPACE:
        return _problem("disk_full", said=line_of(error), act=NO_ROOM)
    return _problem("folder_damaged", said=line_of(error) or type(error).__name__)


def told_once(found: Iterable[ServerProblem]) -> list[ServerProblem]:
    """The problems; of a full disk one alone says it, what can't be read there if there is any."""
    told = list(found)
    blind = [each for each in told if each.code == "disk_full" and each.act == NO_ROOM]
    return [each for each in told if each.code != "disk_full" or not blind or each is blind[0]]


def _problem(
    code: str, *, said: str = "", act: str = "", since: float | Mapping[str, Any] | None = None
) -> ServerProblem:
    """A problem of a kind; what isn't given is the kind's."""
    return told_of(code, KINDS, said=said, act=act, since=since)


def told_of(
    code: str,
    kinds: Mapping[str, Kind],
    *,
    said: str = "",
    act: str = "",
    since: float | Mapping[str, Any] | None = None,
) -> ServerProblem:
    """Make a problem of one of the kinds; what isn't given is the kind's.

    Args:
        code: the kind.
        kinds: code -> kind.
        said: what is wrong, in one line.
        act: what to do, in one line.
        since: since when, seconds since 1970 or the event that told it.
    """
    kind = kinds[code]
    when = at(since) if isinstance(since, Mapping) else since
    return ServerProblem(
        code, kind.severity, None if when is None else local(when), said or kind.means, act or kind.act
    )


def line_of(error: Exception) -> str:
    """An error's text on one line."""
    return " ".join((getattr(error, "strerror", None) or str(error)).split())[:300]


def _running(seen: _Seen) -> Iterator[ServerProblem]:
    """Parts that are down, or start again and again."""
    told, now = seen.told, seen.now
    started = told.last.get("started")
    if seen.parts is None:
        stopped = told.since("stopped", "started")
        if stopped is not None or started is None:
            yield _problem("not_running", said="the server was stopped, or never started", since=stopped)
        elif not is_alive(started.get("pid")):
            yield _problem(
                "not_running", said="the supervisor has ended without a word: killed, or the machine was restarted"
            )
        elif now - at(started) > STARTING:
            yield _problem("not_running", said="the supervisor runs, and doesn't answer on `gateway.metrics_port`")
        return
    begun = -math.inf if started is None else at(started)
    for part, up in seen.parts.items():
        ended = told.ended.get(part)
        if not up and (ended is not None or now - begun > STARTING):
            how = f" doesn't run, {ended['how']}" if ended is not None and ended.get("how") else " doesn't run"
            if ended is None or at(ended) <= max(told.restarts.get(part, ()), default=-math.inf):
                how = " doesn't answer"
            yield _problem(
                "part_down",
                said=f"{part}{how}",
                act=f"read `logs/{log_of(part)}`; it is started again by itself, ever more slowly",
                since=ended,
            )
        lately = [each for each in told.restarts.get(part, ()) if now - each < FLAPPING]
        act = f"read `logs/{log_of(part)}`"
        if len(lately) >= FLAPS:
            said = f"{part} was started again {len(lately)} times or more within ten minutes"
            yield _problem("part_flaps", said=said, act=act, since=lately[0])
        elif lately and up:
            said = f"{part} {told.ended[part]['how']}" if part in told.ended else f"{part} ended"
            yield _problem("part_restarted", said=f"{said}, and was started again", act=act, since=lately[-1])


def log_of(part: str) -> str:
    """The log of a part."""
    return f"{part}.log"


def _witnesses(seen: _Seen) -> Iterator[ServerProblem]:
    """The witness folder as it is now and as it was last tried, and the ledger's witnesses."""
    folder, told = seen.site.witness, seen.told
    failed = told.since("unwitnessed", "witnessed", "serving")
    reason = ""
    if not folder.is_dir():
        reason = "isn't there"
    elif not os.access(folder, os.W_OK | os.X_OK):
        reason = "can't be written"
    elif failed is not None:
        reason = f"couldn't be written when it was last tried: {failed.get('reason', '')}"
    if reason:
        yield _problem("witness_unwritable", said=f"the witness folder {folder} {reason}", since=failed)
    missing = told.since("uncosigned", "cosigned", "serving")
    if missing is not None and seen.site.config.witnesses.keys:
        yield _problem("witnesses_missing", said=str(missing.get("reason", "")), since=missing)


def _disks(seen: _Seen) -> Iterator[ServerProblem]:
    """The disks of the server folder and of the witness."""
    least, told = seen.site.config.problems.disk_mib, set()
    for folder in (seen.site.folder, seen.site.witness):
        if not folder.is_dir() or (device := folder.stat().st_dev) in told:
            continue
        told.add(device)
        left = shutil.disk_usage(folder).free / 2**20
        if left < least:
            code = "disk_full" if left < FULL * least else "disk_low"
            yield _problem(
                code, said=f"{left:,.0f} MiB are left on the disk of {folder}, `problems.disk_mib` is {least:,}"
            )


def _certificates(seen: _Seen) -> Iterator[ServerProblem]:
    """The certificates of gateway and SuperLink, and the folder's authority."""
    site, days = seen.site, seen.site.config.problems.certificate_days
    early = list[tuple[float, Path]]()
    for path in (site.certificate[0], site.tls / "superlink.pem", site.tls / "ca.pem"):
        try:
            ends = min(each.not_valid_after_utc for each in x509.load_pem_x509_certificates(path.read_bytes()))
            begins = max(each.not_valid_before_utc for each in x509.load_pem_x509_certificates(path.read_bytes()))
        except FileNotFoundError:
            if seen.parts is not None:  # a start makes the folder's own
                yield _problem("certificate_ended", said=f"{path} is missing")
            continue
        except (OSError, ValueError) as error:
            yield _problem("certificate_ended", said=f"{path} can't be read: {line_of(error)}")
            continue
        if is_awaited(path):
            yield _problem("certificate_awaited")
            continue
        left = (ends.timestamp() - seen.now) / DAY
        when = local(ends.timestamp())
        if begins.timestamp() > seen.now + SKEW:
            early.append((begins.timestamp(), path))
        elif left < 0:
            yield _problem("certificate_ended", said=f"{path} has ended, {when}", since=ends.timestamp())
        elif left < days:
            yield _problem("certificate_ends", said=f"{path} ends in {left:.0f} days, {when}")
    if early:
        begins_at, path = max(early)
        yield _problem("clock_off", said=f"the clock is before {local(begins_at)}, from when on {path} is valid")


def _edges(seen: _Seen) -> Iterator[ServerProblem]:
    """The certificates of gateways on other hosts, which have what they were given."""
    for name, ends in ends_of_edges(seen.site.folder).items():
        if ends - seen.now < seen.site.config.problems.certificate_days * DAY:
            yield _problem("edge_certificate", said=f"the certificate that edge {name} was given ends {local(ends)}")


def _clock(seen: _Seen) -> Iterator[ServerProblem]:
    """A clock that was set, or that is before what was written."""
    jumped = seen.told.since("clock", "started")
    if jumped is not None:
        yield _problem(
            "clock_off",
            said=f"the clock was set by {jumped.get('seconds', 0):+,.0f} s while the server ran",
            since=jumped,
        )
    written = [at(event) for event in list(seen.told.last.values())]  # the supervisor reads on meanwhile
    if written and (ahead := max(written) - seen.now) > SKEW:
        yield _problem("clock_off", said=f"the clock is {ahead:,.0f} s or more behind what was written")


def private_files(site: Site) -> list[Path]:
    """Files that nobody but the server's account may read, as far as they are there."""
    own = [site.folder / "key", site.folder / "keys" / "next", *sorted(site.tls.glob("*.key"))]
    found = [*own, site.certificate[1], site.enrolment_file, site.superlink_secret]
    for settings in (site.config.metrics, site.config.invitations):
        if settings.token:
            found.append(site.folder / settings.token)
    return [path for path in dict.fromkeys(found) if path.is_file()]


def _keys(seen: _Seen) -> Iterator[ServerProblem]:
    """The release key, and who may read it and the others."""
    try:
        seen.site.key()
    except (PalateError, OSError) as error:
        yield _problem("key_missing", said=line_of(error))
    for path in private_files(seen.site):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077 and _reachable(path, seen.site.folder):
            yield _problem("key_open", said=f"{path} has mode {mode:04o}", act=f"chmod 600 {path}")


def _reachable(path: Path, folder: Path) -> bool:
    """Whether other accounts can come to a file below a folder: not if one of the folders on the way is closed."""
    inside = path.parent if not path.is_relative_to(folder) else folder
    ways = [each for each in (path.parent, *path.parent.parents) if each == inside or each.is_relative_to(inside)]
    return all(each.stat().st_mode & 0o011 for each in ways)


def configuration_hash(site: Site) -> str:
    """The configuration's file as it is now, as a hash."""
    return hashlib.sha256(site.config_file.read_bytes()).hexdigest()


def _configuration(seen: _Seen) -> Iterator[ServerProblem]:
    """A configuration that was changed since the start."""
    file = seen.site.config_file
    try:
        read_config(file)
    except PalateError as error:
        yield _problem("configuration_invalid", said=line_of(error))
        return
    read = seen.told.last.get("started", {}).get("configuration")
    if seen.parts is not None and read is not None and read != configuration_hash(seen.site):
        yield _problem("configuration_newer")


def _happened(seen: _Seen) -> Iterator[ServerProblem]:
    """What the events tell, until something better has happened."""
    told, now = seen.told, seen.now
    for name, over, code, within in (
        ("lost", ("round",), "charge_lost", math.inf),
        ("failed", (), "serverapp_failed", DAY),
        ("no cohort", ("gathered", "round"), "no_cohort", math.inf),
        ("held", ("published",), "model_held", math.inf),
        ("survey refused", ("opened",), "survey_refused", 7 * DAY),
        ("enrolment failed", (), "enrolment_failing", 3600.0),
        ("unmirrored", ("serving", "round", "closed"), "mirror_unwritten", math.inf),
    ):
        event = told.since(name, *over)
        if name == "held" and event is not None and "run" not in event:  # a start tries that model again
            event = told.since(name, *over, "started")
        if event is not None and now - at(event) < within:
            reason = told_reason(event)
            said = f"{KINDS[code].means}: {reason}" if reason else KINDS[code].means
            yield _problem(code, said=" ".join(said.split())[:400], since=event)


def _ledger(seen: _Seen) -> Iterator[ServerProblem]:
    """What budgets and register say."""
    site, config = seen.site, seen.site.config
    restraint = restraint_of(site)
    under_way = restraint.under_way
    with site.reading() as ledger:
        entries = ledger.entries()
        lifetime, period = budgets_of(config, ledger, now=seen.now)
    cost = cost_of(config)
    if not lifetime.covers(cost):
        yield _problem("budget_lifetime")
    elif not lifetime.covers(2 * cost):
        yield _problem("budget_lifetime_low")
    if lifetime.covers(cost) and not period.covers(cost):
        yield _problem("budget_period", said=f"{KINDS['budget_period'].means} before {local(period.until)}")
    # It is written before the charge and after the seal: an attempt that begins or ends meanwhile is seen on one side.
    vain = restraint.in_vain(entries) - (under_way or restraint.under_way)
    last = seen.told.since("aborted", "round")
    reason = f": {told_reason(last)}" if last is not None else ""
    if vain >= config.cohort.attempts:
        said = f"training has stopped, and asks you: {vain} charges in a row have released nothing, the last{reason}"
        yield _problem("runs_void", said=said[:400], since=last)
    elif vain > 0:
        yield _problem("charge_void", said=f"{vain} charge(s) in a row have released nothing{reason}"[:400], since=last)
    with Enrolments(site.enrolment_file) as register:
        devices = register.counts(now=seen.now)
    there, size, parts = devices["enrolled"], config.cohort.size, config.cohort.subcohorts
    least = least_of(size, dropout=config.privacy.dropout, subcohorts=parts)
    if there < least:
        yield _problem("few_devices", said=f"{there:,} devices are enrolled, a cohort needs {least:,}")
    elif seen.told.few is not None:
        first, last, came = seen.told.few
        if (tried := at(last) - first) >= DAY and there >= last["needed"]:
            said = f"{there - came:,} of {there:,} enrolled devices haven't come for {tried / DAY:.3g} days"
            needed = f": a cohort needs {last['needed']:,}, and {came:,} came at most"
            yield _problem("devices_away", said=said + needed, since=first)
    bad = devices["named"] + devices["quarantined"]
    if bad > max(1, there // 20):
        yield _problem("many_named", said=f"{bad:,} of {there:,} devices are named or quarantined")


def _items(seen: _Seen) -> Iterator[ServerProblem]:
    """Items that were added, and that devices lack."""
    refused = seen.told.since("items refused", "items added", "started")
    try:
        added = added_items(seen.site)
    except InputError as error:
        yield _problem("items_refused", said=line_of(error), since=refused)
        return
    if added and refused is not None:
        yield _problem("items_refused", said=str(refused.get("reason", "")), since=refused)
    elif added:
        yield _problem("items_waiting", said=f"{len(added):,} item(s) were added, and devices don't have them yet")


def _backup(seen: _Seen) -> Iterator[ServerProblem]:
    """A backup that is too old for what has changed since."""
    site, hours = seen.site, seen.site.config.problems.backup_hours
    if not hours:
        return
    made = last_backup(site)
    if made is None:
        authority = x509.load_pem_x509_certificate((site.tls / "ca.pem").read_bytes())  # made with the folder
        if seen.now - authority.not_valid_before_utc.timestamp() > hours * 3600:
            yield _problem("backup_old", said="no backup of this folder was ever made")
    elif seen.now - made.at > hours * 3600:
        with site.reading() as ledger, Enrolments(site.enrolment_file) as register:
            entries = ledger.checkpoint().size - made.size
            now = register.counts(now=seen.now)
            devices = now["enrolled"] + now["revoked"] + now["left"] - made.devices
        if entries or devices:
            said = f"the latest backup lacks {entries:,} entries of the ledger and {devices:,} devices"
            yield _problem("backup_old", said=said, since=made.at)


_LOOKS: tuple[Callable[[_Seen], Iterable[ServerProblem]], ...] = (
    _running, _witnesses, _disks, _certificates, _edges, _clock, _keys, _configuration, _ledger, _items, _happened,
    _backup,
)  # fmt: skip
"""Each tells one kind of things; one that fails is a problem itself, and keeps none of the others from being told."""
