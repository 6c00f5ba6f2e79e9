"""HTML: a page as a tree of elements, so that no text in it can be anything but text.

>>> to_html(e("p", "by ", e("bdi", "<b>Ann & Co</b>"), lang="en"))
'<p lang="en">by <bdi>&lt;b&gt;Ann &amp; Co&lt;/b&gt;</bdi></p>'

Titles, ids and reasons come from catalogues, servers and other apps. Elements are the standard library's, which escapes
texts and attributes when it writes them; what no HTML text may have, such as control characters, is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree.ElementTree import Element, tostring

MOST_TITLE = 160
"""Characters of a title that are shown."""
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

Child = Element | str | Iterable["Child"] | None


def e(tag: str, *children: Child, **attributes: str | bool | None) -> Element:
    """An element.

    Args:
        tag: its name.
        children: elements, texts, several of them, or nothing.
        attributes: a name ends in `_` where Python has that word, and `_` within stands for `-`. True: an attribute
            without a value; None and False: no attribute.
    """
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None and value is not False:
            name = name.rstrip("_").replace("_", "-")
            made.set(name, name if value is True else clean(str(value)))
    _add(made, children)
    return made


def clean(text: str) -> str:
    """The text without characters that an HTML text can't have."""
    return _NO_TEXT.sub("\ufffd", text)


def title_element(text: str) -> Element:
    """Somebody else's text, such as a title: on one line, of limited length, and in its own direction."""
    line = " ".join(clean(text).split())
    return e("bdi", line if len(line) <= MOST_TITLE else f"{line[: MOST_TITLE - 1]}…")


def to_html(element: Element) -> str:
    """The element as HTML."""
    return tostring(element, encoding="unicode", method="html")


def _add(made: Element, children: Iterable[Child]) -> None:
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif isinstance(child, str):
            text = clean(child)
            if len(made):
                made[-1].tail = (made[-1].tail or "") + text
            else:
                made.text = (made.text or "") + text
        elif child is not None:
            _add(made, child)
