"""Parts of a page that is written by hand, which are made from ledgers."""

from __future__ import annotations

from pathlib import Path

__all__ = ["has_block", "write_block"]


def write_block(page: str | Path, name: str, text: str) -> bool:
    """Write between the lines of a page that are a block's first and last.

    They are ``<!-- NAME, by make results -->`` and ``<!-- end of NAME -->``.

    Args:
        page: a Markdown file, which need not exist.
        name: the block's.
        text: what goes there.

    Returns:
        Whether the page has the block.
    """
    path = Path(page)
    if not has_block(path, name):
        return False
    begin, end = _lines(name)
    before, _, rest = path.read_text().partition(begin)
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")
    return True


def has_block(page: str | Path, name: str) -> bool:
    """Whether a page has a place for a block.

    Args:
        page: a Markdown file, which need not exist.
        name: the block's.
    """
    path = Path(page)
    begin, end = _lines(name)
    return path.is_file() and end in path.read_text().partition(begin)[2]


def _lines(name: str) -> tuple[str, str]:
    return f"<!-- {name}, by make results -->", f"<!-- end of {name} -->"
