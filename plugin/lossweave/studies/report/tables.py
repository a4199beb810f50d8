"""The same rows as a table for the terminal and for Markdown."""

from collections.abc import Mapping, Sequence
from math import isfinite

__all__ = ["budget_text", "counted", "markdown_table", "number", "probability", "text_table"]


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned with spaces: the first to the left, the others to the right.

    Example:
        >>> print(text_table(["name", "AP"], [["Sum", "0.50"]]))
        name    AP
        ----  ----
        Sum   0.50
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows as a Markdown table, numbers to the right.

    Example:
        >>> print(markdown_table(["name", "AP"], [["Sum", "0.50"]]))
        | name | AP |
        |:---|---:|
        | Sum | 0.50 |
    """
    rule = "|:---|" + "---:|" * (len(header) - 1)
    lines = ["| " + " | ".join(line) + " |" for line in (header, *rows)]
    return "\n".join([lines[0], rule, *lines[1:]])


def number(value: float, places: int = 3) -> str:
    """A number with a fixed count of places; '-' where there is none.

    Example:
        >>> number(0.5), number(float("nan"))
        ('0.500', '-')
    """
    return f"{value:.{places}f}" if isfinite(value) else "-"


def probability(p: float) -> str:
    """A probability with three places, never as 0; '-' where there is none.

    Example:
        >>> probability(0.0123), probability(0.0004), probability(float("nan"))
        ('0.012', '< 0.001', '-')
    """
    return "< 0.001" if p < 0.001 else number(p)


def counted(count: int, what: str) -> str:
    """A count with its noun.

    Example:
        >>> counted(1, "seed"), counted(3, "seed")
        ('1 seed', '3 seeds')
    """
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def budget_text(budget: Mapping[str, int]) -> str:
    """What a training may use, in words.

    Example:
        >>> budget_text({"iterations": 440, "batch_size": 8})
        '8 batch_size, 440 iterations'
    """
    return ", ".join(f"{value} {name}" for name, value in sorted(budget.items()))
