"""A node of two people with a starter model of films, books and songs, and its service without a socket."""

from __future__ import annotations

import base64
import re
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from palate_client.starter import KEY_FILE, Starter
from palate_common.algorithms import PublicFacts, make_algorithm
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.item_table import ItemFacts, ItemTable
from palate_common.models.model import GlobalModel, ModelHeader
from palate_core.log.consistency import Shown
from palate_core.log.merkle import Checkpoint
from palate_core.log.signing import SigningKey
from palate_node.people import HostedPeople
from palate_node.service import application

FILMS = tuple(ItemFacts(f"tt{n:07d}", f"Film {n}", 1990 + n, ids={"imdb": f"tt{n:07d}"}) for n in range(1, 9))
SONGS = tuple(ItemFacts(f"mb-{n}", f"Maker {n} - Song {n}", ids={"musicbrainz": f"mb-{n}"}) for n in range(1, 9))
BOOKS = tuple(
    ItemFacts(f"97800000000{n:02d}", f"Book {n}", 2000 + n, ids={"isbn": f"97800000000{n:02d}"}) for n in range(1, 9)
)
KEY = SigningKey.generate()


def model_of(folder: Path) -> Starter:
    """A published model of the films, songs and books; the first are the most popular."""
    facts_of = (*FILMS, *SONGS, *BOOKS)
    facts = PublicFacts(n_users=99, n_items=len(facts_of), mu=None)
    catalogue = ItemCatalogue(tuple(each.item for each in facts_of))
    header = ModelHeader(algorithm="popularity", settings={}, facts=facts, releases=0, catalogue=catalogue.hash)
    start = make_algorithm("popularity", {}, facts).start()
    model = GlobalModel(header, start)
    shown = Shown(checkpoint=Checkpoint(1, "01" * 32))
    files = published.pack(model, catalogue, {}, KEY, population="starter", shown=shown, table=ItemTable.of(facts_of))
    published.write(folder, files)
    (folder / KEY_FILE).write_text(KEY.public)
    return Starter(folder)


@dataclass
class Household:
    """A node, and what its people do."""

    home: Path
    starter: Starter
    people: HostedPeople
    tokens: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._socket = listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._server = uvicorn.Server(
            uvicorn.Config(application(self.people), log_config=None, lifespan="off", ws="none")
        )
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        self.client = httpx.Client(base_url=self.url, timeout=30.0)

    def close(self) -> None:
        """End the service, and close all stores."""
        self.client.close()
        self._server.should_exit = True
        self._thread.join(30.0)
        self._socket.close()
        self.people.close()

    def ask(self, who: str, path: str, body: Any = None, /, *, basic: bool = False, **form: str) -> Any:
        """A request with a person's token."""
        token = self.tokens.get(who, who)
        said = f"Basic {base64.b64encode(f'{who}:{token}'.encode()).decode()}" if basic else f"Token {token}"
        headers = {"Authorization": said}
        if form:
            return self.client.post(path, data=form, headers=headers)
        return (
            self.client.get(path, headers=headers)
            if body is None
            else self.client.post(path, json=body, headers=headers)
        )

    def press(self, who: str, do: str, path: str = "/", /, **fields: str) -> Any:
        """A button of the page."""
        page = self.ask(who, path, basic=True).text
        (token, *_) = re.findall(r'name="token" value="([0-9a-f]{64})"', page) or [""]
        return self.ask(who, path, basic=True, do=do, token=token, **fields)

    def items(self, name: str) -> list[str]:
        return [each.item for each in self.people.get(name).device.store.events()]

    def again(self) -> Household:
        """The node, started again."""
        self.close()
        return Household(self.home, self.starter, HostedPeople(self.home, self.starter), self.tokens)


def listen(n: int, at: float = 1_700_000_000.0, kind: str = "single", **more: Any) -> dict[str, Any]:
    """A listen as Supysonic submits it."""
    track = {"artist_name": f"Maker {n}", "track_name": f"Song {n}", "additional_info": more}
    return {"listen_type": kind, "payload": [{"listened_at": at, "track_metadata": track}]}
