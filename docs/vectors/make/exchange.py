"""exchange.json: requests of devices with their signatures, refused ones, replies, versions, and a conversation."""

from __future__ import annotations

import hashlib
from typing import Any

from palate_common.rounds.exchange import (
    PATH,
    TAG,
    Availability,
    ExchangeRequest,
    MessageKind,
    ServerMessage,
    common_version,
    first_body,
)

from .key import SECRET, test_key
from .secagg import directories

TIME, POPULATION = 1_790_000_000_000, "readers"
FIRST, SECOND, THIRD = (f"{digit}" * 32 for digit in "a5c")


def exchange() -> dict[str, Any]:
    """Requests, replies, versions, and a conversation."""
    return {
        "private_key_hex": SECRET.hex(),
        "identity": test_key().public,
        "tag": TAG,
        "requests": _requests(),
        "refused": _refused(),
        "messages": _messages(),
        "refused_messages": _refused_messages(),
        "versions": [
            {"spoken": spoken, "taken": common_version(spoken)}
            for spoken in ("1-1", "1-3", "2-3", "3-2", "01-1", "1", "", "1-99999")
        ],
        "conversation": _conversation(),
    }


def _asked(
    answers: str = "", body: bytes = b"", *, wait: float = 20.0, stays: float = 90.5, takes: int = 3, time: int = TIME
) -> ExchangeRequest:
    return ExchangeRequest(
        7, answers, wait, Availability(stays, takes), time, len(body), hashlib.sha256(body).hexdigest()
    )


def _headers(asked: ExchangeRequest, population: str = POPULATION, path: str = PATH) -> dict[str, str]:
    return asked.signed(population, path, test_key())


def _requests() -> list[dict[str, Any]]:
    """What a device says, and the headers that say it."""
    cases = [
        ("a poll", _asked(), b"", POPULATION, PATH),
        ("an answer", _asked(FIRST, b"\x01\x02\x03"), b"\x01\x02\x03", POPULATION, PATH),
        ("below a path, another alphabet", _asked(wait=0.25, takes=1), b"", "lectrices é", f"/p/shop{PATH}"),
        ("longer than any wait, for ever", _asked(wait=1e9, stays=1e12), b"", POPULATION, PATH),
        ("it goes offline", _asked(wait=0.0, stays=0.0, takes=0), b"", POPULATION, PATH),
    ]
    return [
        {
            "name": name,
            "device": asked.device,
            "answers": asked.answers,
            "body_hex": body.hex(),
            "wait": asked.wait,
            "stays": asked.available.stays,
            "takes": asked.available.takes,
            "time": asked.time,
            "population": population,
            "path": path,
            "headers": _headers(asked, population, path),
        }
        for name, asked, body, population, path in cases
    ]


def _refused() -> list[dict[str, Any]]:
    """Headers that a server of `readers` at the usual path refuses: for their spelling, or for the signature."""
    right, answer = _headers(_asked()), _headers(_asked(FIRST, b"\x01\x02\x03"))
    other = hashlib.sha256(b"other").hexdigest()
    spelled = {
        "of a version to come": right | {"palate-version": "2"},
        "a number with a leading zero": right | {"palate-device": "07"},
        "a negative number": right | {"palate-device": "-7"},
        "a fraction": right | {"palate-wait": "0.5"},
        "digits of another alphabet": right | {"palate-time": "١٧٩"},
        "an exchange in capitals": answer | {"palate-answers": FIRST.upper()},
        "a short exchange": answer | {"palate-answers": FIRST[:31]},
        "a body that answers nothing": answer | {"palate-answers": "-"},
        "consents that there aren't": right | {"palate-takes": "4"},
        "a short signature": right | {"palate-signature": right["palate-signature"][:-1]},
        "without a signature": {name: value for name, value in right.items() if name != "palate-signature"},
        "without a length": {name: value for name, value in right.items() if name != "content-length"},
    }
    signed = {
        "another device's number": right | {"palate-device": "8"},
        "another time": right | {"palate-time": str(TIME + 1)},
        "another wait": right | {"palate-wait": "19999"},
        "another stay": right | {"palate-stays": "90501"},
        "another consent": right | {"palate-takes": "1"},
        "another body": answer | {"palate-body": other},
        "another length": answer | {"content-length": "4"},
        "another exchange": answer | {"palate-answers": SECOND},
        "of another population": _headers(_asked(), "listeners"),
        "of another path": _headers(_asked(), path=f"/p/shop{PATH}"),
        "another tag": right | {"palate-signature": test_key().sign("palate/enrol/1", b"palate/exchange/1")},
    }
    return [
        {"name": name, "why": why, "headers": headers}
        for why, cases in (("spelling", spelled), ("signature", signed))
        for name, headers in cases.items()
    ]


