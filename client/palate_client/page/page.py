"""Page: the facts as one HTML file of its own, in the user's language.

    PageFacts, Language -> page_of -> HTML: no script, no address, nothing loaded

The policy in its head forbids whatever isn't in it, so it is as safe in an app's web view as in a file. With `Actions`
it has buttons, which are plain forms for the app's own handler.

**Guarantees:** the page loads nothing, and runs nothing.
**Guarantees:** whatever a title, an id or a reason holds, it is text.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

from palate_client.consent import PURPOSES
from palate_client.delivery.rules import WAITING, Reason
from palate_client.language.language import Language
from palate_client.leaving.statement import Round, Statement
from palate_client.page.charts import columns, gauge, shares
from palate_client.page.facts import EVENTS, MESSAGES, ROUNDS, PageFacts, SpentBudget
from palate_client.page.html import Child, e, title_element, to_html
from palate_client.recommend.explanation import reason_in
from palate_client.rounds.report import ADJACENCY, EVENT
from palate_client.store.journal import EVENTS as SINGLE_EVENTS
from palate_core.accounting import ACCOUNTANT, ACCOUNTANT_VERSION
from palate_core.errors import InputError

STYLE = Path(__file__).with_name("style.css")
SECTIONS = ("did", "shown", "left", "budget", "agreed", "messages", "leave")
"""Sections, in the order in which they stand."""
_SENT = (Reason.SENT, Reason.FAILED, Reason.LOST)
_ADDRESS = re.compile(r"(https?://[^\s'\";,<>\\]+|/[^\s'\";,<>\\]*)")  # browsers take a backslash for a slash


@dataclass(frozen=True)
class Actions:
    """Buttons of a page. Each is a form that is posted to one address.

    Fields of a form: `do`, which is `revoke` (with `purpose`), `export`, `leave` or `erase` (with `sure`, which is
    "yes"); and `token`.

    Attributes:
        address: where the forms go: a path such as "/palate", or an address with http or https.
        token: what the handler knows its own page by, as a web page elsewhere can post a form, too.

    Raises:
        InputError: it is no such address.
    """

    address: str
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.address, str) or not _is_address(self.address):
            raise InputError(f"`actions` must be a path from /, or an http address, got {self.address!r:.80}")
        if not isinstance(self.token, str):
            raise InputError(f"`token` must be text, got {type(self.token).__name__}")

    @property
    def source(self) -> str:
        """The source that the page's policy allows for forms."""
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}" if parts.scheme else "'self'"


def _is_address(text: str) -> bool:
    """Whether a text is a path, or an address with a host."""
    if not _ADDRESS.fullmatch(text) or text.startswith("//"):
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return not parts.scheme or bool(parts.hostname)


def page_of(facts: PageFacts, language: Language, titles: Mapping[str, str], actions: Actions | None) -> str:
    """The page.

    Args:
        facts: what it tells.
        language: in which language.
        titles: item id -> its title; an item without one is named by its id.
        actions: buttons; None: it has none.
    """
    telling = _Telling(facts, language, titles, actions)
    return document(
        language,
        e("header", telling.head()),
        e("main", (telling.section(name) for name in SECTIONS), id="main", tabindex="-1"),
        e(
            "footer",
            e("p", language.text("page.lead")),
            e("p", language.text("page.made", when=telling.moment(facts.time))),
        ),
        title=language.text("page.title", app=facts.app),
        form=None if actions is None else actions.source,
    )


def document(language: Language, *body: Element, title: str, form: str | None) -> str:
    """A page with this style, which loads nothing; `form`: where its forms may go, None: it has none."""
    style, hashed = _style()
    policy = (
        f"default-src 'none'; style-src '{hashed}'; form-action {form or chr(39) + 'none' + chr(39)}; base-uri 'none'"
    )
    head = e(
        "head",
        e("meta", charset="utf-8"),
        e("meta", http_equiv="Content-Security-Policy", content=policy),
        e("meta", name="viewport", content="width=device-width, initial-scale=1"),
        e("meta", name="referrer", content="same-origin"),
        e("title", title),
        e("style", style),
    )
    return f"<!DOCTYPE html>\n{to_html(e('html', head, e('body', *body), lang=language.tag, dir=language.direction))}\n"


