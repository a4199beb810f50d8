"""The parts of a detector over its depth: stages of the backbone, neck, heads."""

from collections.abc import Iterator

from torch import nn

__all__ = ["parts_of"]

#: A module that holds this share of its parent's parameters, or more, is seen as its children.
_NEARLY_ALL = 0.75
#: Parts of one child of the model, above which neighbours are put together.
_MOST = 8
#: Names under which detectors keep a backbone.
_BACKBONE = ("backbone", "bottom_up", "body")


def parts_of(model: nn.Module) -> dict[str, list[str]]:
    """The names of a model's trained parameters, by part, in the order of the modules.

    Each child of the model is seen as its own children where it is a backbone or a head (has
    children, and is no neck); one that holds nearly all of its parent's parameters is seen as
    its children in turn. Of a backbone's many blocks, neighbours are put together.

    Args:
        model: a detector.

    Example:
        >>> model = nn.ModuleDict({"backbone": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)),
        ...                        "neck": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)),
        ...                        "head": nn.ModuleDict({"cls": nn.Linear(2, 1)})})
        >>> list(parts_of(model))
        ['backbone.0', 'backbone.1', 'neck', 'head.cls']
    """
    found: dict[str, list[str]] = {}
    for name, child in model.named_children():
        pieces = list(_pieces(name, child, _is_neck(name)))
        for group in _grouped(pieces):
            first, last = group[0][0], group[-1][0]
            title = first if first == last else f"{first}-{last.rpartition('.')[2]}"
            found[title] = [parameter for _, parameters in group for parameter in parameters]
    own = [name for name, p in model.named_parameters(recurse=False) if p.requires_grad]
    if own:
        found["model"] = own
    return found


def _is_neck(name: str) -> bool:
    return "neck" in name or "fpn" in name


def _pieces(path: str, module: nn.Module, whole: bool) -> Iterator[tuple[str, list[str]]]:
    """Some modules below one, with their trained parameters; those without are left out."""
    trained = _trained(path, module)
    if not trained:
        return
    children = [(name, child) for name, child in module.named_children() if _trained("", child)]
    if whole or not children:
        yield path, trained
        return
    count = _size(module)
    seen: set[str] = set()
    for name, child in children:
        below = f"{path}.{name}"
        deeper = _size(child) >= _NEARLY_ALL * count or name in _BACKBONE
        for piece in _pieces(below, child, not deeper or _is_neck(name)):
            seen.update(piece[1])
            yield piece
    own = [name for name in trained if name not in seen]
    if own:
        yield path, own


def _grouped(
    pieces: list[tuple[str, list[str]]],
) -> Iterator[list[tuple[str, list[str]]]]:
    """Neighbours together, where there are too many, in groups of about as many pieces."""
    count = min(len(pieces), _MOST)
    for i in range(count):
        yield pieces[i * len(pieces) // count : (i + 1) * len(pieces) // count]


def _trained(path: str, module: nn.Module) -> list[str]:
    prefix = f"{path}." if path else ""
    return [f"{prefix}{name}" for name, p in module.named_parameters() if p.requires_grad]


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
