"""Profiles: what follows from a few answers, what isn't to be looser, and the questions of `palate serve init`."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from palate_cli.cli import run
from palate_cli.commands.serve.questions import QUESTIONS, ask, read_address, read_devices, read_witness
from palate_cli.ending import interruptible
from palate_core.accounting import mu_of
from palate_core.errors import InputError
from palate_core.log.canonical import digest
from palate_core.log.notes import COSIGNATURE, VerifierKey
from palate_core.log.signing import SigningKey
from palate_server.folder.config import ServerConfig, explained, parse_config
from palate_server.folder.profiles import (
    _DEFAULTS,
    PROFILES,
    RULES,
    TRIAL_WORDS,
    bounds_of,
    complete,
    settings_of,
)
from palate_server.folder.server_folder import Site
from palate_server.operation.releases import publish
from palate_server.rounds.terms import noise_delta
from palate_server.service import setup
from palate_server.service.setup import make_site, read_items, server_toml
from palate_server.service.status import read_status, unpublished
from palate_server.service.supervisor import Supervisor
from palate_sim.card.card import card_payload, sign_card

ITEMS = ("a", "b", "c")
WITNESS = str(
    VerifierKey.of("witness.example/palate", SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32))), COSIGNATURE)
)


def made(profile: str, **changes: Any) -> ServerConfig:
    """A configuration with a profile; `privacy_epsilon=1` is the key `privacy.epsilon`."""
    raw: dict[str, Any] = {"population": "p", "profile": profile}
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            raw.setdefault(section, {})[key] = value
        else:
            raw[name] = value
    return ServerConfig.model_validate(raw)


@given(profile=st.sampled_from(list(PROFILES)), devices=st.integers(100, 10**9), share=st.floats(0.05, 1.0))
def test_what_follows_spends_no_more_than_was_answered(profile: str, devices: int, share: float) -> None:
    """All runs of a year fit into its epsilon, a year into the lifetime, and the lifetime into the profile's years."""
    kind = PROFILES[profile]
    config = made(profile, devices=devices, privacy__period_epsilon=kind.epsilon * share)
    privacy, delta = config.privacy, noise_delta(config.privacy.dp, config.privacy.delta)
    run_, year, life = (
        mu_of(epsilon=each, delta=delta) ** 2
        for each in (privacy.epsilon, privacy.period_epsilon, privacy.lifetime_epsilon)
    )
    assert kind.runs * run_ <= year * (1 + 1e-9)
    assert year <= life * (1 + 1e-9) or privacy.lifetime_epsilon == privacy.period_epsilon
    assert life <= kind.years * year * (1 + 1e-9)
    assert 1e-8 <= privacy.delta <= 1e-6
    assert privacy.delta * devices <= max(0.1 * (1 + 1e-9), 1e-8 * devices)
    assert kind.least_cohort <= config.cohort.size <= min(devices, 1000)
    assert config.gateway.connections >= 2 * config.cohort.size or config.gateway.connections == 200


@pytest.mark.parametrize(("size", "connections"), [(100, 200), (32_767, 65_534), (32_768, 65_535), (99_999, 65_535)])
def test_of_one_address_no_more_connections_follow_than_nginx_counts(size: int, connections: int) -> None:
    config = made("public", devices=10**6, cohort__size=size)
    assert config.gateway.connections == connections
    with pytest.raises((InputError, ValidationError), match="65535"):
        made("public", devices=10**6, gateway__connections=65_536)


