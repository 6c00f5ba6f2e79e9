"""A person's own history: read as it comes, previewed, stored together or not at all, and undone."""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import palate
from palate_client.history.dates import moment, ordered, orders_of
from palate_client.history.preview import HistoryPreview, HistoryReport
from palate_client.store.store import EventStore
from palate_common.models.item_table import ItemFacts, ItemTable

NOW = 1_790_000_000.0
DAY = 86_400.0
FILMS = ItemTable.of(ItemFacts(f"f{n}", f"Film {n}", 1990 + n, ids={"imdb": f"tt{n:07d}"}) for n in range(40))
Opened = Callable[..., palate.Device]


@pytest.fixture
def device(open_device: Opened) -> palate.Device:
    return open_device(clock=lambda: NOW)


def history(folder: Path, text: str, name: str = "diary.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def diary(*films: tuple[int, str]) -> str:
    lines = [f"2023-01-01,Film {n},{1990 + n},https://boxd.it/{n},,,,{day}\n" for n, day in films]
    return "Date,Name,Year,Letterboxd URI,Rating,Rewatch,Tags,Watched Date\n" + "".join(lines)


def test_a_preview_stores_nothing_and_what_is_stored_is_undone_as_a_whole(
    device: palate.Device, tmp_path: Path
) -> None:
    device.track("like", "f1")
    before = list(device.export_lines())[1:]
    path = history(tmp_path, diary((1, "2024-01-01"), (2, "2024-01-02"), (99, "2024-01-03"), (3, "2010-01-01")))
    preview = device.import_history(path, table=FILMS)
    assert str(preview) == "3 films, 1 not in the catalogue, 1 too old"
    assert preview.unknown_titles == ("Film 99",)
    assert list(device.export_lines())[1:] == before
    assert preview.store() == HistoryReport(2, 2, 0, 1, 0, 0)
    assert preview.store() == HistoryReport(None, 0, 2, 1, 0, 0)
    more = history(tmp_path, diary((1, "2024-01-01"), (2, "2024-01-02"), (4, "2024-02-02")), "diary (2).csv")
    assert device.import_history(more, table=FILMS).store() == HistoryReport(3, 1, 2, 0, 0, 0)
    assert [(each.id, each.service, each.events) for each in device.imports()] == [
        (2, "letterboxd", 2),
        (3, "letterboxd", 1),
    ]
    assert device.forget_import(1) == 0, "what came on lines of JSON is no such import"
    assert (device.forget_import(2), device.forget_import(3), device.forget_import(3)) == (2, 1, 0)
    assert list(device.export_lines())[1:] == before
    assert device.imports() == ()
    assert device.import_history(path, table=FILMS).store().id == 4, "numbers aren't given twice"


def test_an_imported_history_outlives_the_next_day_and_ages_by_its_own_rule(
    open_device: Opened, tmp_path: Path
) -> None:
    """Whoever brought ten years of films had two of them a day later."""
    now = [NOW]
    limits = palate.Limits(keep_days=730, keep_history_days=3000)
    device = open_device(clock=lambda: now[0], limits=limits)
    path = history(tmp_path, diary((1, "2018-10-01"), (2, "2024-01-02"), (3, "2010-01-02")))
    assert device.import_history(path, table=FILMS).store() == HistoryReport(2, 2, 0, 1, 0, 0)
    undated = history(
        tmp_path, "Date,Name,Year,Letterboxd URI\n2012-01-10,Film 5,1995,https://boxd.it/a\n", "watched.csv"
    )
    assert device.import_history(undated, table=FILMS).store().stored == 1
    assert [each.time for each in device.store.events() if each.item == "f5"] == [None], "its day isn't known"
    device.close()
    for days, left in ((1, {"f1", "f2", "f5"}), (200, {"f2", "f5"}), (2900, {"f5"}), (3001, set[str]())):
        now[0] = NOW + days * DAY
        for _ in range(2):  # a clock that leaps is believed when it has run on
            open_device(clock=lambda: now[0], limits=limits).close()
            now[0] += 31 * DAY * (days > 40)
        with open_device(clock=lambda: now[0], limits=limits) as again:
            assert {each.item for each in again.store.events()} == left, days


def test_an_import_takes_half_of_the_store_at_most_and_is_no_visit(open_device: Opened, tmp_path: Path) -> None:
    device = open_device(clock=lambda: NOW, limits=palate.Limits(max_events=20))
    device.track("view", "f0", time=NOW - DAY)
    films = [(n, f"2024-01-{n + 1:02d}") for n in range(15)]
    preview = device.import_history(history(tmp_path, diary(*films)), table=FILMS)
    assert (preview.too_many, preview.store().stored) == (5, 10)
    assert [each.item for each in device.store.events()] == ["f0", *(f"f{n}" for n in range(5, 15))], "the newest"
    assert device.loyalty().visits == 1
    assert sum(device._totals.now().quarters.values()) == 1
    assert sorted(device.interests([f"f{n}" for n in range(20)]).interactions().indices.tolist()) == [0, *range(5, 15)]


def test_two_imports_displace_each_other_and_nothing_that_was_done_in_the_app(
    open_device: Opened, tmp_path: Path
) -> None:
    device = open_device(clock=lambda: NOW, limits=palate.Limits(max_events=20))
    own = [f"f{n}" for n in range(30, 38)]
    for item in own:
        device.track("like", item, time=NOW - 40 * DAY)
    for films in (range(10), range(10, 20)):  # watched, nobody knows when: as old as the import
        lines = [f"2023-01-01,Film {n},{1990 + n},https://boxd.it/{n}\n" for n in films]
        text = "Date,Name,Year,Letterboxd URI\n" + "".join(lines)
        assert device.import_history(history(tmp_path, text, "watched.csv"), table=FILMS).store().stored == 10
    left = [each.item for each in device.store.events()]
    assert left[:8] == own
    assert len(left) == 18


def test_nothing_is_stored_without_consent_or_before_questions_are_answered(
    open_device: Opened, tmp_path: Path
) -> None:
    device = open_device(clock=lambda: NOW, consent=False)
    path = history(tmp_path, diary((1, "2024-01-01")))
    assert device.import_history(path, table=FILMS).store() == HistoryReport(None, 0, 0, 0, 0, 1)
    device.consent.grant("store")
    two = history(tmp_path, 'Title,Date\n"Film 1","4/5/25"\n', "NetflixViewingHistory.csv")
    preview = device.import_history(two, table=FILMS)
    assert preview.questions == {"dates": ("day first", "month first")}
    with pytest.raises(palate.InputError, match="`dates` must be said first"):
        preview.store()
    answered = device.import_history(two, table=FILMS, dates="month first")
    (told,) = answered.to_confirm
    with pytest.raises(palate.InputError, match="`confirmed` must be of `to_confirm`"):
        answered.store([palate.Suggestion("Film 1", None, "f2", ("f2",), 1)])
    assert answered.store().stored == 0, "a title without a year is only a suggestion"
    assert answered.store([told]).stored == 1
    assert [each.time for each in device.store.events()] == [moment("2025-04-05", "iso")]


def test_a_device_without_names_of_items_says_so(device: palate.Device, tmp_path: Path) -> None:
    with pytest.raises(palate.InputError, match="`table` must be names of the items"):
        device.import_history(history(tmp_path, diary((1, "2024-01-01"))))


def test_events_are_stored_together_or_not_at_all(
    device: palate.Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = history(tmp_path, diary(*((n, f"2024-01-{n + 1:02d}") for n in range(20))))
    preview = device.import_history(path, table=FILMS)
    deleted = EventStore._delete_excess

    def full(*_: Any) -> None:
        raise palate.PalateError("the disk is full")

    monkeypatch.setattr(EventStore, "_delete_excess", full)
    with pytest.raises(palate.PalateError, match="the disk is full"):
        preview.store()
    monkeypatch.setattr(EventStore, "_delete_excess", deleted)
    assert list(device.store.events()) == []
    assert device.imports() == ()
    assert preview.store().stored == 20


def test_an_export_brings_a_history_to_another_device(
    open_device: Opened, device: palate.Device, tmp_path: Path
) -> None:
    path = history(tmp_path, diary((1, "2018-10-01"), (2, "2024-01-02")))
    assert device.import_history(path, table=FILMS).store().stored == 2
    device.track("like", "f9")
    device.export(tmp_path / "mine.jsonl")
    other = open_device(path=tmp_path / "other", clock=lambda: NOW)
    report = other.import_jsonl(tmp_path / "mine.jsonl")
    assert (report.stored, report.too_old) == (3, 0), "it is of years ago by nature"
    assert [(each.service, each.events) for each in other.imports()] == [("export", 2)]
    assert other.import_history(path, table=FILMS).store().duplicates == 2


# Files that something has changed.

TRUE = {n: f"20{10 + n % 14:02d}-{1 + n % 12:02d}-{1 + n % 28:02d}" for n in range(40)}
"""Film -> the day on which it was seen."""


def _files() -> list[tuple[str, bytes]]:
    """A few services' files of the same days."""
    netflix = "Title,Date\n" + "".join(f'"Film {n}","{day[8:]}/{day[5:7]}/{day[:4]}"\n' for n, day in TRUE.items())
    imdb = "Const,Your Rating,Date Rated,Title,Title Type,Year\n" + "".join(
        f'tt{n:07d},{1 + n % 10},{day},"Film {n}",Movie,{1990 + n}\n' for n, day in TRUE.items()
    )
    trakt = json.dumps(
        [
            {
                "id": n,
                "watched_at": f"{day}T00:00:00.000Z",
                "type": "movie",
                "movie": {"title": f"Film {n}", "year": 1990 + n, "ids": {"imdb": f"tt{n:07d}"}},
            }
            for n, day in TRUE.items()
        ]
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("watched/watched-history-1.json", trakt)
        archive.writestr("x/user.json", "{}")
    return [
        ("NetflixViewingHistory.csv", netflix.encode()),
        ("diary.csv", diary(*TRUE.items()).encode()),
        ("ratings.csv", imdb.encode()),
        ("watched-history-1.json", trakt.encode()),
        ("trakt.zip", packed.getvalue()),
    ]


def _mutated(name: str, data: bytes, dice: random.Random) -> bytes:
    """The file, changed as spreadsheets, editors, disks and downloads change files; no digit becomes another digit."""
    binary = data[:2] == b"PK"
    for _ in range(dice.choice((1, 1, 2, 3))):
        at, what = dice.randrange(len(data) or 1), dice.randrange(12)
        if what == 0:
            data = data[:at]
        elif what == 1:  # within a line: two halves of two lines are a line that nobody can tell from a true one
            end = data.find(b"\n", at) if not binary else at + dice.randrange(200)
            data = data[:at] + data[min(at + dice.randrange(1, 30), max(end, at)) :]
        elif what == 2 and not binary:
            start, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at) + 1
            data = data[:end] + data[start:end] * dice.randrange(1, 4) + data[end:]
        elif what == 3:
            place = data[at : at + 1]
            byte = bytes([dice.randrange(256)])
            if binary or not (place.isdigit() or byte.isdigit()):
                data = data[:at] + byte + data[at + 1 :]
        elif binary:
            data = data[:at] + dice.randbytes(8) + data[at:]
        else:
            text = data.decode("utf-8", "replace")
            lines = text.splitlines(keepends=True)
            if what == 4:
                data = text.encode(dice.choice(("utf-16", "utf-8-sig", "utf-16-le", "utf-32")))
            elif what == 5:
                data = text.replace(",", dice.choice(";\t|")).encode()
            elif what == 6:
                data = text.replace('"', dice.choice(("", "'", '""'))).encode()
            elif what == 7:
                dice.shuffle(lines)
                data = "".join(lines).encode()
            elif what == 8:  # a spreadsheet of another country reads a part of the days, and writes them its own way
                swap = re.compile(r"\b(0?[1-9]|1[0-2])/(0?[1-9]|1[0-2])/(\d{4})\b")
                data = swap.sub(lambda m: f"{int(m[2])}/{int(m[1])}/{m[3]}", text, count=dice.randrange(1, 40)).encode()
            elif what == 9:
                data = re.sub(
                    r"(\d{4})-(\d\d)-(\d\d)", dice.choice((r"\3.\2.\1", r"\2/\3/\1", r"\1\2\3", "")), text
                ).encode()
            elif what == 10:
                cells = dice.choice(("Extra,", ",,", '"a\nb",'))
                data = "".join(cells + line if dice.random() < 0.5 else line for line in lines).encode()
            else:
                data = text.replace(dice.choice("{}[]:\n"), dice.choice(("", "[[", "\x00", "null"))).encode()
    return data


def test_files_that_something_has_changed_never_store_a_wrong_day_or_half_a_file(
    device: palate.Device, tmp_path: Path
) -> None:
    dice, files = random.Random(40), _files()  # noqa: S311 # the same for ever
    seen = refused = stored = 0
    days = {f"f{n}": moment(day, "iso") for n, day in TRUE.items()}
    for turn in range(2000):
        name, data = files[turn % len(files)]
        path = tmp_path / name
        path.write_bytes(_mutated(name, data, dice))
        try:
            preview = device.import_history(path, table=FILMS)
        except palate.InputError:
            refused += 1
            continue
        if preview.questions:
            continue
        seen += 1
        for kind, item, time in preview._sure:
            assert time in (days[item], None), (turn, name, kind, item, time)
        for (title, _), events in preview._perhaps.items():
            items = next(each.items for each in preview.to_confirm if each.title == title)
            for _, time in events:
                assert time in (None, *(days[item] for item in items)), (turn, name, title, time)
        if turn % 50 == 0:
            number = preview.store(preview.to_confirm).id
            if number is not None:
                stored += device.forget_import(number)
    assert seen > 500
    assert refused > 300
    assert stored > 100
    assert list(device.store.events()) == []


def test_zip_files_are_bounded_before_anything_is_unpacked(device: palate.Device, tmp_path: Path) -> None:
    def packed(write: Callable[[zipfile.ZipFile], None], *, lie: int = 0) -> Path:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            write(archive)
        data = buffer.getvalue()
        if lie:  # the size that the directory has, without what it is packed to
            at = data.rindex(b"PK\x01\x02") + 24
            data = data[:at] + lie.to_bytes(4, "little") + data[at + 4 :]
        path = tmp_path / "history.zip"
        path.write_bytes(data)
        return path

    def members(archive: zipfile.ZipFile) -> None:
        for n in range(10_001):
            archive.writestr(f"{n}", "")

    def comments(archive: zipfile.ZipFile) -> None:
        for n in range(71):
            info = zipfile.ZipInfo(f"{n}")
            info.comment = bytes(60_000)
            archive.writestr(info, "")

    huge = diary((1, "2024-01-01")) + "\n" * 3_000_000
    small = diary((1, "2024-01-01"))
    for write, lie, why in (
        (members, 0, "at most 10000 files, got 10001"),
        (comments, 0, "at most 10000 files, got 42[0-9]{5} bytes"),
        (lambda archive: archive.writestr("diary.csv", huge), 0, "packed over 300 times"),
        (lambda archive: archive.writestr("diary.csv", small), 2**31, "when unpacked"),
    ):
        with pytest.raises(palate.InputError, match=why):
            device.import_history(packed(write, lie=lie), table=FILMS)
    short = packed(lambda archive: archive.writestr("diary.csv", diary((1, "2024-01-01"))), lie=70)
    with pytest.raises(palate.InputError):
        device.import_history(short, table=FILMS)


def test_a_record_is_bounded_over_all_its_lines(device: palate.Device, tmp_path: Path) -> None:
    path = tmp_path / "diary.csv"
    path.write_text(diary((1, "2024-01-01")) + "\n" + '"a\n",' * 300_000)
    with pytest.raises(palate.InputError, match="at most 1048576 characters"):
        device.import_history(path, table=FILMS)


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_file_is_packed_as_a_browser_reads_it_or_is_refused(
    device: palate.Device, tmp_path: Path, kind: int
) -> None:
    path = tmp_path / "history.zip"
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("diary.csv", diary((1, "2024-01-01")))
    with pytest.raises(palate.InputError, match="packed in another way"):
        device.import_history(path, table=FILMS)


def test_a_name_in_a_zip_file_that_is_no_text_is_an_error_of_the_file(device: palate.Device, tmp_path: Path) -> None:
    path = tmp_path / "history.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("di\u00e4ry.csv", diary((1, "2024-01-01")))
    path.write_bytes(path.read_bytes().replace("\u00e4".encode(), b"\xff\xff"))
    with pytest.raises(palate.InputError, match="must be a readable file"):
        device.import_history(path, table=FILMS)


@pytest.mark.parametrize(
    ("texts", "orders"),
    [
        (["12/04/2022", "24/12/2021"], ("day first",)),
        (["4/21/25", "4/5/25"], ("month first",)),
        (["4/6/25", "4/5/25"], ("day first", "month first")),
        (["24.01.23", "03.02.23"], ("day first",)),
        (["3.01.2023", "24.11.2023"], ("day first",)),  # Poland: only months have two digits
        (["23. 1. 24.", "21. 12. 5."], ("year first",)),
        (["23. 1. 24.", "21. 12. 15."], ("day first", "year first")),
        (["27. 1. 31."], ("day first", "year first")),
        (["23. 1. 31.", "35. 1. 1."], ("year first",)),
        (["2021-12-15", "2021-01-02"], ()),
        (["", "now playing", "4/21/25"], ("month first",)),
    ],
)
def test_the_order_of_dates_is_what_the_whole_file_says(texts: list[str], orders: tuple[str, ...]) -> None:
    assert orders_of(texts) == orders
    assert all(ordered(text, order) is not None for order in orders for text in texts if text[:1].isdigit())


@pytest.mark.parametrize(
    "texts",
    [
        ["24.01.23", "01/03/2023"],
        ["4/12/2022", "24/12/2022", "05/11/2022"],
        ["4/21/25", "21/4/25"],
        ["2021-12-15", "12/15/2021"],
        ["4/5/25", "04/06/25"],
    ],
)
def test_dates_that_a_spreadsheet_has_rewritten_are_refused(texts: list[str]) -> None:
    with pytest.raises(palate.InputError, match="written in one way"):
        orders_of(texts)


def test_a_store_keeps_of_a_file_nothing_but_item_kind_time_and_value(device: palate.Device, tmp_path: Path) -> None:
    play = {
        "ts": "2024-01-05T20:11:03Z", "ms_played": 183000, "ip_addr": "192.0.2.77", "platform": "secret-phone",
        "master_metadata_track_name": "secret song", "master_metadata_album_artist_name": "secret artist",
        "spotify_track_uri": "spotify:track:0cQbJU3aWfsFbhGCWjJcnl", "username": "secret-user",
    }  # fmt: skip
    table = ItemTable.of([ItemFacts("s1", "Song", ids={"spotify": "0cQbJU3aWfsFbhGCWjJcnl"})])
    path = history(tmp_path, json.dumps([play]), "Streaming_History_Audio_1.json")
    preview: HistoryPreview = device.import_history(path, table=table)
    assert preview.store().stored == 1
    with device.store.transaction() as connection:
        text = repr([connection.execute(f"SELECT * FROM {name}").fetchall() for name in ("events", "meta")])  # noqa: S608
    assert "s1" in text
    assert "183.0" in text
    assert not any(each in text for each in ("secret", "192.0.2.77", "0cQbJU"))