def _messages() -> list[dict[str, Any]]:
    """Replies with status 200, and what a device reads in them."""
    plan, directory, request = b"a plan", b"a directory", b"a request"
    cases = [
        ServerMessage(MessageKind.PLAN, FIRST, 70.0, plan),
        ServerMessage(MessageKind.MASKED, FIRST, 70.5, first_body(plan, directory, request)),
        ServerMessage(MessageKind.MASKED, FIRST, 70.5, first_body(plan, directories()[1].to_bytes(), request)),
        ServerMessage(MessageKind.STEP, SECOND, 0.0, request),
        ServerMessage(MessageKind.COME_BACK, THIRD, 3600.125),
    ]
    return [
        {
            "headers": case.headers(),
            "body_hex": case.body.hex(),
            "kind": case.kind.value,
            "exchange": case.exchange,
            "seconds": case.seconds,
            "plan_hex": case.parts[0].hex(),
            "directory_hex": case.parts[1].hex(),
            "request_hex": case.parts[2].hex(),
        }
        for case in cases
    ]


def _refused_messages() -> list[dict[str, Any]]:
    """Replies that are no message."""
    right = ServerMessage(MessageKind.MASKED, FIRST, 70.0).headers()
    cases = [
        ("another kind", right | {"palate-kind": "run-this"}, first_body(b"plan", b"list", b"request")),
        ("no exchange", {name: value for name, value in right.items() if name != "palate-exchange"}, b""),
        ("seconds below nothing", right | {"palate-seconds": "-1"}, first_body(b"plan", b"list", b"request")),
        ("seconds in words", right | {"palate-seconds": "inf"}, first_body(b"plan", b"list", b"request")),
        ("a first message that ends in its plan", right, first_body(b"plan", b"list", b"request")[:7]),
        ("a first message that ends in its directory", right, first_body(b"plan", b"list", b"request")[:14]),
        ("a first message without a request", right, first_body(b"plan", b"list", b"")),
        ("a first message without a directory", right, first_body(b"plan", b"", b"request")),
        ("a first message without a plan", right, first_body(b"", b"list", b"request")),
        ("an empty first message", right, b""),
    ]
    return [{"name": name, "headers": headers, "body_hex": body.hex()} for name, headers, body in cases]


def _conversation() -> list[dict[str, Any]]:
    """A device from its first request to its last: each request, and the reply that it gets.

    Its first answer is asked for again, as by a server that was killed, and its last one comes too late.
    """
    first, step = ServerMessage(MessageKind.MASKED, FIRST, 70.0, first_body(b"a plan", b"a list", b"keys?")), b"sum?"
    second = ServerMessage(MessageKind.STEP, SECOND, 0.0, step)
    home = ServerMessage(MessageKind.COME_BACK, THIRD, 600.0)
    steps: list[tuple[str, bytes, ServerMessage | None, str]] = [
        ("", b"", None, ""),
        ("", b"", first, ""),
        (FIRST, b"my keys", None, "late"),
        ("", b"", first, ""),
        (FIRST, b"my keys", second, "yes"),
        (SECOND, b"my sum", home, "late"),
        ("", b"", None, ""),
    ]
    found = []
    for number, (answers, body, message, taken) in enumerate(steps):
        leaves = number == len(steps) - 1
        asked = _asked(answers, body, time=TIME + number, **({"wait": 0.0, "stays": 0.0, "takes": 0} if leaves else {}))
        reply = ({} if message is None else message.headers()) | ({"palate-taken": taken} if taken else {})
        found.append(
            {
                "headers": _headers(asked),
                "body_hex": body.hex(),
                "status": 204 if message is None else 200,
                "reply_headers": reply,
                "reply_hex": "" if message is None else message.body.hex(),
            }
        )
    return found
