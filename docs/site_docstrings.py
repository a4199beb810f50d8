"""Docstrings, which are written in reStructuredText, as the markdown that the site is made of."""

import re
from typing import Any

import griffe


def markdown(text: str) -> str:
    """A docstring's reStructuredText as markdown.

    Example:
        >>> markdown("``f`` of :math:`L_k`, see :class:`~lossweave.Combiner`")
        '`f` of $L_k$, see `Combiner`'
    """
    text = re.sub(r":math:`([^`]*)`", r"$\1$", text)
    text = re.sub(r":\w+:`~?([^`]*)`", lambda m: f"`{m.group(1).split('.')[-1]}`", text)
    return text.replace("``", "`")


class Docstrings(griffe.Extension):
    """Rewrites every docstring that is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            text = markdown(obj.docstring.value)
            text = re.sub(r"^( *)Example:$", r"\1Examples:", text, flags=re.MULTILINE)
            obj.docstring.value = re.sub(r"::$", ":", text, flags=re.MULTILINE)
