"""Domains: several catalogues in one log, such as the films, the news and the music of one service.

Part of the readers. A user is the same person in all of them; an item belongs to one.

    >>> import pandas as pd
    >>> from palate_sim.data import read_log
    >>> films = read_log(pd.DataFrame({"user": ["ann", "bob"], "item": ["f1", "f2"]}))
    >>> songs = read_log(pd.DataFrame({"user": ["ann"], "item": ["s1"]}))
    >>> both = joined({"films": films, "songs": songs})
    >>> both.frame["user_id"].tolist(), domains_of(both.items, ("f1", "f2", "s1"))
    (['ann', 'ann', 'bob'], ('films', 'films', 'songs'))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from palate_core.errors import InputError
from palate_sim.data.columns import show
from palate_sim.data.log import InteractionLog

DOMAIN = "domain"
"""The column of an item table that says which catalogue an item belongs to."""
OTHER = "other"
"""The domain of an item that has none, where others have one."""


class Domains:
    """The domain of each item of a log that comes in batches."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._pairs = pd.DataFrame({"item": np.zeros(0, np.int32), "domain": np.zeros(0, np.int64)})

    def add(self, items: npt.NDArray[np.int32], domains: pd.Series) -> None:
        """Take the domains of rows; rows without an item, number -1, and empty domains say nothing."""
        codes, names = pd.factorize(domains.fillna("").astype("str").str.strip())
        recode = np.array([self._names.setdefault(name, len(self._names)) if name else -1 for name in names], np.int64)
        found = pd.DataFrame({"item": items, "domain": recode[codes]})
        found = found[(found["item"] >= 0) & (found["domain"] >= 0)].drop_duplicates()
        self._pairs = pd.concat([self._pairs, found]).drop_duplicates()

    def table(self, ids: pa.ChunkedArray) -> pd.DataFrame | None:
        """`item_id` and `domain`, one row an item; None if no row had a domain.

        Raises:
            InputError: an item of two domains.
        """
        if not self._names and not len(self._pairs):
            return None
        names = np.array([*self._names], dtype=object)
        twice = self._pairs[self._pairs["item"].duplicated(keep=False)]
        if len(twice):
            item = twice["item"].iloc[0]
            found = ", ".join(map(show, sorted(names[twice[twice["item"] == item]["domain"]])))
            raise InputError(f"`domain` must be one for each item, got {found} for {show(ids[int(item)].as_py())}")
        of = ids.take(pa.array(self._pairs["item"].to_numpy()))
        return pd.DataFrame({"item_id": pd.Series(of.to_pandas(), dtype="str"), DOMAIN: names[self._pairs["domain"]]})


def with_domains(items: pd.DataFrame | None, domains: pd.DataFrame | None) -> pd.DataFrame | None:
    """Item features with the log's own domains, which override those of a file beside the log."""
    if items is None or domains is None:
        return domains if items is None else items
    both: pd.DataFrame = domains.merge(items.drop(columns=DOMAIN, errors="ignore"), on="item_id", how="outer")
    return both


def joined(logs: Mapping[str, InteractionLog]) -> InteractionLog:
    """Join several logs into one; each log is a domain.

    Args:
        logs: domain -> its log. The same user id is the same user; an item id must be in one log only.

    Raises:
        InputError: no logs, a domain without a name or over several lines, or an item in two of them.
    """
    if not logs:
        raise InputError("`data.domains` must name a log for each domain, got none")
    items, owner = [], dict[str, str]()
    for domain, log in logs.items():
        if not domain.strip() or "\n" in domain or "\r" in domain:
            raise InputError(f"`data.domains` must have names on one line, got {show(domain)}")
        ids = pd.Series(log.present_items, dtype="str")
        both = next((item for item in ids if item in owner), None)
        if both is not None:
            raise InputError(
                f"`data.domains` must have an item in one domain only, got {show(both)} in {show(owner[both])} and "
                f"{show(domain)}: write the domain into the ids, as the app does on devices"
            )
        owner |= dict.fromkeys(ids, domain)
        table = pd.DataFrame({"item_id": ids, DOMAIN: domain})
        known = log.items
        items.append(table if known is None else table.merge(known.drop(columns=DOMAIN, errors="ignore"), how="left"))
    frame = pd.concat([log.frame for log in logs.values()], ignore_index=True)
    groups = [log.users for log in logs.values() if log.users is not None]
    repairs: dict[str, int] = {}
    for log in logs.values():
        repairs |= {name: repairs.get(name, 0) + count for name, count in log.repairs.items()}
    single = int((frame["user_id"].value_counts() == 1).sum())
    repairs |= {"single_event_users": single} if single or "single_event_users" in repairs else {}
    return InteractionLog.from_frame(
        frame.sort_values(["user_id", "timestamp"], kind="stable", ignore_index=True),
        items=pd.concat(items, ignore_index=True),
        users=pd.concat(groups, ignore_index=True).drop_duplicates("user_id") if groups else None,
        repairs=repairs,
        name=" + ".join(logs),
        terms="; ".join(dict.fromkeys(log.terms for log in logs.values() if log.terms)),
    )


def domains_of(table: pd.DataFrame | None, items: Sequence[str]) -> tuple[str, ...] | None:
    """The domain of each item, in order; None where the table names none."""
    if table is None or DOMAIN not in table:
        return None
    known = table.drop_duplicates("item_id").set_index("item_id")[DOMAIN].reindex(list(items)).fillna("").astype(str)
    found = tuple(domain.strip() or OTHER for domain in known)
    return None if set(found) == {OTHER} else found
