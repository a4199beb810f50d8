"""Which configs the zoo has, which of them have the same model, and in which order to try them."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

__all__ = ["Entry", "catalog", "in_order"]

#: How large a backbone is, by the words in a config's name; others are between.
_SIZES = (
    (re.compile(r"tiny|nano|pico|mobilenet|r18|regnetx-400|regnetx-800|[-_]s[-_]|pvt-t|b0"), 0),
    (re.compile(r"r101|regnetx|x101|s101|r2-101|swin|hourglass|h32|h40|[-_][lx][-_]|pvt"), 2),
    (re.compile(r"64x4d|swin-[bl]|hourglass104|vitdet|glip|grounding"), 3),
)


@dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    Args:
        path: the config that is read.
        names: its name and those of the configs with the same model, relative to the zoo.
    """

    path: str
    names: tuple[str, ...]


def catalog(root: Path, content: Callable[[str], Any]) -> tuple[list[Entry], dict[str, str]]:
    """The models below a folder of configs, and why the other configs have none, by name.

    Args:
        root: the folder.
        content: what of a config decides its model; None where it has none.
    """
    models: dict[str, list[str]] = {}
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
        text = json.dumps(model, sort_keys=True, default=str)
        models.setdefault(hashlib.sha256(text.encode()).hexdigest(), []).append(name)
    return [Entry(str(root / names[0]), tuple(names)) for names in models.values()], without


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """The smallest model of every folder first, then the other models from small to large."""

    def size(entry: Entry) -> tuple[int, int, str]:
        name = entry.names[0]
        found = [rank for pattern, rank in _SIZES if pattern.search(name)]
        return max(found, default=1), len(name), name

    ranked = sorted(entries, key=size)
    folders: set[str] = set()
    first = []
    for entry in ranked:
        folder = entry.names[0].partition("/")[0]
        if folder not in folders:
            folders.add(folder)
            first.append(entry)
    return first + [entry for entry in ranked if entry not in first]
