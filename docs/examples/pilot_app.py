"""An app that takes part in a pilot, on one user's machine: it recommends, waits for a round, and recommends again.

    python docs/examples/pilot_app.py HOME INVITATIONS NUMBER TITLE...

HOME is the app's folder, INVITATIONS a file of `palate serve enroll`, NUMBER the line that is this app's, from 1. Its
user agrees to everything and likes the titles.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path

import palate
from palate_common.records.files import create_durably

MOST = 170.0
"""Seconds to wait for a round and its model."""


def opened(home: Path, invitation: palate.Invitation) -> palate.Device:
    """The device of this app; a real app has the constants of its service built in, and no invitation's."""
    key_file = home / "app.key"
    home.mkdir(exist_ok=True, mode=0o700)
    if not key_file.exists():
        create_durably(key_file, palate.new_key(), mode=0o600)
    service = palate.Service(
        public_key=invitation.public_key,
        population=invitation.population,
        floors=palate.Floors().for_few(),  # a pilot has few people: tell them so
    )
    return palate.open(home / "palate", app="films", key=key_file.read_bytes(), preset="movies", service=service)


def show(device: palate.Device, when: str) -> None:
    """The user's list, and whether too few people have taken part."""
    items, model = device.items(), device.model()
    lines = [f"{when}, model {model.version}:"]
    for each in device.recommend(5, explore=0.0):
        lines.append(f"  {items.titles[each.item]}: {each.told('en', titles=items.titles)}")
    if others := model.elsewhere:
        lines.append(f"  too few people have taken part here yet: learned elsewhere, from {others:,} others")
    print("\n".join(lines), flush=True)


def main(home: Path, invitation: palate.Invitation, titles: list[str]) -> None:
    """One user's quarter of an hour."""
    with closing(opened(home, invitation)) as device:
        device.consent.grant("store")
        device.consent.grant("train")
        if device.enrolment is None:
            device.enroll(invitation)
        device.sync(models_only=True)
        ids = {title: item for item, title in device.items().titles.items()}
        device.like_to_start([ids[title] for title in titles])
        show(device, "before the round")
        end, rounds = time.monotonic() + MOST, 0
        while (left := end - time.monotonic()) > 0:
            result = device.sync(seconds=left)
            rounds += result.rounds
            if rounds and result.model:
                break
            time.sleep(min(result.next or 5.0, max(0.0, end - time.monotonic())))
        show(device, f"after {rounds} round(s)")


if __name__ == "__main__":
    _, place, file, number, *liked = sys.argv
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    main(Path(place), palate.Invitation.from_json(lines[int(number) - 1]), liked)
