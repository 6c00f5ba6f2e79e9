import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from palate_core.errors import InputError
from palate_sim.progress.wording import who_line
from palate_sim.report import card as cards
from palate_sim.report import charts, sentences, write_report

SAMPLE = Path(__file__).parent / "samples" / "run.json"
EVIL = "</script><script>alert('x')</script><img src=http://evil.example/a onerror=alert(1)>\"'{{ 7*7 }}"
LIST_OF_EVIL = {"title": EVIL, "reason": EVIL, "held_out": True}
LOADING = {"src", "href", "srcset", "action", "data", "poster", "background", "formaction", "xlink:href", "cite"}
VOID = {"meta", "br", "img", "hr", "input", "link"}


class Page(HTMLParser):
    """The structure of a report: tags with attributes, text by element, unclosed elements."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text, self.scripts, self.ids = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)

    def find(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture
def sample():
    return json.loads(SAMPLE.read_text(encoding="utf-8"))


@pytest.fixture
def result(sample):
    return sample["result"]


@pytest.fixture
def card(sample):
    return sample["card"]


def read(result, card, folder):
    path = write_report(result, card, folder)
    assert path == folder / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def test_one_file_that_loads_nothing(result, card, tmp_path):
    page = read(result, card, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").stat().st_size < 6_000_000
    loads = [value for _, attrs in page.tags for key, value in attrs.items() if key in LOADING]
    assert loads
    assert all(value.startswith("#") for value in loads)
    assert not page.find("link")
    assert not page.find("iframe")


def test_only_the_scripts_it_was_written_with_may_run(result, card, tmp_path):
    page = read(result, card, tmp_path)
    policy = next(a["content"] for a in page.find("meta") if a.get("http-equiv") == "Content-Security-Policy")
    running = [
        script
        for script, a in zip(page.scripts, page.find("script"), strict=True)
        if a.get("type") != "application/json"
    ]
    assert len(running) == 2
    for script in running:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


def test_the_page_is_well_formed_and_reachable(result, card, tmp_path):
    page = read(result, card, tmp_path)
    assert page.open == []
    for landmark in ("header", "main", "nav", "footer"):
        assert len(page.find(landmark)) == 1
    assert len(page.find("h1")) == 1
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = [attrs["href"][1:] for attrs in page.find("a")]
    labels = [attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs]
    figures = [attrs["data-figure"] for _, attrs in page.tags if "data-figure" in attrs]
    assert {*targets, *labels, *figures} <= set(ids)
    assert ("html", {"lang": "en"}) in page.tags
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_chart_has_words_numbers_and_valid_data(result, card, tmp_path):
    page = read(result, card, tmp_path)
    images = [attrs for _, attrs in page.tags if attrs.get("role") == "img"]
    assert len(images) == 9
    assert all(len(attrs["aria-label"]) > 40 for attrs in images)
    data = [
        script
        for script, a in zip(page.scripts, page.find("script"), strict=True)
        if a.get("type") == "application/json"
    ]
    assert len(data) == 9
    assert all(json.loads(text)["data"] for text in data)
    assert len(page.find("figcaption")) == 9


def test_the_headline_says_what_how_good_and_how_private(result, card, tmp_path):
    words = read(result, card, tmp_path).words
    assert (
        "On ml-1m, Palate recommends 80 % better than popularity and 19 % worse than EASE (recall_capped@20) "
        "at ε = 5 (δ = 1e-5, unit: user, adjacency: zero-out, accountant: palate closed form; dp central)"
    ) in words
    assert "A recommender for 3,706 items was trained on the histories of 4,832 users, in 4 federated rounds." in words
    assert "It was judged on held-out items of 604 other users" in words
    assert "Its recall_capped@20 is 0.341 (95 % interval 0.326 to 0.359)" in words
    assert "EASE, which reads everybody's history 0.419" in words
    assert "148 times" in words
    assert "11.4 in 100" in words


def test_held_out_events_of_training_users_are_not_called_other_users(result):
    result["split"]["name"] = "leave-last-out"
    said = " ".join(sentences.lead(result))
    assert "held-out items of 604 of these users" in said
    assert "other users" not in said


def test_the_first_screen_says_what_it_costs_whom(result, card, tmp_path):
    titles = [title for title, _ in sentences.first_screen(result, card)]
    assert titles == ["What people get", "What it costs", "For whom"]
    words = read(result, card, tmp_path).words
    for said in (
        "0.231 for the quarter of test users with the most niche taste, 0.455 for the most mainstream quarter. Beside "
        "EASE, which reads everybody's history, that is 40 % less for the first and 3 % less for the latter.",
        "The 3,006 least popular of 3,706 items, which have a third of all events, are never found: their recall is 0, "
        "EASE's 0.050 (recall@20). The most popular have 0.402.",
    ):
        assert said in words
        assert words.index(said) < words.index("Quality beside the baselines")
    assert "most niche quarter of tastes 0.231, most mainstream 0.455 (of 151 users); items" in who_line(result)


def test_few_test_users_are_said(result):
    assert "mind the intervals" not in sentences.lead(result)[0]
    result["split"]["test_users"] = 6
    assert sentences.lead(result)[0].endswith("So few tell little: mind the intervals.")


def test_sampled_negatives_are_said(result):
    metrics = {f"{name}[99 negatives]": value for name, value in result["metrics"].items()}
    sampled = {**result, "metrics": metrics, "metric": "recall_capped@20[99 negatives]"}
    assert "Its recall_capped@20[99 negatives] is 0.341" in str(sentences.first_screen(sampled, {}))
    assert "ranked against 99 negatives only" in str(sentences.first_screen(sampled, {}))
    assert all(text.endswith("ranked against 99 negatives only") for _, text in sentences.definitions(sampled))


def test_the_attack_sentence_is_the_gaussian_trade_off(result):
    said = " ".join(sentences.meaning(result, {"mu": 2.326347874}))
    assert "50.0 in 100" in said
    assert "attack:" not in " ".join(sentences.meaning(result, {}))


def test_the_card_is_whole(result, card, tmp_path):
    words = read(result, card, tmp_path).words
    for text in ("For every training installation", "a person with D installations", "noised sum of clipped",
                 "other ledgers", "a person counted in another population", card["model_hash"],
                 card["signature"], card["checkpoint"]["root"], "palate closed form, version 1",
                 "dp-accounting PLD, version 0.6.0: ε = 5, same δ, unit and adjacency", "no limit set",
                 "recognises 11.4 % of the histories used"):  # fmt: skip
        assert text in words
    groups = dict(cards.card_groups(card))
    assert list(groups) == [
        "What is claimed", "What it allows an attacker at most", "Mechanism", "Accounting", "Population and ledger",
        "Run and signature", "Versions", "References",
    ]  # fmt: skip
    beside = "(δ = 1e-5; unit: user: one installation; adjacency: zero-out; accountant: palate closed form)"
    assert dict(groups["What is claimed"])["ε of this run"] == f"5 {beside}"
    assert dict(groups["Population and ledger"])["ε spent by all runs on it"] == f"9.643 {beside}"
    assert "{'name" not in str(groups)


def test_nothing_of_the_card_is_dropped(card):
    card |= {"new": {"deep": {"key": "deep value"}}, "seen": [{"by": "canary", "epsilon": 1.5}]}
    shown = str(cards.card_groups(card))
    for value in ("deep value", "by canary, epsilon 1.5", *card["versions"].values(), *card["references"]):
        assert str(value) in shown


@pytest.mark.parametrize(
    ("change", "words"),
    [({"dp": "off", "epsilon": None}, "NO PRIVACY: dp off"), ({"noise": "seeded"}, "NOT FOR RELEASE: seeded noise")],
)
def test_the_stamp_is_in_the_title_on_top_and_at_the_card(result, card, tmp_path, change, words):
    page = read(result | change, card, tmp_path)
    assert page.text[[text.strip() != "" for text in page.text].index(True)].startswith(words)
    assert page.words.count(words) >= 3
    assert any(attrs.get("class") == "stamp" for attrs in page.find("div"))


def test_a_releasable_run_is_not_stamped(result, card, tmp_path):
    page = read(result, card, tmp_path)
    assert "NOT FOR RELEASE" not in page.words
    assert "NO PRIVACY" not in page.words


def test_dp_off_promises_nothing(result, tmp_path):
    page = read(result | {"dp": "off", "epsilon": None}, {}, tmp_path)
    assert "There is no privacy guarantee of any kind" in page.words
    assert "ε spent" not in page.words
    assert "What more users would buy at the same ε" not in page.words
    assert "This run has no privacy card." in page.words
    assert "at the same privacy" not in page.words


def test_seeded_noise_is_not_said_to_protect(result, card):
    assert "not for this run" in sentences.meaning(result | {"noise": "seeded"}, card)[0]
    assert sentences.privacy(result | {"noise": "seeded"}).startswith("with seeded noise, which protects nothing")


def test_central_names_the_server_among_the_unprotected(result):
    assert "The server" in sentences.limits(result)[0]
    assert len(sentences.limits(result | {"dp": "off"})) == 1


def test_single_events_are_never_called_a_users_history(result, card, tmp_path):
    unit = "event: one item of one installation's history"
    page = read(result | {"dp": "local", "unit": "event"}, card | {"unit": unit, "mode": "local"}, tmp_path)
    for text in ("without one item of one user's history", "one given event was used", "of the events used",
                 "what is hidden is each single item of a user's history", "m items make it m × μ"):  # fmt: skip
        assert text in page.words
    for text in ("emptying a single user's history", "of the histories", "what is hidden is everything"):
        assert text not in page.words
    assert "one given history was used" in read(result, card, tmp_path).words


def test_noise_of_each_device_is_not_said_to_be_shared(result, card, tmp_path):
    shared, each = "The noise that hides one user is the same", "Each device adds noise of its own"
    page = read(result | {"dp": "local"}, card, tmp_path)
    assert each in page.words
    assert shared not in page.words
    assert "would have to share" not in page.words.partition("What more users would buy at the same ε")[2]
    assert shared in read(result, card, tmp_path).words


def test_hostile_text_stays_text(result, card, tmp_path):
    honest = read(result, card, tmp_path)
    result |= {"name": EVIL, "run": EVIL, "warnings": [EVIL], "accountant": EVIL, "created": EVIL}
    result["baselines"][EVIL] = result["baselines"].pop("ials")
    result["metrics"][EVIL] = 0.5
    result["by_group"] = {EVIL: {EVIL: 0.2, "ok": 0.3}, "age": {"18": 0.1}}
    result["by_part"]["taste"]["models"][EVIL] = [0.1] * 4
    result["by_part"]["taste"]["parts"][0]["label"] = EVIL
    people = [{"given": 9, "held_out": 2, "had": [EVIL], "gets": [LIST_OF_EVIL], "popular": [LIST_OF_EVIL]}]
    (tmp_path / "people.json").write_text(json.dumps(people), encoding="utf-8")
    result["repairs"][EVIL] = EVIL
    result["config"]["data"]["path"] = EVIL
    result["config"]["item"] = {EVIL: [EVIL]}
    card |= {"guarantee": EVIL, "unit": EVIL, EVIL: EVIL, "population": {"name": EVIL}}
    card["releases"][0] |= {"what": EVIL, EVIL: EVIL}
    card["exclusions"].append({"what": EVIL, "reason": EVIL})
    page = read(result, card, tmp_path)
    assert page.words.count("alert('x')") > 15
    assert "{{ 7*7 }}" in page.words
    assert not page.find("img")
    assert len(page.find("script")) == len(honest.find("script"))
    assert all(not key.startswith("on") for _, attrs in page.tags for key in attrs)
    figures = "".join(page.scripts[:-2])
    assert "<" not in figures
    for chart in charts.build(result, card).values():
        assert EVIL not in json.dumps(json.loads(chart.figure), ensure_ascii=False)


def test_a_bare_run_is_a_page_too(tmp_path):
    page = read({"name": "x"}, {}, tmp_path)
    assert "Palate was trained on x" in page.words
    assert page.open == []
    assert not page.find("figure")


def test_long_names_and_many_groups_are_kept_short(result, card, tmp_path):
    result["name"] = "n" * 300
    result["by_group"] = {
        "zip": {f"{'z' * 60}{i}": {"mean": 0.2, "low": 0.1, "high": 0.3, "users": i} for i in range(400)}
    }
    chart = charts.build(result, card)["group-0"]
    assert len(chart.rows) == 400
    assert "The 20 largest of 400 groups are drawn." in chart.caption
    axis = json.loads(chart.figure)["layout"]["yaxis"]
    assert len(axis["ticktext"]) == 20
    assert max(map(len, axis["ticktext"])) < 30
    assert len(chart.alt) < 2000
    assert read(result, card, tmp_path).open == []


def test_missing_parts_leave_their_sections_out(result, card, tmp_path):
    for key in ("projection", "by_group", "by_part", "repairs", "preparation", "split"):
        result[key] = None
    for key in ("delta_curve", "mu", "exclusions", "population", "second_accountant"):
        del card[key]
    page = read(result, card, tmp_path)
    ids = {attrs["id"] for attrs in page.find("section")}
    assert ids == {"quality", "rounds", "card", "limits", "again"}
    assert {a["href"][1:] for a in page.find("a")} <= {attrs["id"] for _, attrs in page.tags if "id" in attrs}


def test_the_command_repeats_the_run(result, card, tmp_path):
    assert "palate simulate" not in read(result, card, tmp_path).words
    typed = "palate simulate 'my log.csv' --data '; rm -rf ~' </code><script>"
    assert typed in read({**result, "command": typed}, card, tmp_path).words


def test_a_missing_folder_is_refused(result, card, tmp_path):
    with pytest.raises(InputError, match="`folder` must be an existing folder"):
        write_report(result, card, tmp_path / "none")
