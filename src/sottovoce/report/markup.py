"""HTML and SVG as nested calls; whatever is not markup already is escaped."""

from __future__ import annotations

from html import escape

_VOID = ("br", "col", "hr", "img", "link", "meta")


class Markup(str):
    """Text that is HTML."""

    __slots__ = ()


Child = str | float | None


def element(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """One element: ``element("td", 3, class_="number")``. ``_`` in a name stands for ``-``, one at its end for nothing;
    None and False leave an attribute or a child out."""
    found = "".join(
        _attribute(key, value) for key, value in attributes.items() if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{found}>")
    return Markup(f"<{name}{found}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Children one after the other."""
    return Markup("".join(_text(child) for child in children))


def _text(child: Child) -> str:
    if child is None:
        return ""
    return child if isinstance(child, Markup) else escape(child if isinstance(child, str) else number(child))


def _attribute(key: str, value: str | float | bool) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    return f' {name}="{escape(value if isinstance(value, str) else number(value))}"'


def scroller(name: str, content: Markup) -> Markup:
    """A named box that scrolls sideways where its content is wider, by the keyboard too."""
    return element("div", content, class_="scroll", tabindex=0, role="group", aria_label=name)


def number(value: float) -> str:
    """At most two digits after the point: a coordinate needs no more."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"


def signed(share: float) -> str:
    """A fraction as percent, with its sign."""
    return f"{100 * share:+.1f}".replace("-", "−")