@pytest.mark.parametrize(
    ("profile", "changes", "message"),
    [
        ("public", {"privacy__corrupt": 0.05}, "`privacy.corrupt` must be at least 0.1 with the profile public"),
        ("company", {"privacy__dp": "central"}, "`privacy.dp` must be distributed or local"),
        ("company", {"privacy__noise": "seeded"}, "`privacy.noise` must be secure"),
        ("public", {"privacy__period_epsilon": 4.5}, "`privacy.period_epsilon` must be at most 4"),
        ("public", {"privacy__lifetime_epsilon": 8.5}, "`privacy.lifetime_epsilon` must be at most 8"),
        ("company", {"privacy__period_days": 90}, "`privacy.period_days` must be at least 365"),
        ("public", {"devices": 2_000_000, "privacy__delta": 1e-6}, "`privacy.delta` must be at most 5e-08"),
        ("company", {"cohort__size": 24}, "`cohort.size` must be at least 25"),
        ("public", {"devices": 99}, "`devices` must be at least 100"),
        ("trial", {"devices": 20, "cohort__size": 21}, "`cohort.size` must be at most `devices`, 20, got 21"),
        (
            "company",
            {"devices": 900, "cohort__size": 74, "cohort__subcohorts": 3},
            "`cohort.size` must be at least 25 for each of 3 sub-cohorts with the profile company",
        ),
    ],
)
def test_nothing_is_looser_than_a_profile_holds(profile: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        made(profile, **changes)
    assert message in str(caught.value)


@pytest.mark.parametrize("profile", ["pilot", "company", "public", "commons"])
def test_every_floor_is_kept_by_what_the_profile_sets_and_each_can_be_broken(profile: str) -> None:
    """No floor is one that nothing breaks: each has a value that is refused."""
    config = made(profile)
    loose = {"privacy.dp": "central", "privacy.noise": "seeded", "privacy.period_days": 1, "devices": 2}
    loose |= {"privacy.corrupt": 0.0, "privacy.delta": 1e-3, "cohort.size": 2}
    loose |= {"privacy.period_epsilon": 1e3, "privacy.lifetime_epsilon": 1e3}
    bounds = list(bounds_of(profile, config.devices or 0))
    assert {bound.key for bound in bounds} == set(loose)
    assert not [bound.key for bound in bounds if bound.is_kept(loose[bound.key])]


def test_without_a_profile_nothing_follows_and_old_files_mean_what_they_meant() -> None:
    old = {"population": "p", "gateway": {"port": 9000}, "privacy": {"epsilon": 2.0}}
    assert complete(old)[0] == old
    config = ServerConfig.model_validate(old)
    assert (config.gateway.superlink_port, config.cohort.size, config.privacy.period_days) == (8444, 100, 90)
    with pytest.raises(ValidationError, match="`devices` must be left out where there is no `profile`"):
        ServerConfig.model_validate({**old, "devices": 100})


def test_what_is_set_wins_and_what_follows_from_it_follows() -> None:
    config = made("company", devices=4000, cohort__size=50, gateway__port=9000, gateway__metrics_port=7000)
    assert (config.cohort.size, config.gateway.requests_per_second) == (50, 50)
    assert config.gateway.loopback_ports == [9001, 7000]
    assert made("company", cohort__exchange_seconds=600.0).cohort.plan_seconds == 6000


def test_rules_know_the_defaults_that_they_need_and_every_key_that_they_name() -> None:
    defaults = dict(_flat(ServerConfig(population="p").model_dump()))
    assert {key: defaults[key] for key in _DEFAULTS} == {key: _plain(value) for key, value in _DEFAULTS.items()}
    named = {rule.key for rule in RULES} | {key for each in PROFILES.values() for key in settings_of(each)}
    assert named <= set(defaults)
    assert {key for each in QUESTIONS for key in (each.key, *each.also)} <= set(defaults)


def _flat(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from ((f"{key}.{name}", each) for name, each in value.items())
        else:
            yield key, value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('profile = "publix"', "`profile` must be 'trial', 'pilot', 'company', 'public' or 'commons', got 'publix'"),
        ('profile = "public"\ndevices = "many"', "`devices` must be a number above 0, got 'many'"),
        ('profile = "public"\n[privacy]\nperiod_epsilon = nan', "`privacy.period_epsilon` must be a number above 0"),
        ('profile = "public"\nprivacy = 3', r"privacy"),
        ('profile = "public"\n[privacy]\ndelta = 1e-12', "delta"),
        ('profile = "public"\n[cohort]\nsize = true', "`cohort.size` must be a number above 0, got True"),
        ('profile = "public"\n[witnesses]\nkeys = "x"', "`witnesses.keys` must be a list, got 'x'"),
        ('profile = "public"\n[privacy]\ndp = "of"', "`privacy.dp` must be"),
        ('profile = "public"\n[gateway]\nport = 65534', "`metrics_port` must be less than"),
    ],
)
def test_odd_profiles_are_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_config(f'population = "p"\n{text}\n'.encode(), "server.toml")
    assert "\n" not in str(caught.value)


