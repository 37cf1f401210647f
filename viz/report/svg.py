"""Builds SVG elements as text, with everything escaped that is not an element itself."""

from xml.sax.saxutils import escape, quoteattr

from markupsafe import Markup


def element(
    tag: str,
    *children: str,
    **attributes: str | float | int | None,
) -> Markup:
    """Return an element.

    Args:
        children: elements, which are `Markup`, or text, which is escaped.
        attributes: numbers of type float get one decimal, and None leaves an attribute out. In
            names, "_" stands for "-", and one at the end is dropped (`class_`).
    """
    written = [tag]
    for name, value in attributes.items():
        if value is not None:
            written.append(_write_attribute(name, value))
    opening = " ".join(written)
    content = "".join(map(_write_child, children))
    return Markup(f"<{opening}>{content}</{tag}>")


def title(words: str) -> Markup:
    """Return the hover text of the element around it; "" for no words."""
    return element("title", words) if words else Markup("")


def _write_child(child: str) -> str:
    return child if isinstance(child, Markup) else escape(child)


def _write_attribute(name: str, value: str | float | int) -> str:
    hyphenated = name.removesuffix("_").replace("_", "-")
    text = f"{value:.1f}" if isinstance(value, float) else str(value)
    return f"{hyphenated}={quoteattr(text)}"
