"""The operator's configuration: odd input, and what fits together."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate_core.errors import BudgetError, InputError
from palate_server.folder.config import ServerConfig, read_config
from palate_server.folder.server_folder import Site
from palate_server.ledger.ledger import Ledger
from palate_server.operation import terms as promise
from palate_server.service.gateway import configuration
from palate_server.service.setup import make_site

ITEMS = ("a", "b", "c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("population = ", "must be TOML"),
        ("population = 'p'\ntypo = 1", "`typo` is no key of a server"),
        ("population = 'p'\n[cohort]\nsizee = 1", "did you mean `cohort.size`?"),
        ("population = 'p'\n[cohort]\nsize = 1", r"\[cohort\]: `size` must be greater than or equal to 2, got 1"),
        ("population = 'p'\n[privacy]\ndp = 'off'", "a deployment has no run without privacy"),
        ("population = 'p'\nname = 'No Host'", "a host name"),
        ("population = 'p'\n[privacy]\nepsilon = nan", "epsilon"),
        ("population = 'p'\n[gateway]\nport = 8444", "ports must differ"),
        ("population = 'p'\n[gateway]\ncertificate = 'x'", "given together"),
        ("", "`population` must be given"),
        (
            "population = 'p'\n[surveys]\nchannels = ['E Mail']",
            r"^server.toml: `surveys`: `channels.0` must match .*, got 'E Mail'$",
        ),
        (
            "population = 'p'\n[surveys]\nitems = ['a', 'a']",
            r"^server.toml: `surveys`: items must be at most 200, each once",
        ),
        (
            "population = 'p'\n[surveys.experiments]\nx = ['2026-11-24']",
            r"^server.toml: `surveys`: looks must be a Monday, got 2026-11-24$",
        ),
        ("population = 'p'\n[privacy]\ndropout = 0.0\n", "one device that leaves would end every attempt"),
    ],
)
def test_odd_configurations_are_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_config(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[privacy]\ncorrupt = 0.4\ndropout = 0.4\n", "must be smaller"),
        ("[privacy]\ndelta = 1e-12\n", "`privacy.delta` must be above"),
        ("[privacy]\nepsilon = 1e-6\n", "epsilon"),
        ("[training]\nalgorithm = 'none'\n", "algorithm"),
    ],
)
def test_a_folder_that_no_run_could_be_opened_in_is_not_made(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        make_site(tmp_path / "site", f"population = 'p'\n{text}", ITEMS)
    assert not (tmp_path / "site").exists(), "nothing half-written"


def test_a_folder_with_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(InputError, match="new or empty"):
        make_site(tmp_path, "population = 'p'\n", ITEMS)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_secrets_are_their_owners_alone(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", "population = 'p'\n", ITEMS)
    assert site.folder.stat().st_mode & 0o077 == 0
    for path in (site.folder / "key", site.ledger_file, site.enrolment_file, site.tls / "ca.key"):
        assert path.stat().st_mode & 0o777 == 0o600, path


@pytest.mark.parametrize("name", ["a b; include", "a\rb"])
def test_a_path_that_nginx_would_read_otherwise_is_refused(name: str, tmp_path: Path) -> None:
    site = make_site(tmp_path / name, "population = 'p'\n", ITEMS)
    with pytest.raises(InputError, match="without spaces and signs"):
        configuration(site)


def test_another_folder_is_no_site(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="palate serve init"):
        Site.at(tmp_path)


def test_the_defaults_are_a_deployments() -> None:
    config = ServerConfig(population="p")
    assert (config.privacy.dp, config.privacy.noise) == ("distributed", "secure")
    assert config.privacy.epsilon < config.privacy.period_epsilon < config.privacy.lifetime_epsilon


def test_no_run_is_opened_that_no_delta_is_kept_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices aren't gathered for a run whose first attempt the ledger refuses."""
    monkeypatch.setattr(promise, "MAX_ATTEMPTS", 2)
    config = ServerConfig.model_validate({"population": "p"})
    with Ledger(":memory:", population="p") as ledger:
        ledger.set_budget(mu2=100.0, epsilon=80.0, delta=1e-5)
        ledger.open_run("a", {})
        for attempt in range(2):
            promise.check_budgets(config, ledger, now=0.0)
            facts = {"mechanism": "discrete Gaussian", "dp": "distributed"}
            ledger.charge(run="a", round_=0, attempt=attempt, plan_hash="ab" * 32, mu2=1e-6, run_limit=1.0, facts=facts)
        with pytest.raises(BudgetError, match="attempts must be fewer than 2"):
            promise.check_budgets(config, ledger, now=0.0)
        lifetime, _ = promise.budgets_of(config, ledger, now=0.0)
        assert (lifetime.left, lifetime.covers(1e-6)) == (0.0, False), "nor does status say that one could be had"


def test_a_large_cohort_has_more_time_for_an_exchange_and_none_has_less_than_is_configured() -> None:
    cohort = ServerConfig(population="p").cohort
    assert [cohort.seconds_of_exchange(devices) for devices in (2, 100, 4000, 10_000)] == [60.0, 60.0, 60.0, 150.0]
    assert cohort.model_copy(update={"exchange_seconds": 600.0}).seconds_of_exchange(10_000) == 600.0


@pytest.mark.parametrize("written", ['{"format": 1}', '{"format": 3, "palate": "99"}', None])
def test_a_folder_of_another_format_is_refused_in_one_line(tmp_path: Path, written: str | None) -> None:
    site = make_site(tmp_path / "site", 'population = "p"\n', ITEMS)
    assert Site.at(site.folder).config.population == "p"
    if written is None:
        (site.folder / "format").unlink()
    else:
        (site.folder / "format").write_text(written)
    with pytest.raises(InputError, match=r"\A`FOLDER` must be of format 2, got \d: use the version that made it\Z"):
        Site.at(site.folder)