def test_each_setting_is_told_with_where_it_is_from(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('population = "p"\nprofile = "public"\n[cohort]\nwait_seconds = 60.0\n')
    told = {each.key: each for each in explained(file)}
    assert set(told) == set(dict(_flat(ServerConfig(population="p").model_dump())))
    assert {each.source for each in told.values()} == {"set", "profile", "derived", "default"}
    assert (told["cohort.wait_seconds"].source, told["training.every_hours"].source) == ("set", "profile")
    assert all(bool(each.why) == (each.source in ("profile", "derived")) for each in told.values())
    config = parse_config(file.read_bytes(), file.name)
    assert told["privacy.epsilon"].value == config.privacy.epsilon


@pytest.mark.parametrize("profile", PROFILES)
def test_nobody_has_to_understand_more_than_eight_settings(profile: str, tmp_path: Path) -> None:
    """What the documents list as to be understood is what is asked, in that order, and no more."""
    (tmp_path / "items").write_text("a\n")
    page = (Path(__file__).parents[3] / "docs/server.md").read_text()
    table = page.partition("### Before the first round")[2].partition("### Profiles")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    with CliRunner().isolation(f"\n{profile}\n{tmp_path / 'items'}\n\n\n\n\n\n") as (out, *_):
        found = ask({"folder": tmp_path / "site"})
        said = out.getvalue().decode()
    asked = [question for _, question, _, whom in rows if whom == "all" or profile in whom]
    assert re.findall(r"^(.+?) \[.*?\]: ", said, re.MULTILINE) == asked
    assert len(asked) == {"trial": 6, "pilot": 6, "company": 7, "public": 8, "commons": 8}[profile]
    assert [f"`{key}`" for key in found if key != "folder"] == [
        keys.split(",")[0] for keys, question, *_ in rows if question in asked
    ]


def site_of(folder: Path, profile: str, **changes: Any) -> Site:
    given = {"population": "p", "profile": profile, "devices": changes.pop("devices", 400)}
    given |= {"backup.witness": changes.pop("kept", None), **changes}
    return make_site(folder, server_toml(given), ITEMS)


def test_a_profile_serves_only_with_what_it_asks_for(tmp_path: Path) -> None:
    """Fail closed: nothing is started before it."""
    site = site_of(tmp_path / "company", "company")
    assert ["`backup.witness` must" in each for each in read_status(site).missing] == [True]
    with pytest.raises(InputError, match=r"before it serves: `backup.witness` must name a folder outside"):
        Supervisor(site, card=lambda _: b"")
    inside = site_of(tmp_path / "inside", "company", kept="witness/deep")
    with pytest.raises(InputError, match="outside"):
        inside.config.check_ready(inside.folder)
    outside = site_of(tmp_path / "outside", "company", kept="../outside-plans")
    outside.config.check_ready(outside.folder)
    public = site_of(tmp_path / "public", "public", kept="../public-plans")
    assert ["witness of the ledger" in each for each in public.config.missing(public.folder)] == [True]
    cosigned = {"witnesses.keys": [WITNESS], "witnesses.urls": ["https://witness.example"]}
    watched = site_of(tmp_path / "watched", "public", kept="../watched-plans", **cosigned)
    watched.config.check_ready(watched.folder)
    assert watched.config.witnesses.needed == 1
    trial = site_of(tmp_path / "trial", "trial")
    trial.config.check_ready(trial.folder)


def test_a_trial_says_so_on_status_and_model_and_others_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for profile in ("trial", "company"):
        site = site_of(tmp_path / profile, profile)
        assert run(["serve", "status", str(site.folder)]) == 0
        assert (TRIAL_WORDS in capsys.readouterr().out) == (profile == "trial")
        [manifest] = site.models.glob("*/manifest.json")
        assert json.loads(manifest.read_text()).get("trial") == (True if profile == "trial" else None)


def test_a_trials_release_and_card_say_so_and_its_audit_finds_nothing_odd(
    make_service: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """And a run stays a trial's where the profile is another one meanwhile."""
    service = make_service(algorithm="als")
    site, own = service.site, service.site.config
    vars(site)["config"] = own.model_copy(update={"profile": "trial", "devices": 8})
    service.operate()
    vars(site)["config"] = own
    with site.ledger(read_only=True) as ledger:
        name, key = unpublished(ledger), site.key()
        assert name is not None
        assert ledger.entries(name)[0].body["facts"]["about"]["profile"] == "trial"
    found = publish(site, name, lambda extract: sign_card(card_payload(extract), key))
    assert found.manifest.model_dump()["trial"] is True
    folder = site.models / digest(found.files["manifest.json"])
    card = json.loads((folder / "privacy_card.json").read_text())
    assert card["stamp"] == "TRIAL: of a server that is only tried out"
    assert card["epsilon"] is not None, "what is claimed is claimed as elsewhere"
    assert run(["audit", "ledger", str(site.folder)]) == 0, capsys.readouterr().out


def test_the_options_of_init_say_the_same_as_its_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "items").write_text("a\nb\n")
    base = ["serve", "init", "--items", str(tmp_path / "items"), "--population", "p"]
    told = [*base, str(tmp_path / "a"), "--profile", "public", "--devices", "5000", "--name", "x.example"]
    told += ["--port", "9000", "--backup-witness", "../plans", "--witness", f"{WITNESS} https://w.example"]
    told += ["--period-epsilon", "3"]
    assert run(told) == 0
    config = Site.at(tmp_path / "a").config
    assert (config.profile, config.devices, config.name, config.gateway.port) == ("public", 5000, "x.example", 9000)
    assert (config.privacy.period_epsilon, config.backup.witness, config.cohort.size) == (3.0, "../plans", 500)
    assert (config.witnesses.keys, config.witnesses.urls) == ([WITNESS], ["https://w.example"])
    for wrong, message in (
        (["--profile", "publix"], "must be trial, pilot, company, public or commons, got 'publix'"),
        (["--devices", "9"], "`--devices` must be left out without a `--profile`"),
        (["--profile", "public", "--cohort", "30"], "`cohort.size` must be at least 100 with the profile public"),
        (["--profile", "public", "--witness", "x"], "key"),
    ):
        capsys.readouterr()
        assert run([*base, str(tmp_path / "b"), *wrong]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
        assert not (tmp_path / "b").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "items", "plans"]


@pytest.mark.parametrize(
    ("read", "text"),
    [(read_address, each) for each in ("", "A.example", "x:0", "x:65535", "x:y")]
    + [(read_devices, each) for each in ("", "1", "-5", "x", "2e3")]
    + [(read_witness, each) for each in ("x", f"{WITNESS}", f"{WITNESS} http://w")],
)
def test_what_is_no_answer_is_refused(read: Any, text: str) -> None:
    with pytest.raises(InputError):
        read(text)


class Terminal:
    """`palate ...` on a terminal of its own."""

    def __init__(self, folder: Path, words: Sequence[str], begin: Callable[[], object]) -> None:
        self.said = ""
        self._terminal, side = pty.openpty()
        command = [sys.executable, "-m", "palate_cli", *words]
        self.process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, cwd=folder, preexec_fn=begin)
        os.close(side)

    def answer(self, prompt: str, text: str) -> None:
        self.wait(prompt)
        os.write(self._terminal, text.encode())

    def wait(self, prompt: str) -> None:
        """Until it has said this, since it was last waited for."""
        while prompt not in self.said:
            readable, _, _ = select.select([self._terminal], [], [], 120.0)
            assert readable, self.said
            self.said += os.read(self._terminal, 4096).decode(errors="replace")
        self.said = self.said.partition(prompt)[2]

    def interrupt(self) -> None:
        """As Ctrl-C does, until it says something: readline misses a signal that comes just before it waits."""
        for _ in range(30):
            self.process.send_signal(signal.SIGINT)
            if select.select([self._terminal], [], [], 5.0)[0]:
                return

    def ends(self) -> int:
        """Its exit code, after all it says."""
        with suppress(OSError):
            while data := os.read(self._terminal, 4096):
                self.said += data.decode(errors="replace")
        os.close(self._terminal)
        return self.process.wait(60.0)


