"""Film shelf: a small app that hosts Palate, on the films of MovieLens.

    python docs/examples/film_shelf.py [--ask]

It asks its user (with `--ask`: you; without, somebody who agrees to everything), recommends, learns from what they do,
takes part in training, tells what left the device, gives the data back and forgets it. `FilmShelf` is the app; all that
it needs is `import palate` and a way to fetch and send bytes, for which `film_operator.py` stands in.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from film_operator import DELTA, POPULATION, Operator

import palate
from palate_common.records.files import create_durably

TEXT = "2026-01"
"""The version of the text that asks for consent: written down with each decision."""


class FilmShelf:
    """The app, on one user's machine.

    Args:
        home: the app's own folder.
        operator: the server, as the app reaches it.
        ask: puts a question to the user.
    """

    def __init__(self, home: Path, operator: Operator, ask: Callable[[str], bool]) -> None:
        self._home, self._operator, self._ask = home, operator, ask
        key_file = home / "shelf.key"  # a real app keeps it where it keeps its secrets, or lets the keyring do so
        if not key_file.exists():
            create_durably(key_file, palate.new_key(), mode=0o600)
        service = palate.Service(
            public_key=operator.public_key,  # in a real app: constants, never what was downloaded
            population=POPULATION,
            epsilon=6.0,  # the most that this user ever spends
            delta=DELTA,
            floors=palate.Floors(allow_central=True),  # this server is trusted with the noise
        )
        self.device = palate.open(
            home / "palate", app="film shelf", key=key_file.read_bytes(), preset="movies", service=service
        )

    def welcome(self) -> None:
        """Ask first: each purpose is a question of its own."""
        for purpose, question in (
            ("store", "May the shelf remember on this machine what you watch?"),
            ("train", "May it take part in training, with noise, so that all shelves get better?"),
        ):
            if self._ask(question):
                self.device.consent.grant(purpose, version=TEXT)  # type: ignore[arg-type] # names of purposes

    def update(self) -> int:
        """Fetch the latest model, the least of it, and take it into use. Returns how many bytes that took."""
        folder = self._home / "download"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        size = self._fetch(folder, "manifest.json") + self._fetch(folder, "signature")
        size += sum(self._fetch(folder, name) for name in self.device.files_to_download(folder))
        self.device.update_model(folder)
        return size

    def show(self, n: int = 5) -> list[str]:
        """Recommend, and say why."""
        shown = self.device.recommend(n)
        for each in shown:
            reason = each.reason if each.source == "exploration" else self.why(each.item)
            print(f"  {each.position + 1}. {self.title(each.item)} ({reason})")
        self.device.feedback(shown)  # these were seen; what the user then does is told as it happens
        return [each.item for each in shown]

    def take_part(self) -> bool:
        """Answer one round; whether anything left the device."""
        answer = self.device.contribute(*self._operator.plan())
        print(f"  {self._operator.take(answer)} took part; {len(answer):,} bytes left this device")
        return answer != b"refused"

    def why(self, item: str) -> str:
        """What of the user's own history speaks for an item, most first."""
        for_it = [each.item for each in self.device.explain(item).contributions if each.score > 0]
        return f"because of {' and '.join(map(self.title, for_it[:2]))}" if for_it else "popular with others"

    def title(self, item: str) -> str:
        """What the user reads."""
        return self._operator.titles.get(item, item)

    def _fetch(self, folder: Path, name: str) -> int:
        """Download a file; how many bytes that were."""
        return (folder / name).write_bytes((self._operator.site / name).read_bytes())


def story(home: Path, ask: Callable[[str], bool]) -> None:
    """A user's way through the app."""
    with Operator(home / "operator") as operator:
        shelf = FilmShelf(home, operator, ask)
        device = shelf.device
        print("Welcome to the film shelf.")
        shelf.welcome()
        shelf.update()
        device.like_to_start(["1", "260", "1196"])  # what a new user picks of some known films
        print("You picked", ", ".join(map(shelf.title, ("1", "260", "1196"))))
        number = 0
        while not operator.finished:
            number += 1
            print(f"Round {number}:")
            shelf.take_part()
        print(f"A new model: {shelf.update():,} bytes to download")
        print("For you:")
        first, second, *_ = shelf.show()
        device.track("rate", first, value=5)
        device.less_of(second)
        print(f"You gave 5 stars to {shelf.title(first)}, and want less like {shelf.title(second)}. Now:")
        third, *_ = shelf.show()
        print(f"Why {shelf.title(third)}? What each film adds to its score:")
        for each in device.explain(third).contributions:
            print(f"  {each.score:+.3f} {shelf.title(each.item)}")
        print(device.privacy_report())
        print(f"Your data: {device.export(home / 'mine.jsonl')} lines in mine.jsonl")
        print("You change your mind.", device.consent.revoke("train", version=TEXT).remains)
        device.erase()
        print("Erased.", [path.name for path in (home / "palate").iterdir()])


def asked(question: str) -> bool:
    """A question to whoever sits here."""
    return input(f"{question} [y/N] ").strip().lower() == "y"


def agreed(question: str) -> bool:
    """Somebody who agrees to everything."""
    print(f"{question} yes")
    return True


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        story(Path(place), asked if "--ask" in sys.argv[1:] else agreed)
