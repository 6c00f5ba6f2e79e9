"""The parts of a device: made when they are used, once, and told of a newer model."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import palate
from palate_client.models import Models
from palate_client.recommend.recommender import ModelRecommender
from palate_core.errors import InputError

Open = Callable[..., palate.Device]

LATE = ("palate_client.models", "palate_client.recommend.recommendations", "palate_client.delivery.messages")
LATE += ("palate_client.rounds.participation", "palate_client.online.online", "palate_client.online.sync")

USE = f"""
import sys, palate
with palate.open(sys.argv[1], app="shelf", key=bytes(range(32))) as device:
    for use in (lambda: device.forget_model(), lambda: device.model(), lambda: device.more_of("book-1"),
                lambda: device.loyalty(), lambda: device.arm("letters"), lambda: device.models.current(),
                lambda: device.rounds.refusal, lambda: device.recommendations, lambda: device.enrolment):
        use()
        print(*[name for name in {LATE} if name in sys.modules])
"""


def test_a_part_is_imported_when_it_is_first_used(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", USE, tmp_path], capture_output=True, text=True, timeout=60, check=True)
    loaded = [set(line.split()) for line in done.stdout.splitlines()]
    models, recommendations, messages, rounds, online, sync = ({name} for name in LATE)
    used = messages | models | rounds
    expected = [set(), set(), set(), set(), messages, messages | models, used, used | recommendations]
    assert loaded == [*map(set, expected), used | recommendations | online | sync]


def test_all_threads_get_the_same_part(open_device: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    device, both, got = open_device(), threading.Barrier(2), list[Models]()
    real = Models.__init__

    def slow(self: Models, *given: object) -> None:
        both.wait(20)  # both threads are inside before either has made one
        real(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Models, "__init__", slow)
    threads = [threading.Thread(target=lambda: got.append(device.models)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(got) == 2
    assert got[0] is got[1] is device.models


def test_a_model_that_is_taken_into_use_is_the_one_to_recommend_by(open_device: Open) -> None:
    sample = palate.sample()
    device = open_device(service=sample.service)
    found = None
    with pytest.raises(InputError, match="a device must have a model"):
        device.recommend()
    device.update_model(sample.folder)
    published = device.recommendations.recommender()
    found = device.model()
    assert found is not None
    device.use_model(found.model, found.items)
    own = device.recommendations.recommender()
    assert isinstance(own, ModelRecommender)
    assert own is not published
    assert device.recommendations.recommender() is own
    assert not device.update_model(sample.folder)  # it is in use already: the app's choice holds
    assert device.recommendations.recommender() is own
    device.models.taken = "a newer one's"
    assert device.recommendations.recommender() is not own
    device.forget_model()
    assert device.recommendations._used is None


def test_without_a_service_there_is_nothing_to_take_part_in(open_device: Open, tmp_path: Path) -> None:
    device = open_device()
    for call in (
        lambda: device.contribute(b"", b""),
        lambda: device.join(b"", b"", b"", number=0),
        lambda: device.update_model(tmp_path),
        lambda: device.files_to_download(tmp_path),
    ):
        with pytest.raises(InputError, match=r"`service` must be given to `palate\.open`: models and rounds"):
            call()
    assert (device.model(), device.enrolment, device.refusal) == (None, None, "")
    device.consent.grant("train")
    assert device.sync(seconds=1).ended == "not enrolled"
    assert device.privacy_report().spending is None
