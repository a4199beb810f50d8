"""How the house is laid out: arrows between rooms run down, and no file is too large to walk.

CONTRIBUTING.md says the same in words.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import lossweave

PACKAGE = Path(lossweave.__file__).parent
LINES_OF_A_FILE, METHODS_OF_A_CLASS, LINES_OF_A_FUNCTION = 400, 20, 60

#: From each room, the rooms that its files may import. A room is a package or a module right under
#: lossweave; '' is lossweave itself. From top to bottom, so that each room is below its importers.
ARROWS = {
    "cli": "studies mmdet detectron2 torch_loop staged host combination combiners demo utils"
           " errors",
    "studies": "mmdet detectron2 torch_loop staged host combination combiners backward demo utils"
               " progress errors",
    "mmdet": "staged host combination combiners backward demo registry utils progress errors",
    "detectron2": "staged host combination combiners backward demo utils progress errors",
    "torch_loop": "host combination combiners backward utils progress errors",
    "staged": "host combination utils progress errors",
    "host": "combination utils progress errors",
    "": "combination combiners errors",
    "combination": "combiners backward utils progress errors",
    "combiners": "utils progress errors",
    "backward": "utils progress errors",
    "demo": "utils errors",
    "registry": "",
    "utils": "errors",
    "progress": "errors",
    "errors": "",
}  # fmt: skip

#: Arrows that run up, each with the reason why.
ARROWS_UP: dict[tuple[str, str], str] = {}

#: Rooms whose files import each other in circles, each with the reason why.
CIRCLES: dict[str, str] = {}

#: What is larger than it should be, each with the reason why.
LARGE = {
}


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package, by its dotted name."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(file.read_text(encoding="utf-8"))
    return found


def imports(name: str) -> Iterator[str]:
    """The modules of the package that one imports, inside functions included."""
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: relative imports hide where an arrow goes"
            wanted = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in wanted:
            if target.split(".")[0] == "lossweave":
                while target not in modules():
                    target = target.rpartition(".")[0]
                yield target


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def test_every_room_is_known_and_the_order_has_no_way_up() -> None:
    assert {room(name) for name in modules()} - set(ARROWS) == set()
    order = list(ARROWS)
    for above, below in ARROWS.items():
        for target in below.split():
            assert order.index(target) > order.index(above), f"{above} -> {target} runs up"


def test_arrows_between_rooms_run_down() -> None:
    wrong = {
        f"{name} imports {target}"
        for name in modules()
        for target in imports(name)
        if room(target) not in (room(name), *ARROWS[room(name)].split())
        and (room(name), room(target)) not in ARROWS_UP
    }
    assert not wrong
    there = {(room(name), room(target)) for name in modules() for target in imports(name)}
    assert not ARROWS_UP.keys() - there, "an arrow that is no longer there: take it off the list"


def test_no_circle_between_files() -> None:
    """Those that an import inside a function breaks included."""
    below = {name: set(imports(name)) - {name} for name in modules() if room(name) not in CIRCLES}
    while True:  # take away what imports nothing that is left
        ends = {name for name, targets in below.items() if not targets & below.keys()}
        if not ends:
            break
        below = {name: targets for name, targets in below.items() if name not in ends}
    left = {name: sorted(targets & below.keys()) for name, targets in below.items()}
    assert not left


def test_nothing_is_too_large() -> None:
    found = set()
    for file in sorted(PACKAGE.rglob("*.py")):
        name = str(file.relative_to(PACKAGE))
        text = file.read_text(encoding="utf-8")
        if len(text.splitlines()) > LINES_OF_A_FILE:
            found.add(name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                methods = [m for m in node.body if isinstance(m, ast.FunctionDef)]
                if len(methods) > METHODS_OF_A_CLASS:
                    found.add(f"{name}:{node.name}")
            elif isinstance(node, ast.FunctionDef) and _lines(node) > LINES_OF_A_FUNCTION:
                found.add(f"{name}:{node.name}")
    assert not found - LARGE.keys()
    assert not LARGE.keys() - found, "no longer too large: take it off the list"


def _lines(node: ast.FunctionDef) -> int:
    """The lines of a function, its docstring left out."""
    doc = node.body[0] if ast.get_docstring(node) is not None else None
    said = 0 if doc is None else (doc.end_lineno or 0) - doc.lineno + 1
    return (node.end_lineno or 0) - node.lineno + 1 - said