@cache
def _style() -> tuple[str, str]:
    """The style, and its hash for the policy."""
    style = STYLE.read_text(encoding="utf-8")
    return style, f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}"


class _Telling:
    """The facts, told section by section."""

    def __init__(
        self, facts: PageFacts, language: Language, titles: Mapping[str, str], actions: Actions | None
    ) -> None:
        self._facts, self._language, self._titles, self._actions = facts, language, titles, actions
        self._text, self._space = language.text, str(language.writing["space"])

    def head(self) -> Iterator[Child]:
        """What stands above the sections."""
        yield e("a", self._text("page.skip"), class_="skip", href="#main")
        yield e("h1", self._language.parts("page.title", app=title_element(self._facts.app)))
        yield e("p", self._text("page.lead"))
        links = [e("li", e("a", self._text(f"{name}.heading"), href=f"#{name}")) for name in SECTIONS]
        yield e("nav", e("ul", links), aria_label=self._text("page.sections"))

    def section(self, name: str) -> Element:
        """One section with its heading."""
        heading = e("h2", self._text(f"{name}.heading"), id=f"{name}-heading")
        return e("section", heading, getattr(self, f"_{name}")(), id=name, aria_labelledby=f"{name}-heading")

    def moment(self, time: float) -> str:
        """A time as the user's wall shows it."""
        found = self._facts.calendar.moment(time)
        return self._language.moment(found.day, found.hour)

    def _day(self, time: float) -> str:
        return self._language.day(self._facts.calendar.moment(time).day)

    def _title(self, item: str) -> Element:
        return title_element(self._titles.get(item) or item)

    def _did(self) -> Iterator[Child]:
        """What the user did: counts, pictures and the latest events."""
        facts, language = self._facts, self._language
        total = sum(facts.counted.kinds.values())
        if not total:
            yield e("p", self._text("did.none"))
            return
        yield e("p", self._text("did.events", n=total))
        active, first = facts.days
        if first is not None:
            yield e("p", self._text("did.days", n=active, first=language.day(first)))
        if facts.first is not None:
            yield e("p", language.parts("did.deleted", app=title_element(facts.app)))
        if facts.tastes:
            yield from self._tastes()
        if any(facts.weeks.values()):
            yield e("h3", self._text("did.weeks"))
            most, latest = max(facts.weeks.values()), list(facts.weeks.values())[-1]
            label = self._text("did.weeks.picture", n=len(facts.weeks), most=most, latest=latest)
            ends = [language.day(week) for week in (min(facts.weeks), max(facts.weeks))]
            yield columns(facts.weeks, label=label, ends=(ends[0], ends[1]))
        yield e("h3", self._text("did.kinds"))
        counts = sorted(facts.counted.kinds.items(), key=lambda pair: -pair[1])
        yield shares([(self._kind(kind), n / counts[0][1], language.number(n)) for kind, n in counts])
        yield e("h3", self._text("did.latest"))
        yield e(
            "ul",
            [
                e(
                    "li",
                    e("span", self._title(each.item), class_="title"),
                    e(
                        "span",
                        self._kind(each.kind),
                        f" · {self.moment(each.time)}" if isinstance(each.time, int | float) else None,
                        class_="why",
                    ),
                )
                for each in facts.events
            ],
            self._earlier(total - EVENTS),
            class_="list",
        )

    def _tastes(self) -> Iterator[Child]:
        tastes, language = self._facts.tastes, self._language
        yield e("h3", self._text("did.interests"))
        named = [(title_element(tag) if tag.strip() else self._text("did.other"), share) for tag, share in tastes]
        most = max(share for _, share in named)
        yield shares([(name, share / most, language.percent(share)) for name, share in named])
        yield e("p", self._text("did.interests.note"), class_="note")

    def _shown(self) -> Iterator[Child]:
        """What is recommended, with reasons."""
        facts = self._facts
        if facts.unranked:
            yield self._problem(facts.unranked)
        elif not facts.shown:
            yield e("p", self._text("shown.none"))
        else:
            yield e("p", self._text("shown.lead"))
            if facts.learned is not None:
                few = self._text("shown.few", n=facts.learned) if facts.learned else self._text("shown.nobody")
                yield e("p", few, class_="said")
            rows = []
            for each in facts.shown:
                why = reason_in(self._language, each.source, each.because, each.domain, self._titles, title_element)
                rows.append(e("li", e("span", self._title(each.item), class_="title"), e("span", why, class_="why")))
            yield e("ul", rows, class_="list")
            yield e("p", self._text("shown.also"), class_="note")

    def _left(self) -> Iterator[Child]:
        """What has left the device."""
        facts, report, language = self._facts, self._facts.report, self._language
        rounds = () if facts.statement is None else facts.statement.rounds
        if report.simulated:
            yield e("p", self._text("left.simulated"), class_="said bad")
        if facts.unstated:
            yield self._problem(facts.unstated)
        if rounds:
            size = f"{language.number(sum(each.bytes for each in report.sent) / 1000, digits=1)} kB"
            yield e(
                "p",
                self._text("left.rounds", n=len(rounds)),
                self._space,
                self._text("left.bytes", n=len(report.sent), size=size),
            )
        elif not report.sent:
            yield e("p", self._text("left.nothing"))
        if report.opened:
            yield e("p", language.parts("left.opened", n=len(report.opened), app=title_element(facts.app)))
        if report.contacts:
            last = self.moment(report.contacts[-1].time)
            yield e("p", self._text("left.contacts", n=len(report.contacts), when=last))
        if report.refusals:
            yield e("p", self._text("left.refused", n=len(report.refusals)))
        if rounds:
            yield self._rounds(rounds)
        yield e(
            "p",
            self._text("left.never"),
            self._space,
            language.parts("left.app", app=title_element(facts.app)),
            class_="note",
        )

    def _rounds(self, rounds: tuple[Round, ...]) -> Iterator[Child]:
        """A table of the latest rounds."""
        names = [self._text(key) for key in ("page.day", "left.for", "left.how", "left.cost")]
        head = [
            e("th", name, scope="col", role="columnheader", class_="number" if n == 3 else None)
            for n, name in enumerate(names)
        ]
        rows = [
            e(
                "tr",
                e("td", self._language.day(each.day), class_="day", role="cell"),
                e("td", self._text(f"left.{each.purpose or 'unknown'}"), role="cell"),
                e("td", self._text(_noise_key(each)), class_="how", role="cell"),
                e("td", self._cost(each), class_="number", role="cell", data_name=names[3]),
                role="row",
            )
            for each in reversed(rounds[-ROUNDS:])
        ]
        table = e(
            "table",
            e("thead", e("tr", head, role="row"), role="rowgroup"),
            e("tbody", rows, role="rowgroup"),
            role="table",
        )
        yield e("div", table, class_="scroll rounds")
        if len(rounds) > ROUNDS:
            yield e("p", self._text("page.earlier", n=len(rounds) - ROUNDS), class_="note")

    def _cost(self, each: Round) -> str:
        budget = self._facts.budget
        share = None if budget is None else budget.shares.get((each.run, each.round, each.attempt))
        return self._text("left.unknown") if share is None or not each.mu2 else self._language.percent(share)

    def _budget(self) -> Iterator[Child]:
        """What may still leave, in words for anybody, and exactly."""
        report, budget, language = self._facts.report, self._facts.budget, self._language
        if report.problem:
            yield self._problem(report.problem)
            return
        if budget is None or report.spending is None:
            yield e("p", self._text("budget.none"))
            return
        if budget.spent is not None:
            left = language.percent(1 - budget.spent)
            label = self._text("budget.gauge", spent=language.percent(budget.spent), left=left)
            yield gauge(budget.spent, label=label, middle=left, below=self._text("budget.left"))
            yield e("p", label)
        yield e("p", self._text("budget.lead"))
        at_end = self._of_100(budget.right_at_end)
        if report.spending.participations:
            yield from self._guessing(budget, at_end)
        else:
            yield e("p", self._text("budget.guess.most", right=at_end))
        yield e("details", e("summary", self._text("budget.small")), self._exactly())

    def _guessing(self, budget: SpentBudget, at_end: str) -> Iterator[Child]:
        """What can be told from what was spent, and what that relies on."""
        if budget.right is None:
            yield e("p", self._text("budget.guess.unbounded"))
            return
        if self._facts.report.unit == EVENT:
            yield e("p", self._text("budget.item"), class_="said bad")
        guessed = self._text("budget.guess", right=self._of_100(budget.right))
        yield e("p", guessed, self._space, self._text("budget.guess.end", right=at_end))
        relies, lines = budget.relies, list[str]()
        if relies.least is not None:
            key = "budget.relies.several" if relies.several else "budget.relies.cohort"
            lines.append(self._text(key, n=relies.least.corrupt or 0, of=relies.least.cohort or 0))
        if relies.central:
            lines.append(self._text("budget.relies.central"))
        if lines:
            yield e("p", self._text("budget.relies"))
            yield e("ul", [e("li", line) for line in lines], class_="plain")
        if budget.right_alone is None:
            yield e("p", self._text("budget.alone.unbounded"))
        else:
            yield e("p", self._text("budget.alone", right=self._of_100(budget.right_alone)))

    def _exactly(self) -> Iterator[Child]:
        """Epsilon with all that belongs to it, in small print."""
        report, spending = self._facts.report, self._facts.report.spending
        if spending is None:
            return
        rounds = {"rounds": spending.participations, "most": spending.participation_limit}
        if spending.epsilon is None:
            yield e("p", self._text("budget.exact.unbounded", **rounds), class_="note")
        else:
            exact = {"epsilon": self._digits(spending.epsilon), "limit": self._digits(spending.limit)}
            yield e("p", self._text("budget.exact", **exact, delta=f"{spending.delta:g}", **rounds), class_="note")
        if spending.participations and spending.epsilon_alone is not None:
            alone = self._digits(spending.epsilon_alone)
            yield e("p", self._text("budget.exact.alone", epsilon=alone), class_="note")
        terms = {"unit": report.unit, "adjacency": ADJACENCY, "accountant": f"{ACCOUNTANT} {ACCOUNTANT_VERSION}"}
        population = title_element(spending.population)
        yield e("p", self._language.parts("budget.exact.terms", **terms, population=population), class_="note")

    def _agreed(self) -> Iterator[Child]:
        """What the user agreed to, and since when."""
        facts, language = self._facts, self._language
        rows = []
        for purpose in PURPOSES:
            agreed, decision = facts.report.consents[purpose], facts.decided.get(purpose)
            button = self._form("revoke", self._text("agreed.off"), "quiet", purpose=purpose) if agreed else None
            if button is not None:
                button[-1].set("aria-label", f"{self._text('agreed.off')}: {self._text(f'purpose.{purpose}')}")
            since = decision.time if decision is not None and decision.granted == agreed else None
            rows.append(self._row(self._text(f"purpose.{purpose}"), agreed, since, button))
        for channel, allowance in facts.allowances.items():
            name = language.parts("channel", channel=title_element(channel))
            rows.append(self._row(name, allowance.granted, allowance.time, None))
        yield e("ul", rows, class_="list")
        if self._actions is not None:
            yield e("p", self._text("agreed.again"), class_="note")

    def _row(self, name: Child, agreed: bool, since: float | None, button: Element | None) -> Element:
        if since is None:
            state = self._text("agreed.yes.plain" if agreed else "agreed.no")
        else:
            state = self._text("agreed.yes" if agreed else "agreed.no.since", day=self._day(since))
        return e(
            "li", e("div", e("span", name), e("span", state, class_="yes" if agreed else "muted"), button, class_="row")
        )

    def _messages(self) -> Iterator[Child]:
        """Messages, sent or not, and why."""
        latest, reasons = self._facts.messages
        if not latest:
            yield e("p", self._text("messages.none"))
            return
        sent, waiting = (sum(reasons.get(each, 0) for each in group) for group in (_SENT, WAITING))
        total = sum(reasons.values())
        counts = {"sent": sent, "waiting": waiting, "not": total - sent - waiting}
        yield e("p", self._text("messages.sum", **counts))
        rows = []
        for each in latest:
            why: Child = self._text(f"message.{each.reason.value}")
            if each.channel:
                why = self._language.parts("messages.by", what=why, channel=title_element(each.channel))
            when = f" · {self.moment(each.sent or each.given)}"
            rows.append(
                e(
                    "li",
                    e("span", title_element(each.message.title), class_="title"),
                    e("span", why, when, class_="why"),
                )
            )
        yield e("ul", rows, self._earlier(total - MESSAGES), class_="list")

    def _leave(self) -> Iterator[Child]:
        """What happens if the user turns it off, leaves or erases."""
        facts = self._facts
        yield e("h3", self._text("leave.off"))
        yield e("ul", [e("li", self._text(f"remains.{purpose}")) for purpose in PURPOSES], class_="plain")
        if facts.statement is None:
            yield self._problem(facts.unstated)
        else:
            yield from self.remains(self._language, facts.statement)
            server = facts.statement.server
            if server is not None and not server.answered:
                yield self._form("leave", self._text("leave.leave.do"), "quiet")
        yield e("h3", self._text("leave.erase"))
        yield e("p", self._text("leave.erase.key"), self._space, self._text("leave.erase.copies"))
        if facts.report.spending is not None and facts.report.spending.participations:
            yield e("p", self._text("leave.again"))
        if self._actions is not None:
            export = self._form("export", self._text("leave.export"), "quiet")
            yield e("div", export, e("p", self._text("leave.export.note"), class_="note"))
            sure = e(
                "label", e("input", type="checkbox", name="sure", value="yes", required=True), self._text("leave.sure")
            )
            erase = self._form("erase", self._text("leave.erase.do"), "bad", sure)
            yield e("details", e("summary", self._text("leave.erase.do")), erase)

    @staticmethod
    def remains(language: Language, made: Statement) -> Iterator[Child]:
        """What remains elsewhere, by a statement."""
        yield e("h3", language.text("leave.leave"))
        rounds = [each for each in made.rounds if each.contributed]
        if rounds:
            yield e("p", language.text("leave.remains", n=len(rounds)))
        else:
            yield e("p", language.text("leave.remains.none"))
        if any(each.dp in ("central", "off") for each in rounds):
            yield e("p", language.text("leave.remains.seen"))
        if made.server is None:
            yield e("p", language.text("leave.nowhere"))
        elif made.server.answered:
            yield e("p", language.text("leave.answered"))
        else:
            yield e("p", language.parts("leave.server", server=title_element(made.server.server)))
            if made.server.asked:
                yield e("p", language.text("leave.asked"))

    def _kind(self, kind: str) -> str:
        key = f"kind.{kind}"
        return self._text(key) if self._language.has(key) else kind

    def _earlier(self, n: int) -> Element | None:
        return e("li", self._text("page.earlier", n=n), class_="muted") if n > 0 else None

    def _problem(self, why: str) -> Element:
        return e(
            "p", self._language.parts("page.problem", why=e("span", title_element(why), lang="en")), class_="said bad"
        )

    def _form(self, do: str, button: str, look: str, *more: Child, **fields: str) -> Element | None:
        """A form of one button; None without actions."""
        if self._actions is None:
            return None
        hidden = {"do": do, "token": self._actions.token, **fields}
        return e(
            "form",
            [e("input", type="hidden", name=name, value=value) for name, value in hidden.items()],
            more,
            e("button", button, type="submit", class_=look),
            method="post",
            action=self._actions.address,
        )

    def _of_100(self, right: float) -> str:
        return self._language.number(right, digits=0 if right == int(right) else 1)

    def _digits(self, value: float) -> str:
        """A number with four digits that count."""
        rounded = f"{value:.4g}"
        if "e" in rounded:
            return rounded
        return self._language.number(float(rounded), digits=len(rounded.partition(".")[2]))


def _noise_key(each: Round) -> str:
    """The key of what left in a round."""
    if not each.contributed:
        return "left.dp.none"
    how = "events" if each.dp == SINGLE_EVENTS else each.dp
    return f"left.dp.{how}" if how in ("distributed", "local", "events", "central", "off") else "left.unknown"
