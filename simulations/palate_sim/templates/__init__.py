"""The Jinja templates of reports and figures: `environment().get_template("report.html.j2").render(...)`."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["environment"]


@cache
def environment() -> Environment:
    """The Jinja environment: it escapes everything and refuses undefined names; it compiles each template once."""
    loader = PackageLoader("palate_sim", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
