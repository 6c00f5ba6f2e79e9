"""Page: what a node has of its people, with buttons to switch each off and to erase them.

HostedPeople, who looks -> node_page -> HTML: no script, nothing loaded, as a device's own page
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from xml.etree.ElementTree import Element

from palate_client.consent import Purpose
from palate_client.language.language import language_of
from palate_client.page.html import Child, e, title_element
from palate_client.page.page import document
from palate_client.rounds.report import ADJACENCY
from palate_core.accounting import ACCOUNTANT
from palate_core.errors import PalateError
from palate_node.people import HostedPeople, HostedPerson
from palate_node.work import listed

PURPOSES: dict[Purpose, str] = {
    "store": "keep what I watch, hear and read on this node, and recommend by it",
    "train": "take part in the rounds of a population, by noised sums that show nobody what I like",
}
"""What a person may agree to here, and the words that they agree to."""


def node_page(people: HostedPeople, who: HostedPerson | str, token: str) -> str:
    """The page.

    Args:
        people: the node's people.
        who: who looks: a person, who sees themselves alone, or the owner, who sees no list.
        token: of the forms.
    """
    shown, together = (list(people), _together(people)) if isinstance(who, str) else ([who], None)
    return document(
        language_of("en"),
        e("header", e("h1", "Palate node"), e("p", "Whoever runs this node can read what it has of its people.")),
        e("main", [_section(each, each is who, token) for each in shown], together, id="main"),
        title="Palate node",
        form="'self'",
    )


def _section(person: HostedPerson, own: bool, token: str) -> Element:
    """One person, with buttons."""

    def button(label: str, do: str, *more: Child, **fields: str) -> Element:
        said = {"name": person.name, "token": token, "do": do, **fields}
        hidden = [e("input", type="hidden", name=name, value=text) for name, text in said.items()]
        return e("form", hidden, *more, e("button", label), method="post", action="/")

    def shown() -> Iterator[Element]:
        if own:
            for purpose, words in PURPOSES.items():
                if not person.device.consent.get(purpose):
                    yield button(f"I agree: {words}", "grant", purpose=purpose)
            yield e("p", e("a", "What this device did, and what left it", href="/me"))
            yield e("ol", [e("li", title_element(facts.label), f" ({each.reason})") for each, facts in listed(person)])

    sure = e("label", e("input", type="checkbox", name="sure", value="yes", required=True), " all of it")
    on, told = person.settings.on, list[Element]()
    try:
        told = [*_facts(person), *shown()] if on else []
    except PalateError as error:  # a damaged store can be erased
        told = [e("p", str(error), class_="said bad")]
    return e(
        "section",
        e("h2", person.name, "" if on else " (off)"),
        told,
        [e("p", f"{kind}: {said}") for kind, said in sorted(person.said.items())],
        button("Switch off", "off") if on else button("Switch on", "on"),
        button("Erase", "erase", sure),
    )


def _facts(person: HostedPerson) -> list[Element]:
    """What the node has of a person, in numbers."""
    report, imports = person.device.privacy_report(), person.device.imports()
    agreed = ", ".join(name for name, granted in report.consents.items() if granted)
    spent, epsilon = report.spending, "unbounded"
    if spent is not None and spent.epsilon is not None:
        epsilon = f"{spent.epsilon:.2f} of {spent.limit:g}{_terms(spent.delta, 'this installation')}"
    rounds = "" if spent is None else f"; rounds: {spent.participations} of {spent.population}, epsilon {epsilon}"
    return [e("p", f"agreed to: {agreed or 'nothing yet'}; events: {sum(each.events for each in imports)}{rounds}")]


def _together(people: HostedPeople) -> Element | None:
    """What the rounds have cost all people of the node together: their mu add up, as they are alike."""
    service, spent = people.service, list[float]()
    for each in people:
        with suppress(PalateError):  # who is switched off, or has a damaged store, is left out
            spending = each.device.privacy_report().spending
            spent += [] if spending is None else [math.sqrt(spending.mu2)]
    if service is None or len(spent) < 2:
        return None
    epsilon = service.epsilon_of(sum(spent) ** 2)
    said = f"The {len(spent)} who are on, as one: epsilon {epsilon:.2f}, as their mu add up"
    return e("section", e("p", f"{said}{_terms(service.delta, f'{len(spent)} installations')}."))


def _terms(delta: float, unit: str) -> str:
    """What an epsilon is of."""
    return f" (delta {delta:g}; unit: {unit}; adjacency: {ADJACENCY}; accountant: {ACCOUNTANT})"
