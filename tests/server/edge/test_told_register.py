"""An edge without a register of its own lets in whom it was told of, and nobody before that."""

from __future__ import annotations

import pytest

from palate_core.errors import IntegrityError, PalateError
from palate_server.edge import told_register
from palate_server.edge.batches import SHARED, unpack
from palate_server.edge.told_register import ToldRegister, next_part
from palate_server.folder.enrolments import Enrolments, Standing

IDENTITIES = [bytes([number]) * 32 for number in range(1, 6)]


def known(register: ToldRegister) -> tuple[int, int]:
    """How many devices, and how many revoked ones, it knows."""
    return len(register._identities) // 32, len(register._revoked or ())


def test_what_was_told_is_known_and_nobody_else() -> None:
    register = ToldRegister()
    with pytest.raises(PalateError, match="wasn't yet"):
        register.standing(0)
    register.hear(3, [(0, b"".join(IDENTITIES[:2])), (2, IDENTITIES[2]), (SHARED, b"\1\0\0\0")])
    assert known(register) == (3, 1)
    assert [register.standing(device) for device in range(3)] == [
        Standing(identity.hex(), device == 1) for device, identity in enumerate(IDENTITIES[:3])
    ]
    with pytest.raises(PalateError, match="wasn't yet"):
        register.standing(3)
    register.hear(4, [(3, IDENTITIES[3])])
    assert known(register) == (4, 1), "who is revoked stays so"


def test_nobody_is_let_in_before_it_was_told_who_is_revoked() -> None:
    register = ToldRegister()
    register.hear(2, [(0, b"".join(IDENTITIES[:2]))])
    with pytest.raises(PalateError, match="wasn't yet"):
        register.standing(1)
    register.hear(2, [(SHARED, b"\1\0\0\0")])
    assert register.standing(1) == Standing(IDENTITIES[1].hex(), revoked=True)


def test_a_server_that_was_restored_tells_all_anew() -> None:
    register = ToldRegister()
    register.hear(4, [(0, b"".join(IDENTITIES[:4])), (SHARED, b"\0\0\0\0\3\0\0\0")])
    register.hear(2, [(0, IDENTITIES[0] + IDENTITIES[4]), (SHARED, b"")])
    assert register.standing(1) == Standing(IDENTITIES[4].hex(), revoked=False)
    assert known(register) == (2, 0)


@pytest.mark.parametrize("told", [(1, b"x" * 32), (0, b"x" * 33)], ids=["a gap", "half an identity"])
def test_what_does_not_go_on_is_refused(told: tuple[int, bytes]) -> None:
    register = ToldRegister()
    with pytest.raises(IntegrityError, match="must go on where they end"):
        register.hear(2, [told])
    assert known(register) == (0, 0)


def test_a_register_tells_what_an_edge_needs() -> None:
    with Enrolments(":memory:") as register:
        for identity in IDENTITIES:
            register.enrol(register.invite(now=0.0, hours=1.0), identity=identity.hex(), now=1.0)
        register.revoke(3, now=2.0)
        assert register.extent() == (5, 1)
        assert register.revoked() == [3]
        assert register.identities(1, 2) == IDENTITIES[1] + IDENTITIES[2]
        assert register.identities(5, 9) == b""


def test_a_register_is_told_in_parts_and_what_is_new_alone_after_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_register, "MOST_BATCH", 64)
    with Enrolments(":memory:") as register:
        edge, told, parts = ToldRegister(), None, list[int]()

        def enrol(identity: bytes) -> None:
            register.enrol(register.invite(now=0.0, hours=1.0), identity=identity.hex(), now=1.0)

        def tell() -> None:
            nonlocal told
            while told != register.extent():
                batch, told = next_part(register, told)
                head, frames = unpack(batch)
                edge.hear(head["count"], frames)
                parts.append(len(frames[0][1]) // 32)

        tell()
        assert (parts, known(edge)) == ([0], (0, 0))
        for identity in IDENTITIES[:3]:
            enrol(identity)
        register.revoke(1, now=2.0)
        tell()
        assert (parts, known(edge)) == ([0, 2, 1], (3, 1))
        enrol(IDENTITIES[3])
        register.revoke(0, now=2.0)
        tell()
        assert (parts, known(edge)) == ([0, 2, 1, 1], (4, 2))
        assert edge.standing(0) == Standing(IDENTITIES[0].hex(), revoked=True)
