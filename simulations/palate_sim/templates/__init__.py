"""The templates of what a run writes for people.

Place in the path: below the report and the README's picture.

    environment().get_template("frontier.svg.j2").render(...)
"""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["environment"]


@cache
def environment() -> Environment:
    """Templates that escape everything and refuse a name nobody gave them; each is compiled once a process."""
    loader = PackageLoader("palate_sim", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
