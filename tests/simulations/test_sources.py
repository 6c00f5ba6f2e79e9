"""A log may be several files, by a pattern or in a folder."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pandas as pd
import pytest

from palate_core.errors import InputError
from palate_sim.data import load, read_log

FRAME = pd.DataFrame({"user": [1, 2, 3, 1, 2, 3], "item": [7, 7, 8, 9, 9, 9], "ts": [5, 4, 3, 2, 1, 0]})


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    for number in range(3):
        part = FRAME.iloc[number * 2 : number * 2 + 2]
        part.to_parquet(tmp_path / f"part-{number}.parquet")
        part.to_csv(tmp_path / f"part-{number}.csv", index=False)
    return tmp_path


def test_a_pattern_and_a_folder_are_one_log(parts: Path) -> None:
    whole = read_log(FRAME)
    for source in (f"{parts}/part-?.csv", f"{parts}/**/*.parquet", parts, str(parts)):
        log = load(source)
        pd.testing.assert_frame_equal(log.frame, whole.frame)
        assert log.repairs == whole.repairs
        assert log.name == parts.name


def test_a_file_whose_name_is_a_pattern_is_a_file(tmp_path: Path) -> None:
    for name in ("log[1].csv", "a*b.csv", "what?.csv", "::.csv", "new\nline.csv"):
        FRAME.to_csv(tmp_path / name, index=False)
        assert load(tmp_path / name).rows.total == 6
        (tmp_path / name).unlink()


REFUSED = {
    "no file of the pattern": ("{parts}/*.tsv", "must be a pattern of existing files, got none for"),
    "an address": ("s3://bucket/log.csv", "must be an existing file, got 's3:/bucket/log.csv'"),
    "a pattern of both kinds": ("{parts}/part-[01].*", "must be files with .*, got .* in a file of another kind"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_there_is_refused_in_one_line(parts: Path, case: str) -> None:
    source, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as refused:
        load(source.format(parts=parts))
    assert "\n" not in str(refused.value)


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")

    def feed() -> None:
        (tmp_path / "log").write_bytes(FRAME.to_csv(index=False).encode())

    feeder = threading.Thread(target=feed)
    feeder.start()
    log = load(tmp_path / "log")
    feeder.join()
    pd.testing.assert_frame_equal(log.frame, read_log(FRAME).frame)


def test_what_is_no_file_is_refused_before_it_is_read(parts: Path) -> None:
    with pytest.raises(InputError, match="must be a file, got a device or something like it: '/dev/zero'"):
        load("/dev/zero")
    os.mkfifo(parts / "part-8.csv")
    with pytest.raises(InputError, match="must be a file, got a device or something like it: 'part-8"):
        load(f"{parts}/*.csv")


@pytest.mark.parametrize("source", ["{parts}/*.parquet", "{parts}"])
def test_a_part_that_is_a_broken_link_is_not_passed_over(parts: Path, source: str) -> None:
    (parts / "part-9.parquet").symlink_to(parts / "gone.parquet")
    with pytest.raises(InputError, match="must be an existing file, got 'part-9"):
        load(source.format(parts=parts))


def test_files_of_other_columns_are_refused(parts: Path) -> None:
    FRAME.drop(columns="ts").to_parquet(parts / "part-7.parquet")
    with pytest.raises(InputError, match=r"files with user_id, item_id, timestamp, got user_id, item_id: 'part-7"):
        load(parts)


def test_a_folder_with_nothing_in_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a folder with one of"):
        load(tmp_path)
