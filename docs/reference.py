"""The reference pages, made from the code: commands and options; settings of a run, an algorithm and a server; alerts.

    python docs/reference.py

Writes what stands between the marks of cli.md, configuration.md and server.md: from the help of the commands, and
from the fields of the settings with their docstrings. And the alerts of deploy/prometheus/palate.rules.yml, from the
list of problems. `tests/docs/test_reference.py` and `tests/server/service/test_alerts.py` compare.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Literal, Union, cast, get_args, get_origin

import click
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from palate_cli.cli import app
from palate_cli.commands.serve.questions import QUESTIONS, SetupQuestion
from palate_common.algorithms import algorithm_class
from palate_server.folder.config import ServerConfig
from palate_server.folder.profiles import PROFILES, RULES, bounds_of, settings_of
from palate_server.service.problems import KINDS
from palate_sim.config import SimulationConfig
from palate_torch import ModuleSettings

DOCS = Path(__file__).parent
BEGIN, END = "<!-- reference: written by docs/reference.py -->", "<!-- end of reference -->"
SHARED = 3
"""An option that so many commands of a group have alike is said once, with the group."""
PLACE = re.compile(r"docs/([a-z-]+)\.md(#[a-z-]+)?")

Option = tuple[str, str]
"""How an option or argument is written, and what it means."""


def commands() -> str:
    """What stands between the marks of cli.md."""
    return "\n".join(_commands(cast(click.Group, typer.main.get_command(app)), "palate", 2)).strip()


def _commands(group: click.Group, name: str, level: int) -> Iterator[str]:
    """A section for each command of a group."""
    for each, command in group.commands.items():
        full = f"{name} {each}"
        yield f"{'#' * level} `{full}`\n"
        if isinstance(command, click.Group):
            shared = _shared(command)
            yield f"{_text(command.help)}\n"
            if shared:
                yield from _options(f"of several `{full}` commands", shared)
            yield from _commands(command, full, level + 1)
        else:
            usage = " ".join(command.collect_usage_pieces(click.Context(command)))
            yield f"    {full} {usage}\n\n{_text(command.help)}\n"
            shared = _shared(group) if level > 2 else []
            own = [option for option in map(_option, command.params) if option not in shared]
            yield from _options("option", own)
            also = [f"`{param.opts[0]}`" for param in command.params if _option(param) in shared]
            if also:
                yield f"Also {', '.join(also)}.\n"


def _shared(group: click.Group) -> list[Option]:
    """Options that several commands of a group have alike."""
    found = Counter(_option(param) for command in group.commands.values() for param in command.params)
    return [option for option, count in found.items() if count >= SHARED and option[0].startswith("`--")]


def _options(title: str, options: Iterable[Option]) -> Iterator[str]:
    """A table, if there are any."""
    rows = [f"| {written} | {meaning} |" for written, meaning in options]
    if rows:
        yield "\n".join((f"| {title} | meaning |", "|---|---|", *rows)) + "\n"


def _option(param: click.Parameter) -> Option:
    """An option or an argument."""
    text, named = str(getattr(param, "help", None) or ""), isinstance(param, click.Option)
    said = [_text(text)]
    if named and not getattr(param, "is_flag", False) and param.default not in (None, "") and "efault" not in text:
        default = f"{param.default:g}" if isinstance(param.default, float) else param.default
        said.append(f"Default {default}.")
    if named and param.required:
        said.append("Required.")
    metavar = param.metavar or ("" if getattr(param, "is_flag", False) else (param.name or "").upper())
    written = f"{param.opts[0]} {metavar}".strip() if named else metavar
    return f"`{written}`".replace("|", r"\|"), " ".join(said).replace("|", r"\|")


def settings() -> str:
    """What stands between the marks of configuration.md."""
    single, lines = [], []
    for name, info in SimulationConfig.model_fields.items():
        section = _section(info)
        if section is None:
            single.append(_setting(name, info))
        else:
            lines += [f"## `{name}`\n", f"{_text(section.__doc__)}\n", _table(section, f"{name}.")]
    lines += ["## Keys without a section\n", "\n".join((*HEADER, *single)) + "\n"]
    als, event = algorithm_class("als").Settings, algorithm_class("event-mf").Settings
    other = [
        n
        for n, f in event.model_fields.items()
        if n in als.model_fields and _default(f) != _default(als.model_fields[n])
    ]
    beside = ", ".join(f"`{name}` = {_default(event.model_fields[name])}" for name in other)
    lines += ["## Settings of `als`\n", _table(als)]
    lines += ["## Settings of `event-mf`\n", f"Those of [`als`](#settings-of-als), with {beside}, and:\n"]
    lines += [_table(event, leave_out=als.model_fields)]
    lines += ["## Settings of `sgd`\n", _table(algorithm_class("sgd").Settings)]
    lines += ["## Settings of torch modules\n", f"{_text(ModuleSettings.__doc__)}\n", _table(ModuleSettings)]
    return "\n".join(lines).strip()


def server_settings() -> str:
    """What stands between the marks of server.md."""
    return f"{_questions()}\n{_profiles()}\n{_rules()}\n### All keys\n\n{_table(ServerConfig)}".strip()


ASKED = """\
### Before the first round

