"""Folders as publishers unpack them load by path, with features of items and groups of users."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from palate_core.errors import InputError
from palate_sim.data import load, positives


def folder(tmp_path: Path, name: str, files: dict[str, str | bytes]) -> Path:
    (tmp_path / name).mkdir()
    for file, content in files.items():
        (tmp_path / name / file).write_bytes(content.encode() if isinstance(content, str) else content)
    return tmp_path / name


USERS_DAT = "1::F::1::10::48067\n2::M::56::16::70072\n"
LAYOUTS: dict[str, tuple[dict[str, str | bytes], list[str], list[list[str]] | None, list[list[str]] | None]] = {
    "ml-100k": (
        {
            "u.data": "1\t10\t3\t881250949\n2\t11\t4\t881250950\n",
            "u.genre": "unknown|0\nAction|1\nDrama|2\n\n",
            "u.item": b"10|Ast\xe9rix (1967)|01-Jan-1967||url|0|1|1\n11|B (1990)|||url|0|0|1\n12|C|||url|1|0|0\n",
            "u.user": "1|24|M|technician|85711\n2|60|F|other|94043\n",
        },
        ["1 10 3", "2 11 4"],
        [["10", "Astérix (1967)", "Action|Drama"], ["11", "B (1990)", "Drama"]],
        [["1", "male", "18-24"], ["2", "female", "56+"]],
    ),
    "ml-1m": (
        {
            "ratings.dat": "1::10::5::978300760\n2::11::3::978300761\n",
            "movies.dat": b"10::Caf\xe9 (1995)::Comedy|Drama\n11::B (1990)::(no genres listed)\n",
            "users.dat": USERS_DAT,
        },
        ["1 10 5", "2 11 3"],
        [["10", "Café (1995)", "Comedy|Drama"], ["11", "B (1990)", ""]],
        [["1", "female", "under 18"], ["2", "male", "56+"]],
    ),
    "ml-32m": (
        {
            "ratings.csv": "userId,movieId,rating,timestamp\n1,10,4.5,1112486027\n2,11,0.5,1112486028\n",
            "movies.csv": 'movieId,title,genres\n10,"A, The (1995)",Comedy\n11,B,Drama\n99,Z,Drama\n',
            "links.csv": "movieId,imdbId,tmdbId\n10,0068646,238\n",
        },
        ["1 10 4.5", "2 11 0.5"],
        [["10", "A, The (1995)", "Comedy", "0068646", "238"], ["11", "B", "Drama", "", ""]],
        None,
    ),
    "movietweetings": (
        {
            "ratings.dat": "1::0068646::10::1381620027\n2::0113277::7::1379466669\n",
            "movies.dat": "0068646::The Godfather (1972)::Crime|Drama\n0113277::Heat (1995)::Action\n",
        },
        ["1 0068646 10", "2 0113277 7"],
        [["0068646", "The Godfather (1972)", "Crime|Drama"], ["0113277", "Heat (1995)", "Action"]],
        None,
    ),
    "padded in one file only": (
        {
            "interactions.csv": "user,item,rating,timestamp\n1,68646,10,1381620027\n2,113277,7,1379466669\n",
            "movies.dat": "0068646::The Godfather (1972)::Crime\n0113277::Heat (1995)::Action\n",
        },
        ["1 68646 10", "2 113277 7"],
        [["68646", "The Godfather (1972)", "Crime"], ["113277", "Heat (1995)", "Action"]],
        None,
    ),
    "lastfm": (
        {
            "user_artists.dat": "userID\tartistID\tweight\n2\t51\t13883\n3\t52\t1\n",
            "artists.dat": 'id\tname\turl\tpictureURL\n51\tDuran "Duran\tu\tp\n52\tMorcheeba\tu\n',
        },
        ["2 51 13883", "3 52 1"],
        [["51", 'Duran "Duran'], ["52", "Morcheeba"]],
        None,
    ),
    "online-retail": (
        {
            "data.csv": "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
            '536365,85123A,"LAMP, WHITE",6,12/1/2010 8:26,2.55,17850.0,United Kingdom\n'
            "C536366,85123A,RETURN,-6,12/2/2010 8:26,2.55,17850.0,United Kingdom\n"
            "536367,71053,LANTERN,2,12/3/2010 8:26,3.39,,United Kingdom\n"
        },
        ["17850 85123A 6"],
        [["85123A", "LAMP, WHITE"]],
        None,
    ),
    "interactions": (
        {
            "interactions.csv.gz": gzip.compress(b"user,item,event,timestamp,session\n1,x,VIEW,5,9\n2,y,LIKE,6,9\n"),
            "items.csv": "item_id,title,genres\nx,X,News\ny,Y,Sport\n",
            "users.csv": "user_id,gender,age\n1,female,30\n",
        },
        ["1 x nan", "2 y nan"],
        [["x", "X", "News"], ["y", "Y", "Sport"]],
        [["1", "female", "25-34"]],
    ),
    "recbole": (
        {
            "set.inter": "user_id:token\titem_id:token\trating:float\n1\tx\t2.5\n2\ty\t3\n",
            "set.item": "item_id:token\nx\n",
        },
        ["1 x 2.5", "2 y 3"],
        None,
        None,
    ),
    "mind": (
        {
            "train-behaviors.tsv": "1\tU1\t11/11/2019 9:05:58 AM\tN1 N2\tN3-1 N4-0\n"
            "2\tU2\t11/12/2019 6:11:30 PM\t\tN1-1\n",
            "dev-behaviors.tsv": "1\tU1\t11/15/2019 8:00:00 AM\tN1 N2\tN4-1\n",
            "train-news.tsv": "N1\tnews\tus\tOne\t\tu\t[]\t[]\nN2\tsport\tnba\tTwo\t\tu\t[]\t[]\n",
        },
        ["U1 N1 nan", "U1 N2 nan", "U1 N3 nan", "U1 N4 nan", "U2 N1 nan"],
        [["N1", "One", "news|us"], ["N2", "Two", "sport|nba"]],
        None,
    ),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_a_folder_of_a_known_layout_loads(tmp_path: Path, case: str) -> None:
    files, rows, items, users = LAYOUTS[case]
    log = load(folder(tmp_path, "set", files))
    frame = log.frame.sort_values(["user_id", "item_id"])
    found = frame["user_id"] + " " + frame["item_id"] + " " + frame["value"].map(lambda value: f"{value:g}")
    assert found.tolist() == rows
    assert (None if log.items is None else log.items.values.tolist()) == items
    assert (None if log.users is None else log.users.values.tolist()) == users
    assert log.name == "set"


def test_the_clicks_of_mind_have_times_and_its_history_has_none(tmp_path: Path) -> None:
    frame = load(folder(tmp_path, "mind", LAYOUTS["mind"][0])).frame.set_index(["user_id", "item_id"])
    assert np.isnan(frame.loc[("U1", "N1"), "timestamp"])
    assert frame.loc[("U1", "N3"), "timestamp"] == pd.Timestamp("2019-11-11T09:05:58").timestamp()


def test_returns_are_counted(tmp_path: Path) -> None:
    log = load(folder(tmp_path, "retail", LAYOUTS["online-retail"][0]))
    assert log.repairs["rows_without_purchase"] == 1
    assert log.repairs["rows_without_id"] == 1


def test_groups_reach_the_pairs_in_their_order(tmp_path: Path) -> None:
    log = load(folder(tmp_path, "set", LAYOUTS["interactions"][0]))
    assert positives(log).groups == {"gender": ("female", "unknown"), "age": ("25-34", "unknown")}


@pytest.mark.parametrize(
    "files", [{}, {"notes.txt": "x"}, {"a.inter": "user_id\n", "b.inter": "user_id\n"}, {"behaviors.tsv": "1\tU1\n"}]
)
def test_an_unknown_layout_is_refused(tmp_path: Path, files: dict[str, str | bytes]) -> None:
    with pytest.raises(InputError, match=r"must be a folder|must have 5") as caught:
        load(folder(tmp_path, "set", files))
    assert "\n" not in str(caught.value)
