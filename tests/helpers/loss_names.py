"""The names of all losses in the installed frameworks, read from their code.

Nothing is imported: a name is a key of a dictionary that a function of the package writes down
(``dict(loss_cls=...)``, ``{'loss_cls': ...}``, ``losses['loss_cls'] = ...``, ``update``,
``losses['loss_cls'].append``), as it stands there; ``{}`` is what an f-string fills in.
``python tests/helpers/loss_names.py`` prints them.
"""

import ast
import importlib.util
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

#: Where a framework's losses are made, and keys with 'loss' in them that are no losses' names.
PLACES = {
    "mmdet": ("models",),
    "detectron2": ("modeling", "projects"),
    "torchvision": ("models/detection",),
}
ARGUMENTS = (
    "loss_weight", "loss_normalizer", "loss_top_k", "loss_type", "loss_alpha", "loss_gamma",
)  # fmt: skip
#: torchvision's one-stage detectors have no 'loss' in their names.
WITHOUT_LOSS = ("classification", "bbox_regression", "bbox_ctrness")


def loss_names(package: str) -> dict[str, list[str]]:
    """By name, the places in the package's code (``path:line``) that make such a loss."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not installed")
    root = Path(next(iter(spec.submodule_search_locations)))
    found: dict[str, list[str]] = defaultdict(list)
    for place in PLACES[package]:
        for path in sorted((root / place).rglob("*.py")):
            for name, line in _names(ast.parse(path.read_text(encoding="utf-8"))):
                found[name].append(f"{path.relative_to(root)}:{line}")
    return dict(sorted(found.items()))


def _names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    options = {id(node) for node in ast.walk(tree) if _is_options(node)}
    for node in ast.walk(tree):
        if id(node) in options:
            continue
        for key in _keys(node):
            name = key if isinstance(key, str) else _literal(key)
            if ("loss" in name or name in WITHOUT_LOSS) and not name.endswith(ARGUMENTS):
                yield name, node.lineno  # type: ignore[attr-defined]


def _is_options(node: ast.AST) -> bool:
    """Whether it writes down a config: a dictionary with a type, or a default of an argument."""
    if isinstance(node, ast.Call) and _called(node) == "dict":
        return any(word.arg in ("type", "loss_weight") for word in node.keywords) or all(
            isinstance(word.value, ast.Constant) for word in node.keywords
        )
    return isinstance(node, ast.Dict) and all(
        isinstance(value, (ast.Constant, ast.Name)) and "weight" in ast.unparse(value)
        for value in node.values
    )


def _keys(node: ast.AST) -> Iterator[ast.expr | str]:
    if isinstance(node, ast.Call) and _called(node) in ("dict", "update"):
        yield from (word.arg for word in node.keywords if word.arg)
    elif isinstance(node, ast.Call) and _called(node) == "append":
        at = getattr(node.func, "value", None)
        if isinstance(at, ast.Subscript):
            yield at.slice
    elif isinstance(node, ast.Dict):
        yield from (key for key in node.keys if key is not None)
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
        yield node.slice


def _called(node: ast.Call) -> str:
    return getattr(node.func, "id", getattr(node.func, "attr", ""))


def _literal(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
        return "".join(map(str, parts))
    return ""


if __name__ == "__main__":
    for package in PLACES:
        print(f"== {package}")
        for name, places in loss_names(package).items():
            print(name, *places[:3], "..." if len(places) > 3 else "")
