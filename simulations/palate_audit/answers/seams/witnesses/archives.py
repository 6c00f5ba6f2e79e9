"""Archives: what is unpacked of one that somebody else wrote."""

from __future__ import annotations

import io
import tarfile
from unittest import mock

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.folders import files_in, made_folder
from palate_audit.answers.made.telling import tell_result
from palate_audit.answers.seam import Seam
from palate_server.folder import archive


def _member(dice: Dice, name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.type, made.size, made.mode = tarfile.REGTYPE, len(data), dice.one_of((0o600, 0o4777, 0))
    return made, data


def _archives(dice: Dice, answer: CaseAnswer) -> None:
    """Archives that were made by hand: members that lack, are more, lead elsewhere, or are too many."""
    content = [
        ("server.toml", b'population = "p"\n[training]\nfeatures = "genres.npy"\n'), ("items", b"a\n"), ("key", b"k"),
        ("ledger.db", b"l"), ("enrolment.db", b"e"),
        ("genres.npy", b"f"), ("public/models/ab/model", b"m" * 700), ("runs/r/terms", b"t"),
        ("quarantine.json", b"{}"), ("panel.safetensors", b""),
    ]  # fmt: skip
    entries = [_member(dice, *each) for each in content]
    if dice.chance(0.25):
        del entries[dice.whole(0, len(entries) - 1)]
    if dice.chance(0.7):
        name = dice.one_of(
            (
                "runs/../../x",
                "/x",
                "key",
                "./runs//r/terms",
                "state/x",
                "ledger.db-wal",
                "other.npy",
                "public/y",
                "tls/z",
                "keys/k",
                "",
                ".",
                "runs",
                "a/b",
                "superlink.db",
            )
        )
        info, data = _member(dice, name, dice.one_of((b"", b"x", bytes(600))))
        info.type = dice.one_of(
            (tarfile.REGTYPE,) * 3
            + (
                tarfile.DIRTYPE,
                tarfile.SYMTYPE,
                tarfile.LNKTYPE,
                tarfile.AREGTYPE,
                tarfile.FIFOTYPE,
                tarfile.CHRTYPE,
                tarfile.CONTTYPE,
            )
        )
        info.linkname = dice.one_of(("", "key", "../key"))
        if info.type != tarfile.REGTYPE and dice.chance(0.7):
            info.size, data = 0, b""
        if dice.chance(0.25):
            info.pax_headers = {"comment": "c" * dice.one_of((100, archive.MOST_HEADER))}
        entries.insert(dice.whole(0, len(entries)), (info, data))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    whole = out.getvalue()
    total = sum(info.size for info, _ in entries)
    cut = dice.one_of(
        (whole,) * 16 + (whole[:-9500], whole[:700], b"", b"x" * 2000, whole[:-1], whole[:2200] + b"!" + whole[2201:])
    )
    with made_folder(answer) as root:
        saved, target = root / "backup.tar", root / "in" / "site"
        saved.write_bytes(cut)
        with (
            mock.patch.object(archive, "MOST", dice.one_of((*[total] * 8, total - 1, 2**34))),
            mock.patch.object(archive, "MANY", dice.one_of((*[len(entries)] * 8, len(entries) - 1, 2**20))),
            mock.patch.object(archive, "CHUNK", dice.one_of((3, 2**20))),
        ):
            tell_result(answer, archive.unpack, dice.one_of((saved,) * 9 + (root / "none",)), target)
        answer.tell(files_in(root / "in"))
        for place in ("a", "b/c", "x-wal", "y-shm"):
            (root / "made" / place).parent.mkdir(parents=True, exist_ok=True)
            (root / "made" / place).write_text(place)
        with tarfile.open(fileobj=io.BytesIO(archive.pack(root / "made"))) as tar:
            answer.tell([(each.name, each.isdir(), each.size) for each in tar])


SEAMS = (Seam("archives: what is unpacked", _archives, 36),)