These must be understood before the first round of the public, and no others. `palate serve init` asks for them on a
terminal; scripts give them as options. Everything else follows, or has a default.
"""
HELD = """\
### Profiles

`profile` says whom a server is for. What it sets can be set otherwise beside it, but never looser than the last rows
say: such a configuration is refused, with the way out. What it asks for before it serves, `palate serve run` insists
on.
"""
FOLLOWS = """\
### What follows from what

With a profile, these follow where they are left out. `palate serve config FOLDER` prints each setting with its value,
and whether it is set, the profile's, derived, or a default.
"""


def _questions() -> str:
    """What `palate serve init` asks."""
    rows = []
    for each in QUESTIONS:
        keys = ", ".join(f"`{key}`" for key in (each.key, *each.also))
        why = each.why.splitlines()[0].rstrip(":")  # the profiles have a table of their own
        rows.append(f"| {keys} | {each.ask} | {_text(why)} | {_whom(each)} |")
    return "\n".join((ASKED, "| key | question | why | asked for |", "|---|---|---|---|", *rows)) + "\n"


def _whom(question: SetupQuestion) -> str:
    return "all" if question.whom == set(PROFILES) else ", ".join(name for name in PROFILES if name in question.whom)


def _profiles() -> str:
    """What each profile sets, and what it insists on."""
    set_by = {name: settings_of(profile) for name, profile in PROFILES.items()}
    rows = [("for", *(each.meaning for each in PROFILES.values()))]
    rows += [(f"`{key}`", *(_value(made[key][0]) for made in set_by.values())) for key in next(iter(set_by.values()))]
    rows += [
        ("years whose epsilons are the lifetime's", *(str(each.years) for each in PROFILES.values())),
        ("runs that share a year's epsilon", *(str(each.runs) for each in PROFILES.values())),
        (
            "asks for `backup.witness` outside of the folder",
            *("yes" if each.outside else "no" for each in PROFILES.values()),
        ),
        ("asks for a witness of the ledger", *("yes" if each.watched else "no" for each in PROFILES.values())),
    ]
    floors = {name: {floor.key: floor for floor in bounds_of(name, each.devices)} for name, each in PROFILES.items()}
    for key in dict.fromkeys(key for made in floors.values() for key in made):
        held = (made[key].words if key in made else "" for made in floors.values())
        rows.append(
            (
                f"`{key}` must be",
                *("at most what follows from `devices`" if key.endswith(".delta") and text else text for text in held),
            )
        )
    lines = [f"| {' | '.join(cell or 'anything' for cell in row)} |" for row in rows]
    return "\n".join((HELD, f"| | {' | '.join(PROFILES)} |", f"|---{'|---' * len(PROFILES)}|", *lines)) + "\n"


def _value(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def _rules() -> str:
    """What follows from what."""
    rows = [f"| `{rule.key}` | {rule.rule} |" for rule in RULES]
    return "\n".join((FOLLOWS, "| key | rule |", "|---|---|", *rows)) + "\n"


HEADER = ("| key | default | meaning |", "|---|---|---|")


def _table(model: type[BaseModel], prefix: str = "", leave_out: Iterable[str] = ()) -> str:
    """A row for each key, those of sections within it too."""
    return "\n".join((*HEADER, *_rows(model, prefix, leave_out))) + "\n"


def _rows(model: type[BaseModel], prefix: str, leave_out: Iterable[str] = ()) -> Iterator[str]:
    """Rows of `_table`."""
    for name, info in model.model_fields.items():
        section = _section(info)
        if section is not None:
            yield from _rows(section, f"{prefix}{name}.")
        elif name not in leave_out:
            yield _setting(prefix + name, info)


def _section(info: FieldInfo) -> type[BaseModel] | None:
    """The keys of a section; None for a key."""
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _setting(key: str, info: FieldInfo) -> str:
    """A row."""
    default = "" if info.is_required() else f"`{_default(info)}`"
    default = "none" if default == "`null`" else default
    cells = (f"`{key}`", default, _text(info.description) + _choices(info))
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _default(info: FieldInfo) -> str:
    """A default as TOML has it, nearly."""
    return json.dumps(info.get_default(call_default_factory=True))


def _choices(info: FieldInfo) -> str:
    """What a key may be, where it is one of some."""
    kinds = get_args(info.annotation) if get_origin(info.annotation) in (Union, UnionType) else (info.annotation,)
    found: list[str] = []
    for kind in kinds:
        if get_origin(kind) is Literal:
            found += [f"`{value}`" for value in get_args(kind)]
        elif isinstance(kind, type) and issubclass(kind, Enum):
            found += [f"`{value.value}`" for value in kind]
    return f" One of {', '.join(found)}." if found else ""


def _text(text: str | None) -> str:
    """Plain text as a line of a page, with links where it names one."""
    line = " ".join((text or "").split())
    return PLACE.sub(lambda place: f"[{place[1]}]({place[1]}.md{place[2] or ''})", line)


ALERTS = DOCS.parent / "deploy" / "prometheus" / "palate.rules.yml"
WAITS = {"error": ("", "page"), "warning": ("15m", "ticket")}
"""Severity of a problem -> how long it must last, and the severity of its alert."""
PASSING = {"part_down": "1m", "witnesses_missing": "1m"}
"""Errors that often end by themselves -> how long they must last."""
FURTHER = """\
      - alert: PalateUnreachable
        expr: up{job="palate"} == 0
        for: 2m
        labels: {severity: page}
        annotations:
          summary: "{{ $labels.instance }} can't be scraped: it has ended, or its address or token is another"
          act: "`palate serve status FOLDER` on the machine"
      - alert: PalateAbsent
        expr: absent(palate_up)
        for: 5m
        labels: {severity: page}
        annotations:
          summary: "no Palate server is scraped"
          act: "see the targets of Prometheus"
      - alert: PalateAttemptsFail
        expr: >-
          sum by (instance) (increase(palate_attempts_total{outcome!="released"}[1d]))
          > 2 + 2 * (sum by (instance) (increase(palate_attempts_total{outcome="released"}[1d])) or
          sum by (instance) (0 * palate_voids))
        labels: {severity: ticket}
        annotations:
          summary: "most attempts of the last day on {{ $labels.instance }} released nothing"
          act: "see `palate_aborts_total` for the reasons, and their table in docs/server.md#events"
      - alert: PalateLifetimeShort
        expr: palate_mu2_left < 0.2 * palate_mu2_lifetime
        labels: {severity: ticket}
        annotations:
          summary: "less than a fifth of the lifetime budget on {{ $labels.instance }} is left, in mu^2"
          act: "plan the population that comes after: a lifetime is a promise"
      - alert: PalateEnrolmentsRefused
        expr: sum by (instance) (rate(palate_enrolments_total{outcome="refused"}[15m])) > 1
        for: 15m
        labels: {severity: ticket}
        annotations:
          summary: "more than one enrolment a second is refused on {{ $labels.instance }}"
          act: "the event `enrolment refused` has the reasons; who floods it can't keep others out"
