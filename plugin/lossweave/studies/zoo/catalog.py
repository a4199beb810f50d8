"""Which configs the zoo has, which of them have the same model, and in which order to try them."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

__all__ = ["Entry", "catalog", "in_order", "kind_of"]

#: How large a backbone is, by the words in a config's name; others are between.
_SIZES = (
    (re.compile(r"tiny|nano|pico|mobilenet|r18|regnetx-400|regnetx-800|[-_]s[-_]|pvt-t|b0"), 0),
    (re.compile(r"r101|regnetx|x101|s101|r2-101|swin|hourglass|h32|h40|[-_][lx][-_]|pvt"), 2),
    (re.compile(r"64x4d|swin-[bl]|hourglass104|vitdet|glip|grounding"), 3),
)
#: What tells detectors apart, in the configs of either framework: which classes they are made of.
_NAMING = ("type", "_target_", "META_ARCHITECTURE", "NAME", "MASK_ON", "KEYPOINT_ON")
#: Parts of a config that decide no loss.
_NO_LOSS = ("backbone", "BACKBONE", "init_cfg", "norm_cfg", "data_preprocessor", "test_cfg")


@dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    Args:
        path: the config that is read.
        names: its name and those of the configs with the same model, relative to the zoo.
        kind: tells the detector and its losses; the same for models that differ in the backbone
            and in sizes alone.
    """

    path: str
    names: tuple[str, ...]
    kind: str = ""


def kind_of(model: Any) -> Any:
    """The classes that a model's config names, where it names them, without its backbone's.

    Example:
        >>> head = {"type": "GFLHead", "stacked_convs": 4, "loss_cls": {"type": "FocalLoss"}}
        >>> kind_of({"type": "GFL", "backbone": {"type": "ResNet"}, "bbox_head": head})
        {'type': 'GFL', 'bbox_head': {'type': 'GFLHead', 'loss_cls': {'type': 'FocalLoss'}}}
    """
    if isinstance(model, Mapping):
        found = {}
        for key, value in model.items():
            if key in _NO_LOSS:
                continue
            own = str(getattr(value, "__name__", value)).split(".")[-1]
            inner = own if key in _NAMING and not isinstance(value, Mapping) else kind_of(value)
            if inner:
                found[key] = inner
        return found
    if isinstance(model, (list, tuple)):
        kinds = [kind for kind in map(kind_of, model) if kind]
        return [kind for at, kind in enumerate(kinds) if kind not in kinds[:at]]
    return None


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def catalog(root: Path, content: Callable[[str], Any]) -> tuple[list[Entry], dict[str, str]]:
    """The models below a folder of configs, and why the other configs have none, by name.

    Args:
        root: the folder.
        content: what of a config decides its model; None where it has none.
    """
    models: dict[tuple[str, str], list[str]] = {}
    without: dict[str, str] = {}
    files = sorted(
        path
        for path in root.rglob("*")
        if path.suffix in (".py", ".yaml")
        and not {"_base_", "common"}.intersection(path.relative_to(root).parts)
        and not path.name.startswith(("Base-", "__init__"))
    )
    for path in tqdm(files, desc="reading configs", unit="config"):
        name = str(path.relative_to(root))
        try:
            model = content(str(path))
        except Exception as error:
            without[name] = f"it cannot be read: {type(error).__name__}: {error}".splitlines()[0]
            continue
        if not model:
            without[name] = "it has no model"
            continue
        models.setdefault((_digest(model), _digest(kind_of(model))), []).append(name)
    entries = [
        Entry(str(root / names[0]), tuple(names), kind) for (_, kind), names in models.items()
    ]
    return entries, without


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """The smallest model of every folder first, then of every kind, then the others by size."""

    def size(entry: Entry) -> tuple[int, int, str]:
        name = entry.names[0]
        found = [rank for pattern, rank in _SIZES if pattern.search(name)]
        return max(found, default=1), len(name), name

    ranked = sorted(entries, key=size)
    first: list[Entry] = []
    for group in (lambda entry: entry.names[0].partition("/")[0], lambda entry: entry.kind):
        seen = {group(entry) for entry in first}
        for entry in ranked:
            if group(entry) not in seen:
                seen.add(group(entry))
                first.append(entry)
    return first + [entry for entry in ranked if entry not in first]