def test_on_a_terminal_it_asks_and_what_is_interrupted_leaves_nothing(
    tmp_path: Path, hears_control_c: Callable[[], object]
) -> None:
    (tmp_path / "list").write_text("a\nb\n")
    asked = Terminal(tmp_path, ["serve", "init", "site", "--population", "readers"], hears_control_c)
    asked.answer("profile: trial, pilot, company, public, commons [trial]: ", "companie\n")
    asked.answer("profile: trial, pilot, company, public, commons [trial]: ", "company\n")
    (tmp_path / "twice").write_text("a\nb\na\n")
    asked.answer("catalogue [items]: ", "twice\n")
    asked.answer("got 'a' in lines 1 and 3", "")
    (tmp_path / "twice").unlink()
    asked.answer("catalogue [items]: ", "list\n")
    asked.answer("address [localhost]: ", "palate.example.org:9443\n")
    asked.answer("expected devices [400]: ", "10\n")
    asked.answer("must be at least 25 with the profile company, got 10", "")
    asked.answer("expected devices [400]: ", "1,000\n")
    asked.answer("epsilon a year [6]: ", "9\n")
    asked.answer("must be at most 8 with the profile company, got 9", "")
    asked.answer("epsilon a year [6]: ", "\n")
    asked.answer("folder on another disk [../site-plans]: ", "\n")
    asked.answer("make the folder? [Y/n]: ", "\n")
    assert asked.ends() == 0
    assert "on the same disk" in asked.said
    written = tomllib.loads((tmp_path / "site/server.toml").read_text())
    assert written == {
        "population": "readers", "profile": "company", "devices": 1000, "name": "palate.example.org",
        "privacy": {"period_epsilon": 6.0}, "gateway": {"port": 9443}, "backup": {"witness": "../site-plans"},
    }  # fmt: skip
    before = sorted(path.name for path in tmp_path.iterdir())
    left = Terminal(tmp_path, ["serve", "init", "left", "--population", "readers", "--items", "list"], hears_control_c)
    left.wait("profile: trial, pilot, company, public, commons [trial]: ")
    left.interrupt()
    assert (left.ends(), "palate: interrupted" in left.said) == (130, True)
    words = ["serve", "init", "left", "--population", "p", "--items", "list", "--profile", "trial"]
    declined = Terminal(tmp_path, words, hears_control_c)
    declined.answer("address [localhost]: ", "\n")
    declined.answer("expected devices [20]: ", "\n")
    declined.answer("epsilon a year [8]: ", "\n")
    declined.answer("make the folder? [Y/n]: ", "n\n")
    assert (declined.ends(), "nothing was made" in declined.said) == (1, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\n\nb\n", "got '' in line 2"),
        (b"a\r\nb\r\n", "line ends of Unix"),
        (b"a\tb\n", "got 'a\\tb' in line 1"),
        (b"a\nb\na\n", "got 'a' in lines 1 and 3"),
        (b"a\nb", "must end with a line break"),
        (b"\xff\n", "text in UTF-8"),
        (b"", "at least one item"),
    ],
)
def test_a_catalogue_that_nobody_meant_is_refused_with_its_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "items").write_bytes(data)
    with pytest.raises(InputError, match=re.escape(message)):
        read_items(tmp_path / "items")


