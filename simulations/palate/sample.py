"""Sample: a small signed model that comes with the package, so that a new app's first page recommends something.

    >>> import palate
    >>> sample = palate.sample()
    >>> device = palate.open("sample-data", app="bookshop", key=palate.new_key(), service=sample.service)
    >>> _ = device.consent.grant("store")
    >>> device.update_model(sample.folder)
    True
    >>> _ = device.track("like", "book-7"), device.track("like", "book-15")
    >>> len(device.recommend(5))
    5

It was trained on 2,000 made-up readers of 160 books on eight shelves (`book-7` and `book-15` are on the same one). Its
signing key was deleted after use, so no plan of its population can ever be signed, and its service takes part in no
round. A real app ships with the `Service` of its own server.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from palate_client.service import Service

FOLDER = Path(__file__).parent / "sample_model"
POPULATION = "sample: made readers, no rounds"


@dataclass(frozen=True)
class Sample:
    """A model to try the SDK with.

    Attributes:
        folder: the published model, for `Device.update_model`.
        service: the service that signed it; it takes part in no round.
    """

    folder: Path
    service: Service


def sample() -> Sample:
    """The sample model, and the service whose model it is."""
    public_key = (FOLDER / "public-key").read_text(encoding="ascii").strip()
    return Sample(FOLDER, Service(public_key=public_key, population=POPULATION, participations=0))
