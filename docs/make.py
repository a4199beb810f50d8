"""Makes what the documentation says of every combiner from the registry, docstrings and pages.

    python docs/make.py            writes it into docs/combiners and README.md
    python docs/make.py --check    names the files that are stale, with exit status 1

A combiner's page, docs/combiners/NAME.md, is written by hand but for the block that comes from its
docstring. Its tables (in short, edge cases) are the rows of the tables over all combiners.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from site_docstrings import markdown

from lossweave.combiners import Combiner, GradientCombiner, combiner_class, combiner_names

DOCS = Path(__file__).parent
PAGES = DOCS / "combiners"
TABLES = (PAGES / "README.md", DOCS.parent / "README.md")
KINDS = ("values", "adaptive", "turns", "gradients")
#: What a page's first table says, in this order; the last three are for the table of choices.
IN_SHORT = ("Formula", "Weights", "Symbols", "Source", "Needs", "Cost", "Helps when")
#: The columns of a page's table of edge cases, by whether it combines gradients.
EDGES = {
    False: ("at 0", "below 0", "overflow (float32)", "absent", "nan, inf: after it"),
    True: ("gradients that cancel exactly", "state"),
}
#: What the short table says of each kind: a name, and what its combiners are.
FAMILIES = {
    "values": ("Fixed functions", "of the losses' values: sums, norms, products, the largest"),
    "adaptive": ("Adaptive weights", "that are learned, or follow the losses, while it trains"),
    "turns": ("Turns", "one term trains while the others wait"),
    "gradients": ("Gradients", "each term's own gradient is taken, and they are reconciled"),
}
_BLOCK = re.compile(r"(<!-- made by `make docs`: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def names() -> list[str]:
    """The package's own combiners, by kind, the sum first."""
    own = [n for n in combiner_names() if combiner_class(n).__module__.startswith("lossweave.")]
    return sorted(own, key=lambda n: (n != "Sum", KINDS.index(kind_of(n))))


def kind_of(name: str) -> str:
    """The folder that its module is in."""
    return combiner_class(name).__module__.split(".")[-2]


def of_gradients(name: str) -> bool:
    return issubclass(combiner_class(name), GradientCombiner)


# --------------------------------------------------------------------------------- one page


def rows_of(text: str) -> list[list[str]]:
    """The rows of the first table in a text, cells stripped, the line of dashes left out."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                found.append(cells)
        elif found:
            break
    return found


def section(text: str, title: str) -> str:
    """What stands under a heading."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return found.group(1) if found else ""


def page(name: str) -> dict[str, str]:
    """The cells of a combiner's page, by what they are.

    Raises:
        SystemExit: there is no such page, or it lacks a row; says what to write.
    """
    path = PAGES / f"{name}.md"
    if not path.exists():
        raise SystemExit(f"docs/combiners/{name}.md is missing: copy a page of its kind")
    text = path.read_text(encoding="utf-8")
    facts = {row[0]: row[1] for row in rows_of(section(text, "In short")) if row[0]}
    edges = rows_of(section(text, "Edge cases"))
    columns = EDGES[of_gradients(name)]
    if len(edges) != 2 or tuple(edges[0]) != columns:
        raise SystemExit(f"{path.name}: 'Edge cases' should be one row under {' | '.join(columns)}")
    missing = [key for key in ("Formula", "Symbols", "Source", "Needs", "Cost") if key not in facts]
    unknown = [key for key in facts if key not in IN_SHORT]
    if missing or unknown:
        raise SystemExit(f"{path.name}: 'In short' lacks {missing}, does not know {unknown}")
    return {**facts, **dict(zip(columns, edges[1], strict=True))}


def signature(cls: type[Combiner], defaults: bool = True) -> str:
    """The combiner as a call with its own arguments.

    Example:
        >>> signature(combiner_class("STCH"))
        'STCH(mu=1.0, weights=None, reference=None)'
        >>> signature(combiner_class("PCGrad"), defaults=False)
        'PCGrad(seed)'
    """
    if cls.__init__ is Combiner.__init__:
        return f"{cls.__name__}()" if defaults else cls.__name__
    shared = {"boundary", "interval", "private"} if issubclass(cls, GradientCombiner) else set()
    parameters = [
        p
        for p in list(inspect.signature(cls.__init__).parameters.values())[1:]
        if p.kind is not p.VAR_KEYWORD and p.name not in shared
    ]
    if not parameters:
        return f"{cls.__name__}()" if defaults else cls.__name__
    said = [
        f"{p.name}={p.default!r}" if defaults and p.default is not p.empty else p.name
        for p in parameters
    ]
    return f"{cls.__name__}({', '.join(said)})"


