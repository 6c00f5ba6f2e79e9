"""Logs of a server's parts: JSON lines, bounded, without colours, addresses, numbers of nodes, keys and tokens."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from palate_core.log.signing import SigningKey
from palate_server.folder.logs import KEEP, LINE, LogHandler, PartLog, harmless
from palate_server.service.processes.child import Child

SPEAKER = """
import sys
print("\\x1b[92mINFO \\x1b[0m:      Fleet API ready", flush=True)
print("\\x1b[93mWARNING \\x1b[0m:   peer 198.51.100.7:55123 went", file=sys.stderr, flush=True)
print("2026/11/27 16:00:00 [emerg] 12#12: bind() to 0.0.0.0:8443 failed (98: Address already in use)", flush=True)
print("", flush=True)
raise ValueError("node 18446744073709551615")
"""


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_what_a_process_says_is_json_with_time_level_and_part(tmp_path: Path) -> None:
    child = Child("serverapp", [sys.executable, "-c", SPEAKER], log=tmp_path / "serverapp.log", environment={})
    child.keep()
    deadline = time.monotonic() + 30.0
    while child.pid is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.stop()
    told = lines(tmp_path / "serverapp.log")
    assert all(set(line) == {"at", "level", "part", "text"} and line["part"] == "serverapp" for line in told)
    assert all(line["at"].endswith("+00:00") for line in told)
    assert [(line["level"], line["text"]) for line in told] == [
        ("info", "Fleet API ready"),
        ("warning", "peer ADDRESS went"),
        ("error", "12#12: bind() to 0.0.0.0:8443 failed (98: Address already in use)"),
        ("error", "Traceback (most recent call last):"),
        ("error", '  File "<string>", line 7, in <module>'),
        ("error", "ValueError: node #"),
    ]


def test_a_log_that_is_large_is_renamed_and_few_former_ones_are_kept(tmp_path: Path) -> None:
    log = PartLog(tmp_path / "gateway.log", "gateway", most=1000, keep=2)
    for number in range(60):
        log.tell(f"line {number} {'x' * 60}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gateway.1.log", "gateway.2.log", "gateway.log"]
    assert all(path.stat().st_size < 1200 for path in tmp_path.iterdir())
    kept = [line["text"].split()[1] for name in ("gateway.2.log", "gateway.1.log", "gateway.log")
            for line in lines(tmp_path / name)]  # fmt: skip
    assert kept == [str(number) for number in range(60 - len(kept), 60)], "no line between them is lost"
    alone = PartLog(tmp_path / "alone.log", "alone", most=1000, keep=0)
    for _ in range(60):
        alone.tell("x" * 60)
    assert [path.name for path in tmp_path.glob("alone*")] == ["alone.log"]
    log.tell("y " * 10 * LINE)
    assert len(lines(tmp_path / "gateway.log")[-1]["text"]) == LINE


def test_a_log_that_cannot_be_written_holds_nobody_up(tmp_path: Path) -> None:
    PartLog(tmp_path / "nowhere" / "gateway.log", "gateway").tell("anything")


def test_records_of_loggers_are_told_without_what_an_exception_says(tmp_path: Path) -> None:
    log, logger = PartLog(tmp_path / "supervisor.log", "supervisor"), logging.getLogger("palate-test-of-logs")
    handler = LogHandler(log)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        raise ValueError("a value of somebody")
    except ValueError:
        logger.exception("failed")
    logger.warning("to %s", "2001:db8::1")
    logger.removeHandler(handler)
    told = [(line["level"], line["text"]) for line in lines(tmp_path / "supervisor.log")]
    assert told == [("error", "failed: ValueError"), ("warning", "to ADDRESS")]
    assert KEEP > 0


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("203.0.113.7", "ADDRESS"),
        ("from 203.0.113.7:443, and 10.0.0.1.", "from ADDRESS, and ADDRESS."),
        ("[2001:db8::7]:443 and 2001:db8:0:0:0:0:0:7", "ADDRESS and ADDRESS"),
        ("::ffff:203.0.113.7 x", "ADDRESS x"),
        ("peer ipv6:%5B2001:db8::7%5D:4711 and %5Bfe80::1%25eth0%5D:7", "peer ipv6:ADDRESS and ADDRESS"),
        ("node_9223372036854775807 and run9223372036854775807", "node_# and run#"),
        ("0x" + "ab" * 16, "0x#"),
        (f"the token {'aB3_' * 10}.", "the token #."),
        (f"at https://x/{'aB3-' * 10}?", "at https://x/#?"),
        (f"the key {'aB3/' * 10}aB3= is known, and {'aB3+' * 10}", "the key # is known, and #"),
        (repr(b"\x04\xab'" + bytes(range(30))) + " came", "# came"),
        ("\x9b31mred\x9b0m", "31mred0m"),
        ('File "/opt/palate/lib/python3.13/site-packages/palate_server/service/serverapp.py", line 12', None),
        ("127.0.0.1:8444 and [::1]:8444 and 0.0.0.0:8443", "127.0.0.1:8444 and [::1]:8444 and 0.0.0.0:8443"),
        ("at 16:00:00, 2026-11-27T16:00:00+00:00", "at 16:00:00, 2026-11-27T16:00:00+00:00"),
        ("std::string, flwr 1.42.0", "std::string, flwr 1.42.0"),
        ("node 9223372036854775807!", "node #!"),
        ("run 20261127T160000-a1b2c3, round 12", "run 20261127T160000-a1b2c3, round 12"),
        ("/var/lib/palate/a-long-name-of-a-folder/that-goes-on-and-on/server.toml", None),
    ],
)
def test_what_could_name_a_device_is_removed_and_the_rest_stays(text: str, left: str | None) -> None:
    assert harmless(text) == (text if left is None else left)


def test_keys_and_tokens_are_removed() -> None:
    public, token = SigningKey.generate().public, secrets.token_urlsafe(32)
    pem = "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEu3kq2b6gXW7b1vZcJr0g1b2u3a4b5c6d"
    assert harmless(f"{public} {token}") == "# #"
    assert harmless(pem) == "#"


@example(b"\xc8\xd5.5B\xb9\x8c", "the key {} is known")  # in hexadecimal it begins with 13 decimal digits
@given(st.binary(max_size=32), st.sampled_from(["the key {} is known", "key={}", "'{}',", "<{}>."]))
def test_no_key_is_left_however_it_is_written(seed: bytes, said: str) -> None:
    key = hashlib.sha256(seed).digest()  # like one that somebody drew
    for text in (base64.b64encode(key), base64.urlsafe_b64encode(key), key.hex().encode(), key.hex().upper().encode()):
        written, left = text.decode(), harmless(said.format(text.decode()))
        assert not any(written[at : at + 12] in left for at in range(len(written) - 12)), left


def test_the_rest_of_a_line_that_is_too_long_is_cut_and_no_line_of_its_own(tmp_path: Path) -> None:
    """Else a key at the seam would be two halves, neither of which looks like one."""
    log = PartLog(tmp_path / "superlink.log", "superlink")
    key = secrets.token_hex(32)
    said = b"x " * (2 * LINE - 16) + key.encode() + b" y\nnext\n"
    log.follow(io.BytesIO(said))
    told = [line["text"] for line in lines(log.file)]
    assert len(told) == 2
    assert told[1] == "next"
    assert key[-16:] not in told[0]


@given(st.ip_addresses(), st.integers(1, 65535))
def test_no_address_is_left(address: Any, port: int) -> None:
    if address.is_loopback or address.is_unspecified:
        return
    for text in (str(address), f"client: {address}, server", f"{address}:{port}" if address.version == 4 else
                 f"[{address}]:{port}", f"('{address}', {port})"):  # fmt: skip
        assert str(address) not in harmless(text), text