"""
"""Alerts beside those of the problems."""


def alerts() -> str:
    """The rules for Prometheus: one for each problem that somebody should hear of, with what to do."""
    lines = [
        "# Written by docs/reference.py from the problems of docs/server.md#problems: an alert for each code.",
        "# `job` must be `palate`, as in prometheus.yml beside it.",
        "groups:",
        "  - name: palate",
        "    rules:",
        FURTHER.rstrip(),
    ]
    for code, kind in KINDS.items():
        if kind.severity in WAITS and code != "not_running":  # which only the scrape can tell
            lasts, severity = WAITS[kind.severity]
            lasts = PASSING.get(code, lasts)
            lines += [
                f"      - alert: Palate{''.join(word.capitalize() for word in code.split('_'))}",
                f'        expr: palate_problem{{code="{code}"}} == 1',
                *([f"        for: {lasts}"] if lasts else []),
                f"        labels: {{severity: {severity}}}",
                "        annotations:",
                f"          summary: {json.dumps(f'{{{{ $labels.instance }}}}: {kind.means}', ensure_ascii=False)}",
                f"          act: {json.dumps(kind.act, ensure_ascii=False)}",
            ]
    return "\n".join(lines) + "\n"


PAGES = {"cli.md": commands, "configuration.md": settings, "server.md": server_settings}


def main() -> None:
    """Write the pages."""
    for name, made in PAGES.items():
        file = DOCS / name
        before, _, rest = file.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        file.write_text(f"{before}{BEGIN}\n\n{made()}\n\n{END}{after}", encoding="utf-8")
    ALERTS.write_text(alerts(), encoding="utf-8")


if __name__ == "__main__":
    main()
