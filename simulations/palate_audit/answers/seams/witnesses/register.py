"""Register: who is invited, enrolled, quarantined, named, revoked and gone, with all tables after each step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.made.telling import plain, tell_result
from palate_audit.answers.seam import Seam
from palate_server.folder.enrolments import Enrolments, copy_register, quarter_name, quarter_of

_TABLES = {
    "tokens": "SELECT hash, expires, device FROM tokens ORDER BY hash",
    "devices": "SELECT number, node_key, identity, node, enrolled, revoked, strikes, free_at FROM devices ORDER BY 1",
    "invited": "SELECT device, period, count FROM invited ORDER BY device, period",
    "named": "SELECT device FROM named ORDER BY device",
    "evidence": "SELECT device, record FROM evidence ORDER BY device",
    "labels": "SELECT hash, label FROM labels ORDER BY hash",
    "seen": "SELECT device, quarter FROM seen ORDER BY device",
}
_DAY = 86400.0


class _Played:
    """A register, and what is known of it outside."""

    def __init__(self, dice: Dice, answer: CaseAnswer, path: Path | str) -> None:
        self.dice, self.answer, self.path = dice, answer, path
        self.register = Enrolments(path)
        self.tokens, self.now = ["unknown"], 1_700_000_000.0
        self.spent: dict[str, tuple[str, str]] = {}
        self.trace()

    def trace(self) -> None:
        """Tell from here on how transactions begin and end, and what else is asked of SQLite."""

        def told(statement: str) -> None:
            if statement.startswith(("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA")):
                self.answer.tell(statement)

        with self.register._database.transaction() as connection:
            connection.set_trace_callback(told)

    def number(self) -> int:
        """A device's number, or one of none."""
        return self.dice.one_of((0, 0, 0, 1, 1, 2, 3, 4, 9))

    def numbers(self) -> list[int]:
        """Several devices, in any order, perhaps one twice."""
        found = self.dice.shuffled(self.dice.some_of(range(5), 0.5))
        return found + found[:1] if self.dice.chance(0.1) else found

    def dump(self) -> None:
        """Tell all tables, and when anything may happen next."""
        with self.register._database.transaction() as connection:
            for table, query in _TABLES.items():
                self.answer.tell(table, plain(connection.execute(query).fetchall()))

    def invite(self) -> None:
        """A new token."""
        label = self.dice.one_of(("", "", "Ann", "x" * 40, "x" * 41, "a\nb", "\u00e9 b"))
        hours = self.dice.one_of((1.0, 24.0, 0.0, 0.5, -1.0))
        token = tell_result(
            self.answer, self.register.invite, now=self.now, hours=hours, **({"label": label} if label else {})
        )
        if token:
            self.tokens.append(token)

    def enrol(self) -> None:
        """A token is spent, for the first time or again, by the same device or another one."""
        token = self.tokens[-1] if self.dice.chance(0.6) else self.dice.one_of(self.tokens)
        keys = f"pem {len(self.spent)}", f"{len(self.spent):064x}"
        if token in self.spent and self.dice.chance(0.6):
            keys = self.spent[token]
        if self.spent and self.dice.chance(0.15):
            other = self.dice.one_of(sorted(self.spent.values()))
            keys = self.dice.one_of(((keys[0], other[1]), (other[0], keys[1]), other))
        found = tell_result(
            self.answer, lambda: _dump(self.register.enrol(token, node_key=keys[0], identity=keys[1], now=self.now))
        )
        if found:
            self.spent[token] = keys
        tell_result(self.answer, self.register.knows, token)

    def leave(self) -> None:
        """A device leaves, or another one in its name; and is forgotten, perhaps later."""
        number = self.number()
        identity = f"{number if self.dice.chance(0.85) else 1:064x}"
        left = tell_result(self.answer, self.register.leave, number, identity=identity)
        self.dump()
        if left is not None and self.dice.chance(0.6):
            tell_result(self.answer, self.register.forget, number)
        if self.dice.chance(0.2):
            tell_result(self.answer, self.register.leave, number, identity=identity)

    def again(self) -> None:
        """A device is revoked, perhaps twice, and asks once more with its token."""
        token = self.dice.one_of(sorted(self.spent)) if self.spent else self.tokens[0]
        number = tell_result(self.answer, lambda: self.register.enrol(token, **self.keys(token), now=self.now).number)
        for later in (0.0, 5.0):
            tell_result(self.answer, lambda later=later: _dump(self.register.revoke(number or 0, now=self.now + later)))
        tell_result(self.answer, lambda: self.register.enrol(token, **self.keys(token), now=self.now).number)

    def keys(self, token: str) -> dict[str, str]:
        """The keys with which a token was spent."""
        node_key, identity = self.spent.get(token, ("pem", "ff" * 32))
        return {"node_key": node_key, "identity": identity}

    def reopen(self) -> None:
        """The file is closed and opened again, perhaps as an earlier version left it."""
        if self.path == ":memory:":
            return
        if self.dice.chance(0.5):
            gone = self.dice.some_of(("DROP TABLE evidence", "DROP TABLE seen", "DROP TRIGGER unlabelled"), 0.4)
            with self.register._database.transaction(write=True) as connection:
                for statement in (
                    *gone,
                    "CREATE TABLE IF NOT EXISTS disputes(device INTEGER)",
                    "INSERT OR IGNORE INTO labels VALUES ('orphan', 'x')",
                ):
                    connection.execute(statement)
        self.register.close()
        self.register.close()
        self.register = Enrolments(self.path)
        self.trace()
        with self.register._database.transaction() as connection:
            self.answer.tell(connection.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall())

    def copied(self) -> None:
        """A copy is made while the file is in use."""
        if isinstance(self.path, Path):
            copy = self.path.with_name(f"copy-{self.dice.whole(0, 2)}")
            tell_result(
                self.answer, copy_register, self.dice.one_of((self.path, self.path, self.path.with_name("none"))), copy
            )
            if copy.exists():
                with Enrolments(copy) as found:
                    self.answer.tell([_dump(each) for each in found.devices()])

    def step(self) -> None:
        """One of all operations."""
        dice, register, tells = self.dice, self.register, partial(tell_result, self.answer)
        until = self.now + dice.one_of((-1.0, 0.0, 3600.0))
        steps: list[Callable[[], Any]] = [
            self.invite, self.invite, self.enrol, self.enrol, self.enrol, self.leave, self.leave, self.again,
            self.reopen,
            self.copied,
            lambda: tells(register.registered, self.number(), dice.one_of((7, 8, 2**64 + 7, 2**70))),
            lambda: tells(register.registered, self.number(), dice.one_of((70, 71, 72, 73))),
            lambda: tells(lambda: _dump(register.revoke(self.number(), now=self.now))),
            lambda: tells(register.forget, self.number()),
            lambda: tells(register.strike, self.numbers(), limit=dice.one_of((1, 2, 3)), until=until),
            lambda: [tells(register.strike, [0, 1], limit=2, until=until + more) for more in (0, 0, 5, 5,
            9)],
            lambda: tells(register.name,
            {number: dice.bytes(dice.whole(0, 3)) for number in self.numbers()}),
            lambda: tells(lambda: _dump(register.pardon(self.number()))),
            lambda: [
                tells(register.strike, [1], limit=1, until=self.now + 50.0),
                tells(lambda: _dump(register.pardon(1))),
            ],
            lambda: tells(register.invited, self.numbers(), period=dice.one_of((5, 5, 6, 7))),
            lambda: tells(register.invited, self.numbers(), period=5),
            lambda: [tells(register.invited, self.numbers(), period=period) for period in (5, 6, 6, 7)],
            lambda: tells(register.seen, dice.some_of((7, 8, 70, 71, 72), 0.5),
            quarter=dice.one_of((8094, 8095, 8096))),
        ]  # fmt: skip
        dice.one_of(steps)()

    def told(self) -> None:
        """All that can be asked of it."""
        answer, register, dice = self.answer, self.register, self.dice
        tell_result(answer, register.evidence, self.number())
        for at in (self.now, self.now + 3600.0):
            tell_result(answer, register.eligible, period=dice.one_of((5, 6)), most=dice.one_of((1, 2, 3)), now=at)
            answer.tell([_dump(each) for each in register.listed(now=at)], register.counts(now=at))
        devices = register.devices()
        for at in sorted({each.free_at for each in devices if each.free_at is not None}):
            tell_result(answer, register.eligible, period=5, most=9, now=at)
            answer.tell([each.state for each in register.listed(now=at)], register.counts(now=at))
        answer.tell([_dump(each) for each in devices], register.noted_since())
        found = register.directory()
        answer.tell(None if found is None else found.identities)