def test_a_run_that_no_budget_could_ever_pay_for_is_refused_at_init(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "items").write_text("a\nb\n")
    base = ["serve", "init", str(tmp_path / "site"), "--population", "p", "--items", str(tmp_path / "items")]
    assert run([*base, "--epsilon", "9"]) == 2
    assert "must be at most 4" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_a_maker_that_is_asked_to_end_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "make_databases", lambda site: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(5.0))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interruptible():
        make_site(tmp_path / "site", 'population = "p"\n', ITEMS)
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from palate_server.service import setup
setup.publish_start = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
setup.make_site(Path(sys.argv[1]), 'population = "p"', ("a", "b"))
"""


def test_a_folder_whose_maker_is_killed_is_not_there(tmp_path: Path) -> None:
    """Killed before the last of it: no half of it has its name, and the next try makes it."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "site")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "site").exists()
    assert make_site(tmp_path / "site", 'population = "p"\n', ITEMS).config.population == "p"


def test_a_folder_that_cannot_be_replaced_is_a_server_only_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a volume's own folder: its configuration comes last, and what fails leaves it empty."""
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "site")
    (tmp_path / "site").mkdir()
    with monkeypatch.context() as broken:
        seen: list[list[str]] = []

        def fail(site: Site, _: object) -> None:
            seen.append(sorted(path.name for path in site.folder.iterdir()))
            raise OSError("full")

        broken.setattr(setup, "publish_start", fail)
        with pytest.raises(OSError, match="full"):
            make_site(tmp_path / "site", 'population = "p"\n', ITEMS)
    assert "ledger.db" in seen[0]
    assert "server.toml" not in seen[0]
    assert list((tmp_path / "site").iterdir()) == []
    assert make_site(tmp_path / "site", 'population = "p"\n', ITEMS).config.population == "p"
