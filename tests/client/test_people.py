"""Tests that accounts inherit nothing, and that a move to another phone forgets no spend and no revocation."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import palate
import palate.testing
from palate_client.consent import PURPOSES
from palate_client.delivery.record import record_of
from palate_client.leaving import moving
from palate_core.errors import InputError, WrongKeyError

KEY = bytes(range(32))


def _items(device: palate.Device) -> list[str]:
    return [event.item for event in device.store.events()]


def test_accounts_of_one_folder_inherit_nothing(tmp_path: Path) -> None:
    users = (None, "anna", "ben")
    for user in users:
        with palate.open(tmp_path, app="app", user=user, key=KEY) as device:
            assert (device.consent.history(), _items(device)) == ((), [])
            device.consent.grant("store")
            device.track("like", f"of {user}")
    with palate.open(tmp_path, app="app", user="ben", key=KEY) as device:
        device.consent.revoke("store")
        assert _items(device) == ["of ben"]
    palate.erase(tmp_path, user="anna")
    for user, found in (None, ["of None"]), ("anna", []), ("ben", ["of ben"]):
        with palate.open(tmp_path, app="app", user=user, key=KEY) as device:
            assert _items(device) == found
            assert device.consent.get("store") is (user is None)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if "ben" in path.name or b"ben" in path.read_bytes()]


def test_a_users_store_is_opened_for_nobody_else(tmp_path: Path) -> None:
    palate.open(tmp_path, app="app", user="ben", key=KEY).close()
    (of_ben,) = (tmp_path / "users").iterdir()
    for user, app, said in (None, "app", "`user` must be the one"), (None, "other", "`app` must be 'app'"):
        with pytest.raises(InputError, match=said):
            palate.open(of_ben, app=app, user=user, key=KEY)
    with pytest.raises(WrongKeyError):
        palate.open(tmp_path, app="app", user="ben", key=bytes(32))
    with pytest.raises(InputError, match="`user` must be a name"):
        palate.open(tmp_path, app="app", user="", key=KEY)


@pytest.fixture(scope="module")
def server() -> Iterator[palate.testing.Server]:
    with palate.testing.Server(["a", "b", "c", "d", "e", "f", "g", "h"]) as made:
        yield made


class _Life:
    """What people do with their phones, and what must be true after it, whatever they did.

    Attributes:
        spent: what each person's installation was charged.
        agreed: what each person said last of each purpose.
        own: the items of each person.
    """

    def __init__(self, server: palate.testing.Server, home: Path) -> None:
        self.server, self.home, self.user = server, home, "anna"
        self.phones = {"anna": 0, "ben": 0}
        self.spent: dict[str, list[str]] = {"anna": [], "ben": []}
        self.agreed: dict[str, set[str]] = {"anna": set(), "ben": set()}
        self.own: dict[str, set[str]] = {"anna": set(), "ben": set()}
        self.coins: dict[str, float] = {}
        self.open()

    def open(self) -> None:
        folder = self.home / f"phone-{self.phones[self.user]}"
        service, clock = self.server.service, self.server.clock
        opened = palate.open(folder, app="app", user=self.user, key=KEY, service=service, clock=clock)
        self.device = self.server.connect(opened)

    def do(self, step: str) -> None:
        verb, _, what = step.partition(" ")
        self.server.clock.advance(hours=1)
        if verb in ("grant", "revoke"):
            getattr(self.device.consent, verb)(what)
            (self.agreed[self.user].add if verb == "grant" else self.agreed[self.user].discard)(what)
        elif verb == "like":
            item = "abcdefgh"[len(self.own[self.user]) + 4 * (self.user == "ben")]
            if self.device.track("like", item) is palate.Tracked.STORED:
                self.own[self.user].add(item)
        elif verb == "train":
            if self.device.enrolment is None and self.device.consent.get("train"):
                self.device.enroll(self.server.invitation())
            before = set(self.runs())
            self.device.sync()
            self.spent[self.user] += sorted(set(self.runs()) - before)
        elif verb == "toss":
            with record_of(self.device.store.file) as record:
                tossed = record.coin("control", self.server.clock() % 1e6)
            assert self.coins.setdefault(self.user, tossed) == tossed
        else:
            getattr(self, f"_{verb}")(what)

    def runs(self) -> list[str]:
        spending = self.device.privacy_report().spending
        return [] if spending is None else [f"{receipt.run}/{receipt.round}" for receipt in spending.receipts]

    def _erase(self, _: str) -> None:
        self.device.erase()
        self.spent[self.user], self.agreed[self.user] = [], set()
        self.open()

    def _user(self, name: str) -> None:
        self.device.close()
        self.user = name
        self.open()

    def _export(self, _: str) -> None:
        self.device.export_portable(self.home / "moving", key=KEY)

    def _import(self, _: str) -> None:
        self.device.close()
        self.phones[self.user] = max(self.phones.values()) + 1
        self.open()
        self.device.import_portable(self.home / "moving", key=KEY)
        self.agreed[self.user] = set()

    def _backup(self, _: str) -> None:
        self.device.close()
        shutil.copytree(self.home / f"phone-{self.phones[self.user]}", self.home / "backup")
        self.open()

    def _restore(self, what: str) -> None:
        """Put the backup of the whole folder back, or its files with this ending; or open it as another phone."""
        self.device.close()
        here = self.home / f"phone-{self.phones[self.user]}"
        if what == "elsewhere":
            self.phones[self.user] = max(self.phones.values()) + 1
            shutil.copytree(self.home / "backup", self.home / f"phone-{self.phones[self.user]}")
        elif what == "all but the key":
            for file in here.rglob("*.*"):
                if file.name != "key.json":
                    file.unlink()  # as tar and rsync do; `cp` would write into the files that are there
            shutil.copytree(self.home / "backup", here, ignore=shutil.ignore_patterns("key.json"), dirs_exist_ok=True)
        elif what:
            (old,) = (self.home / "backup").rglob(f"*.{what}")
            shutil.copy(old, here / old.relative_to(self.home / "backup"))
        else:
            shutil.rmtree(here)
            shutil.copytree(self.home / "backup", here)
        self.open()


MOVE, ON = "export, import", "grant store, like, grant train, train"
SCENARIOS = (  # and how many charges and events the last phone knows, once its user agreed again and it was online
    # a move: what was spent, decided and tossed goes along
    (f"{ON}, {MOVE}", 4, 1),
    (f"{ON}, {MOVE}, train", 4, 1),
    (f"{ON}, {MOVE}, grant store, like, grant train, train", 6, 2),
    (f"{ON}, train, {MOVE}, {MOVE}, grant train, train", 8, 1),
    (f"{ON}, revoke train, {MOVE}, train", 4, 1),
    (f"{ON}, revoke store, {MOVE}, like", 4, 1),
    (f"{ON}, toss, {MOVE}, toss", 4, 1),
    (f"{ON}, erase, {ON}, {MOVE}", 4, 1),
    (f"grant store, like, {MOVE}, grant train, train", 4, 1),
    (f"{MOVE}, {ON}", 4, 1),
    # the installation that has moved is closed
    (f"{ON}, export, train", 2, 1),
    (f"{ON}, export, grant train, train", 2, 1),
    (f"{ON}, export, like", 2, 1),
    (f"{ON}, export, erase, {ON}", 4, 1),
    # a copy of the folder, put back or opened elsewhere
    (f"{ON}, backup, train, restore, train", 2, 1),
    (f"{ON}, backup, train, restore, grant train, train", 2, 1),
    (f"{ON}, backup, revoke train, restore, train", 2, 1),
    (f"{ON}, backup, revoke store, restore, like", 2, 1),
    (f"{ON}, backup, erase, restore, like, train", 2, 1),
    ("grant store, backup, grant train, train, restore, grant train, train", 0, 0),
    (f"{ON}, backup, train, restore all but the key, grant train, train", 2, 1),
    (f"{ON}, backup, restore elsewhere, grant train, train", 2, 1),
    (f"{ON}, backup, restore elsewhere, like", 2, 1),
    # a part of it
    (f"{ON}, backup, revoke train, restore db, train", 4, 1),
    (f"{ON}, backup, revoke train, restore db, like", 4, 1),
    # two people
    (f"{ON}, user ben, train, like", 2, 0),
    (f"{ON}, user ben, {ON}, {MOVE}, user anna", 4, 1),
    (f"{ON}, user ben, {ON}, erase, user anna, train", 6, 1),
    (f"{ON}, user ben, {ON}, revoke train, user anna, {MOVE}, train", 4, 1),
    (f"{ON}, toss, user ben, grant store, user anna, {MOVE}, toss, user ben", 2, 0),
)


@pytest.mark.parametrize(("scenario", "charges", "events"), SCENARIOS)
def test_no_spend_is_forgotten_no_consent_revived_and_nothing_of_another_seen(
    server: palate.testing.Server, tmp_path: Path, scenario: str, charges: int, events: int
) -> None:
    life = _Life(server, tmp_path)
    for step in scenario.split(", "):
        life.do(step)
        device = life.device
        assert {each for each in PURPOSES if device.consent.get(each)} <= life.agreed[life.user], step
        assert set(_items(device)) <= life.own[life.user], step
        if "restore" not in scenario:
            assert life.runs() == life.spent[life.user], step
    for purpose in ("store", "train"):  # whoever agrees again, on whichever copy, spends nothing that isn't counted
        life.do(f"grant {purpose}")
    life.do("train")
    assert (len(life.runs()), len(_items(life.device))) == (charges, events)
    life.device.close()


def test_a_file_to_move_by_is_sealed_for_one_app_and_user_and_taken_once(tmp_path: Path) -> None:
    moving = tmp_path / "moving"
    with palate.open(tmp_path / "old", app="app", user="anna", key=KEY) as old:
        old.consent.grant("store")
        old.track("like", "book-7", id="own")
        with pytest.raises(InputError, match="must be a file that can be written"):
            old.export_portable(tmp_path / "nowhere" / "moving", key=KEY)
        assert old.consent.get("store")
        old.export_portable(moving, key=KEY)
        with pytest.raises(InputError, match="must be called once"):
            old.export_portable(moving, key=KEY)
        assert [old.track("like", "book-8"), old.consent.history()[-1].version] == [palate.Tracked.NO_CONSENT, "moved"]
        with pytest.raises(InputError, match="the store must be new"):
            old.import_portable(moving, key=KEY)
    made = moving.read_bytes()
    assert b"book" not in made
    for app, user, key in ("app", "ben", KEY), ("app", None, KEY), ("b", "anna", KEY), ("app", "anna", bytes(32)):
        with palate.open(tmp_path / "new", app=app, user=user, key=KEY) as new, pytest.raises(WrongKeyError):
            new.import_portable(moving, key=key)
        palate.erase(tmp_path / "new", user=user)
    with palate.open(tmp_path / "new", app="app", user="anna", key=KEY) as new:
        for at in (0, 20, len(made) - 1):
            moving.write_bytes(made[:at] + bytes([made[at] ^ 1]) + made[at + 1 :])
            with pytest.raises((InputError, WrongKeyError)):
                new.import_portable(moving, key=KEY)
        moving.write_bytes(made)
        new.import_portable(moving, key=KEY)
        assert (_items(new), moving.exists(), new.consent.get("store")) == (["book-7"], False, False)
        assert [(each.granted, each.version) for each in new.consent.history("store")] == [
            (True, "1"),
            (False, "moved"),
        ]
        new.consent.grant("store")
        assert new.track("like", "book-7", id="own") is palate.Tracked.DUPLICATE


def test_what_nobody_could_read_again_is_not_written_and_closes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, file = palate.new_key(), tmp_path / "moving"
    with palate.testing.device() as device:
        device.track("like", "book-7")
        with monkeypatch.context() as small:
            small.setattr(moving, "MOST_TEXT", 100)
            with pytest.raises(palate.InputError, match="at most 100 bytes to be moved"):
                device.export_portable(file, key=key)
        assert (file.exists(), device.consent.get("store")) == (False, True)
        device.export_portable(file, key=key)
        assert (file.exists(), device.consent.get("store")) == (True, False)