def _dump(value: Any) -> Any:
    """The fields of a dataclass, numbers as they are written."""
    return plain(vars(value))


def _registered(dice: Dice, answer: CaseAnswer) -> None:
    """Operations one after the other, while the clock goes on, jumps, and goes back."""
    with made_folder(answer) as root:
        played = _Played(dice, answer, root / "enrolment.db" if dice.chance(0.35) else ":memory:")
        played.told()
        for hours in (0.0, 0.0, 1.0):  # of a second one, the first is there to the very end
            played.tokens.append(played.register.invite(now=played.now, hours=hours))
        played.dump()
        for _ in range(2):
            played.enrol()
            played.invite()
            tell_result(answer, played.register.registered, len(played.spent) - 1, 69 + len(played.spent))
        tell_result(answer, played.register.seen, [70, 71], quarter=8094)
        tell_result(answer, played.register.invited, [0, 1], period=5)
        for _ in range(13):
            played.step()
            played.now += dice.one_of((0.0, 0.0, 1.0, 1800.0, 3600.0, _DAY, 90 * _DAY, -3600.0, 0.5))
            played.dump()
            if dice.chance(0.25):
                played.told()
        played.told()
        played.register.close()


def _quarters(dice: Dice, answer: CaseAnswer) -> None:
    """Quarters of years, at their borders."""
    for _ in range(10):
        at = dice.one_of(
            (
                0.0,
                7776000.0,
                1e9,
                1_700_000_000.0,
                1735689599.0,
                1735689600.0,
                1743465599.5,
                1743465600.0,
                1751328000.0,
                1759276800.0,
                dice.whole(0, 4 * 10**9),
            )
        )
        answer.tell(quarter_of(at), quarter_name(quarter_of(at)))


SEAMS = (
    Seam("register: invited, enrolled, excluded and gone", _registered, 24),
    Seam("register: quarters", _quarters, 6),
)