def from_docstring(name: str) -> str:
    """What a page takes from the docstring: how it is made, what it is, its arguments."""
    cls = combiner_class(name)
    prose, parts = parts_of(cls)
    while "Args" not in parts and cls.__init__ is cls.__base__.__init__ is not Combiner.__init__:
        cls = cls.__base__
        parts = {**parts_of(cls)[1], **parts}
    lines = [f"`{signature(combiner_class(name))}`", "", prose, ""]
    for title, heading in (("Args", "Arguments"), ("Raises", "Raises")):
        if title in parts:
            lines += [f"**{heading}**", ""]
            for entry in re.split(r"\n(?= {4}\S)", parts[title].rstrip()):
                label, _, rest = " ".join(entry.split()).partition(": ")
                lines.append(f"- `{label}`: {rest}")
            if title == "Args":
                lines.append(_of_prefer(name))
            lines.append("")
        elif title == "Args":
            lines += [f"**{heading}**", "", _of_prefer(name), ""]
    return "\n".join(lines)


def _of_prefer(name: str) -> str:
    honoured = combiner_class(name).preference
    if honoured.where == "no":
        return f"- `prefer`: refused: {honoured.words}."
    return f"- `prefer`: importance of each term, p: {honoured.words}."


def parts_of(cls: type) -> tuple[str, dict[str, str]]:
    """A docstring's prose, and its sections by title."""
    text = markdown(inspect.getdoc(cls) or "")
    parts = re.split(r"^(Args|Raises|Example):\n", text, flags=re.MULTILINE)
    return parts[0].strip(), dict(zip(parts[1::2], parts[2::2], strict=True))


# ----------------------------------------------------------------------------------- tables


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A markdown table."""
    lines = [list(header)]
    lines += [["---"] * len(lines[0]), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _table(
    header: tuple[str, ...], chosen: list[str], cells: tuple[str, ...], link: str, full: bool
) -> str:
    rows = []
    for name in chosen:
        found = page(name)
        said = signature(combiner_class(name), full)
        rows.append([f"[`{said}`]({link}{name}.md)", *(found.get(cell, "") for cell in cells)])
    return table(header, rows)


def _families(chosen: list[str], link: str) -> str:
    rows = []
    for kind, (title, what) in FAMILIES.items():
        links = ", ".join(f"[`{n}`]({link}{n}.md)" for n in chosen if kind_of(n) == kind)
        rows.append([title, what, links])
    return table(("Family", "What its combiners are", "Combiners"), rows)


def tables(link: str) -> dict[str, str]:
    """Every table over all combiners, by the name of its block.

    Args:
        link: from the file to the pages.
    """
    ours = names()
    values = [n for n in ours if not of_gradients(n)]
    gradients = [n for n in ours if of_gradients(n)]
    told = [n for n in ours if "Helps when" in page(n)]
    long = ("Formula", "Weights", "Source")
    choices = ("Needs", "Cost", "Helps when")
    solved = ("Formula", "Needs", "Source")
    return {
        "families": _families(ours, link),
        "choices": _table(("Method", *choices), told, choices, link, False),
        "formulas": _table(
            ("Combiner and arguments", "f(L)", "Weights wₖ", "Source"), values, long, link, True
        ),
        "preferences": _preferences(ours, link),
        "edges": _table(("Combiner", *EDGES[False]), values, EDGES[False], link, False),
        "combined gradients": _table(
            ("Combiner and own arguments", "Combined gradient", "Needs", "Source"),
            gradients, solved, link, True,
        ),
        "gradient edges": _table(("Combiner", *EDGES[True]), gradients, EDGES[True], link, False),
    }  # fmt: skip


def _preferences(chosen: list[str], link: str) -> str:
    """What `prefer` does to each combiner, those that refuse it last."""
    honoured = {name: combiner_class(name).preference for name in chosen}
    rows = [
        [f"[`{name}`]({link}{name}.md)", "no" if how.where == "no" else "yes", how.words]
        for name, how in sorted(honoured.items(), key=lambda item: item[1].where == "no")
    ]
    return table(("Combiner", "`prefer`", "What becomes of p, or why not"), rows)


def filled(text: str, make: Callable[[str], str]) -> str:
    """A file's text with its blocks made anew."""
    return _BLOCK.sub(lambda m: f"{m.group(1)}{make(m.group(2)).strip()}\n{m.group(3)}", text)


def made() -> dict[Path, str]:
    """Every file that has blocks, with its text as it should be."""
    found: dict[Path, str] = {}
    for name in names():
        page(name)
        path = PAGES / f"{name}.md"
        found[path] = filled(path.read_text(encoding="utf-8"), lambda _, n=name: from_docstring(n))
    for path in TABLES:
        link = "" if path.parent == PAGES else "docs/combiners/"
        blocks = tables(link)
        found[path] = filled(path.read_text(encoding="utf-8"), lambda block, b=blocks: b[block])
    return found


def stale() -> list[str]:
    """The files whose blocks are not what they should be, and pages of no combiner."""
    old = [path for path, text in made().items() if path.read_text(encoding="utf-8") != text]
    strays = [p for p in PAGES.glob("*.md") if p.stem not in (*names(), "README")]
    return sorted(str(path.relative_to(DOCS.parent)) for path in (*old, *strays))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, say what is stale")
    if parser.parse_args().check:
        found = stale()
        print("\n".join(f"{name} is stale: make docs" for name in found) or "nothing is stale")
        return int(bool(found))
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
