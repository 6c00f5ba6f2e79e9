"""The attacks on whole runs: each succeeds where nothing protects, none exceeds the claim of an honest run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from plans import make_plan
from scipy.stats import chi2

from mechanism.checks import substitution
from palate_audit.attacks import audit_attacks
from palate_audit.attacks.contributions import clipped_of, norms2, spread
from palate_audit.attacks.noise import View, fresh_noise, sigma_of
from palate_audit.attacks.subject import load_subject
from palate_audit.evidence.evidence import Finding, Section, Verdict
from palate_cli.cli import run as palate
from palate_client.rounds.contribution import Contributor
from palate_common.algorithms import BlockSpec, DenseBlock, OuterBlock, PairBlock, Update
from palate_common.mechanism.clipping import clip
from palate_common.models.model import GlobalModel
from palate_common.rounds import shares
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import InputError
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_server.rounds import noise as server_noise
from palate_sim.config import load_config
from palate_sim.run.experiment import start

QUICK: dict[str, Any] = {
    "evaluation.baselines": "none",
    "evaluation.projection": "none",
    "algorithm.settings.rounds": 3,
    "algorithm.settings.embedding_size": 8,
    "privacy.delta": 1e-5,
}
SMALL: dict[str, Any] = {"users": 40, "repeats": 6}


def write_log(folder: Path) -> Path:
    """150 users of three tastes with 6 to 20 of 60 items, with genres, and with two groups of users."""
    rng = np.random.default_rng(3)
    odds = 1 / np.sqrt(np.arange(1, 61))
    rows = []
    for user in range(150):
        liked = odds * np.where(np.arange(60) % 3 == user % 3, 2.5, 1.0)
        chosen = rng.choice(60, int(rng.integers(6, 21)), replace=False, p=liked / liked.sum())
        rows += [(f"u{user}", f"i{item}") for item in chosen]
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=["user_id", "item_id"]).to_csv(folder / "interactions.csv", index=False)
    items = pd.DataFrame({"item_id": [f"i{item}" for item in range(60)], "title": "t"})
    items["genres"] = [("War", "Drama", "Comedy")[item % 3] for item in range(60)]
    items.to_csv(folder / "items.csv", index=False)
    users = pd.DataFrame({"user_id": [f"u{user}" for user in range(150)], "gender": ["F", "M"] * 75})
    users.to_csv(folder / "users.csv", index=False)
    return folder


def make_run(source: Any, out: Path, **keys: Any) -> Path:
    """Train; the run folder."""
    start(load_config(None, {**QUICK, **keys}), source=source, out=out, ledger=out.parent / f"{out.name}.db").run()
    return out


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attacked")


@pytest.fixture(scope="module")
def log(home: Path) -> Path:
    return write_log(home / "log")


@pytest.fixture(scope="module")
def private(home: Path, log: Path) -> Path:
    return make_run(log, home / "private")


@pytest.fixture(scope="module")
def section(private: Path) -> Section:
    """Every attack; the folder is only read."""
    before = tree(private)
    found = audit_attacks(private, **SMALL)
    assert tree(private) == before
    return found


def found(section: Section, test: str) -> Finding:
    (one,) = [each for each in section.findings if each.test == test]
    return one


def row(section: Section, attack: str, sees: str, sample: str = "independent") -> dict[str, Any]:
    (one,) = [
        row
        for row in section.series["measured"]
        if row["attack"].endswith(attack) and row["sees"].startswith(sees) and sample in row["sample"]
    ]
    return dict(one)


def quarter(size: int, *, sigma: int, source: Any) -> Any:
    return sample_discrete_gaussian(size, sigma=max(1, sigma // 4), source=source)


def test_every_control_succeeds(section: Section) -> None:
    controls = [each for each in section.findings if each.test.endswith("control")]
    assert {each.test.split(",")[0] for each in controls} == {
        "interaction membership", "user membership",
    }  # fmt: skip
    assert len(controls) == 2
    assert [each.said for each in controls if each.verdict is not Verdict.PASS] == []


def test_an_interaction_is_read_off_a_raw_update_and_not_off_the_releases(section: Section) -> None:
    attack = "interaction membership, likelihood ratio"
    raw, released = row(section, attack, "clipped"), row(section, attack, "releases", "independent")
    assert raw["auc"][0] >= 0.99
    assert released["auc"][1] <= released["ceiling"]["auc"]
    share = row(section, attack, "noised share")
    assert released["auc"][0] < share["auc"][0] <= raw["auc"][0]


def test_the_best_attack_reaches_the_ceiling_and_does_not_pass_it(section: Section) -> None:
    best = row(section, "user membership, likelihood ratio", "releases")
    assert best["auc"][1] <= best["ceiling"]["auc"] + 0.01
    assert best["auc"][0] > best["ceiling"]["auc"] - 0.1


def test_an_honest_run_raises_no_alarm(section: Section) -> None:
    assert section.alarms == ()
    assert {bound.rung.value for bound in section.bounds} == {"L0", "L1", "L2"}
    assert all(bound.ratio < 1.3 for bound in section.bounds)
    assert "deciles of activity and groups" in found(section, "user membership, likelihood ratio, segments").said
    json.dumps(dict(section.series), allow_nan=False)


@pytest.mark.parametrize("dp", [pytest.param("distributed", marks=pytest.mark.soak), "central"])
def test_a_run_with_a_quarter_of_the_noise_raises_an_alarm(
    home: Path, log: Path, monkeypatch: pytest.MonkeyPatch, dp: str
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(shares if dp == "distributed" else server_noise, "sample_discrete_gaussian", quarter)
        folder = make_run(log, home / f"quarter-{dp}", **{"privacy.dp": dp})
    section = audit_attacks(folder, attacks=["membership"], **SMALL)
    assert [alarm.test for alarm in section.alarms] == ["user membership, likelihood ratio, own releases"]
    figures = found(section, section.alarms[0].test).figures
    assert 1e-7 < chi2.cdf(16 * figures["energy"], figures["directions"]) < 1 - 1e-7
    assert section.bounds[-1].ratio > 2


def test_a_mechanism_that_draws_a_quarter_of_the_noise_raises_alarms(
    private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "sample_discrete_gaussian", quarter)
    section = audit_attacks(private, attacks=["membership"], users=40, repeats=25)
    assert "user membership, likelihood ratio, releases" in [alarm.test for alarm in section.alarms]
    assert max(bound.ratio for bound in section.bounds if bound.rung.value == "L1") > 1.5


def test_without_privacy_every_attack_succeeds_and_nothing_is_claimed(home: Path, log: Path) -> None:
    folder = make_run(log, home / "off", **{"privacy.dp": "off"})
    section = audit_attacks(folder, **SMALL)
    assert section.alarms == section.bounds == ()
    assert "nothing is claimed" in section.subject
    released = [r for r in section.series["measured"] if r["sees"].startswith("releases")]
    assert len(released) == 2
    assert min(r["auc"][0] for r in released) > 0.99
    assert all(r["ceiling"] is None for r in section.series["measured"])


def test_every_kind_of_block_is_spread_out() -> None:
    rows = np.array([0, 2, 2, 3]), np.array([0, 2, 1], np.int32), np.array([3.0, -2.0, 5.0])
    blocks = (
        DenseBlock(np.array([[0.0, 1.0], [2.0, 0.0], [0.0, 0.0]])),
        OuterBlock(*rows, np.eye(3)[:, :2], 4),
        OuterBlock(*rows, np.eye(3)[:, :2] + 1, 4, np.array([1, 2, 0, 1]), np.array([0.5, -0.2, 1.0])),
        PairBlock(*rows, 4),
    )
    layout = tuple(BlockSpec(name=f"b{n}", shape=block.shape[1:], weight=0.5) for n, block in enumerate(blocks))
    clipped = clip(Update(blocks, 3), layout, clip_norm=1.0, grid=2**20)
    sent = spread(clipped)
    assert sent.toarray().tolist() == [clipped.vector(user).tolist() for user in range(3)]


def test_what_is_sent_is_spread_out_exactly(private: Path) -> None:
    subject = load_subject(private)
    for sealed in subject.releases:
        clipped = clipped_of(subject.algorithm, sealed.state, sealed.plan, subject.data.train)
        sent = spread(clipped)
        for user in (0, 7):
            assert sent[[user]].toarray()[0].tolist() == clipped.vector(user).tolist()
        swapped = np.arange(subject.users)[::-1]
        other = subject.sent(sealed, subject.data.train.users(swapped))
        apart = sent - other
        plain = clipped.vector(0) - clipped.vector(subject.users - 1)
        assert norms2(apart)[0] == (plain.astype(float) ** 2).sum()
        assert norms2(sent).max() <= float(sealed.plan.grid) ** 2


def test_fresh_noise_is_the_releases(private: Path) -> None:
    sealed = load_subject(private).releases[0]
    for view, expected in ((View.RELEASE, sealed.noisy.sigma), (View.SHARE, sealed.plan.share_sigma), (View.CLEAR, 0)):
        drawn = fresh_noise(view, sealed.plan, sealed.noisy.users, 20_000)
        assert drawn.std() == pytest.approx(expected, rel=0.03)
        assert sigma_of(view, sealed.noisy) == (expected or pytest.approx(sealed.noisy.sigma))


def test_the_noise_of_a_release_is_that_of_all_its_sub_cohorts() -> None:
    cohort = CohortTerms(n_max=8, n_min=6, c_max=1, masks=True, directory="ab" * 32, subcohorts=3)
    plan = make_plan(dp="distributed", cohort=cohort)
    drawn = fresh_noise(View.RELEASE, plan, 24, 20_000)
    assert drawn.std() == pytest.approx((24 / 5) ** 0.5 * plan.sigma, rel=0.03)


def tree(folder: Path) -> dict[str, tuple[str, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in files}


def test_data_is_found_in_the_split_that_a_run_saved(home: Path, log: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(log / "interactions.csv")
    folder = make_run(frame, home / "frame", **{"evaluation.save_recommendations": True})
    section = audit_attacks(folder, attacks=["membership"], **SMALL)
    assert section.alarms == ()
    assert "split/" in section.assumptions[-1]
    shutil.copytree(folder, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "split")
    with pytest.raises(InputError, match=r"need the run's raw data.*data frame"):
        audit_attacks(tmp_path / "bare", **SMALL)


def test_other_data_than_the_runs_is_refused(private: Path, log: Path, tmp_path: Path) -> None:
    shutil.copytree(private, tmp_path / "run")
    shutil.copytree(log, tmp_path / "log")
    begun = json.loads((tmp_path / "run" / "run.json").read_bytes())
    begun["source"] = str(tmp_path / "log")
    (tmp_path / "run" / "run.json").write_text(json.dumps(begun))
    lines = (tmp_path / "log" / "interactions.csv").read_text().splitlines()
    (tmp_path / "log" / "interactions.csv").write_text("\n".join(lines[:-3]))
    with pytest.raises(InputError, match="holds other interactions"):
        audit_attacks(tmp_path / "run", **SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attacks": ["guess"]}, "`--attack` must be among"),
        ({"users": 2}, "`--users` must be at least 10"),
        ({"repeats": 1}, "`--repeats` must be at least 4"),
        ({"seed": -1}, "`--seed` must be at least 0"),
    ],
)
def test_bad_numbers_are_refused_in_one_line(private: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        audit_attacks(private, **{**SMALL, **options})


def test_a_folder_that_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be the folder of a finished run"):
        audit_attacks(tmp_path)


def test_the_real_device_refuses_another_model(private: Path) -> None:
    subject = load_subject(private)
    refused, openly = substitution.attack(subject, subject.data.train.user(3))
    assert refused.verdict is Verdict.PASS
    reasons = list(refused.figures["answers"].values())
    assert reasons[0] == reasons[-1] == "answered"
    for reason, words in zip(
        reasons[1:4], ("the one the plan names", "must be this plan", "the same size"), strict=True
    ):
        assert words in reason
    assert "stands in the ledger" in openly.said


def test_a_device_that_takes_any_model_raises_an_alarm(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = load_subject(private)
    monkeypatch.setattr(Contributor, "_read_model", lambda _self, _plan, data: GlobalModel.from_bytes(data))
    refused, _ = substitution.attack(subject, subject.data.train.user(3))
    assert refused.verdict is Verdict.ALARM
    assert "another model beside the plan: ANSWERED" in refused.said


@pytest.fixture
def quick(private: Path, tmp_path: Path) -> Callable[..., int]:
    def call(*options: str, folder: Path = private) -> int:
        few = ("--users", "30", "--repeats", "4", "--attack", "membership")
        return palate(["audit", "attacks", str(folder), *few, *options])

    return call


def test_the_command_prints_writes_and_ends_with_its_code(
    quick: Callable[..., int], private: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quick("--out", str(tmp_path / "report")) == 0
    shown = capsys.readouterr().out
    assert "user membership" in shown
    assert "releases (anybody)" in shown
    assert (tmp_path / "report" / "audit.html").is_file()
    assert (
        palate(
            ["audit", "attacks", str(private), "--attack", "interaction", "--users", "30", "--repeats", "4", "--json"]
        )
        == 0
    )
    (part,) = json.loads(capsys.readouterr().out)
    assert part["name"] == "attacks"
    assert quick("--users", "1") == 2


def test_the_command_ends_with_4_where_the_evidence_exceeds_the_claim(
    quick: Callable[..., int],
    home: Path,
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(shares, "sample_discrete_gaussian", quarter)
        folder = make_run(log, home / "quarter-command")
    assert quick(folder=folder) == 4
    assert "the evidence exceeds the claim" in capsys.readouterr().err
