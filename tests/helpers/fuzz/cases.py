"""Seeded cases: a config and a command line, what is wrong with them, and who is to be named."""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from helpers.fuzz.targets import TARGETS, Target, with_box
from helpers.fuzz.values import COMBINERS, TERMS, some

__all__ = ["Case", "cases"]

#: Command lines by kind of config ('' is all): the words, and whether they train.
LINES: dict[str, tuple[tuple[list[str], bool], ...]] = {
    "": (
        (["--resume", "nowhere.pth"], False),
        (["--resume", "FOLDER"], False),
        (["--resume", "EMPTY"], False),
        (["--resume", "TEXT"], False),
        (["--resume"], True),
        (["--work-dir", "TEXT"], False),
        (["--work-dir", "TEXT/below"], False),
        (["--work-dir", ""], False),
        (["--launcher", "rocket"], False),
        (["--num-gpus", "0"], False),
        (["--num-gpus", "-1"], False),
        (["--num-gpus", "x"], False),
        (["--num-gpus", "7"], False),
        (["--combiner", "Summ"], False),
        (["--combiner", ""], False),
        (["--combiner"], False),
        (["--combiner", "Max"], True),
        (["--combiner", "Sum", "--combiner-options", "weights"], False),
        (["--combiner", "Sum", "--combiner-options", "=1"], False),
        (["--combiner", "Sum", "--combiner-options", "weights=[0,0]"], False),
        (["--combiner", "Sum", "--combiner-options", "weights=[1,2]"], True),
        (["--combiner", "Sum", "--combiner-options", "type=DWA"], False),
        (["--combiner", "DWA", "--combiner-options", "temperature=hot"], False),
        (["--combiner-options", "weights=[1,2]"], False),
        (["--terms", "tsk"], False),
        (["--terms", "a=", "b=loss_cls"], False),
        (["--terms", "a=loss_cls", "b"], False),
        (["--terms", "a=loss_nothing", "b=loss_cls"], False),
        (["--terms", "a=?x", "b=?y"], False),
        (["--terms", "loss"], True),
        (["--cfg-options", "x"], False),
        (["--cfg-options", "=5"], False),
        (["--cfg-options"], False),
        (["--auto-scale-lr"], False),
        (["--exact-resume"], True),
        (["--bla"], False),
        (["another.py"], False),
        (["--combiner-option", "p"], False),
    ),
    "mmdet": (
        (["--cfg-options", "train_cfg.max_iters=0"], False),
        (["--cfg-options", "optim_wrapper.optimizer.lr=inf"], False),
        (["--cfg-options", "optim_wraper.optimizer.lr=1"], False),
        (["--cfg-options", "model.combiner.type=Summ"], False),
        (["--cfg-options", "model.terms=[(1"], False),
        (["--cfg-options", "optim_wrapper.optimizer.lr=0.1"], True),
    ),
    "yaml": (
        (["--cfg-options", "SOLVER.MAX_ITER=0"], False),
        (["--cfg-options", "SOLVER.BASE_LR=nan"], False),
        (["--cfg-options", "SOLVER.BASELR=1"], False),
        (["--cfg-options", "LOSSWEAVE.COMBINER.TYPE=Summ"], False),
        (["--cfg-options", "SOLVER.MAX_ITER=[(1"], False),
        (["--cfg-options", "SOLVER.BASE_LR=0.1"], True),
        (["--amp"], False),
    ),
    "lazy": (
        (["--cfg-options", "train.max_iter=0"], False),
        (["--cfg-options", "optimizer.lr=-1"], False),
        (["--cfg-options", "model.combiner=Summ"], False),
        (["--cfg-options", "train.max_iter=[(1"], False),
        (["--cfg-options", "optimizer.lr=0.1"], True),
        (["--amp"], False),
    ),
}
#: What becomes of a file, and whether that must be refused (None: whatever comes out).
BREAKS = (
    ("cut", None), ("letter", None), ("line", None), ("zeros", False), ("binary", False),
    ("empty", False), ("folder", False), ("missing", False), ("suffix", False),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One mutated training.

    Args:
        number: of the case.
        target: the kind of config.
        what: what was done.
        changes: values by path.
        words: of the command line.
        broken: what becomes of the file, with a number that says where.
        right: whether it must train (True), must be refused (False), or either (None).
        culprits: of these words one must be in the line.
    """

    number: int
    target: Target
    what: str
    right: bool | None
    changes: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    broken: tuple[str, float] = ("", 0.0)
    culprits: tuple[str, ...] = ()


def cases(count: int, seed: int = 0, kinds: tuple[str, ...] = tuple(TARGETS)) -> Iterator[Case]:
    """As many cases as asked for, the same for the same seed.

    Args:
        count: how many.
        seed: of the draws.
        kinds: names of targets.
    """
    draw = random.Random(seed)
    for number in range(count):
        target = TARGETS[kinds[number % len(kinds)]]
        makers = [_of_fields, _of_fields, _of_fields, _of_combiner, _of_combiner, _of_terms,
                  _of_line, _of_line, _of_file]  # fmt: skip
        made = draw.choice(makers[: 3 if not target.combines else None])
        case = made(number, target, draw)
        while target.name == "yaml" and not _is_yaml(case.changes):
            case = made(number, target, draw)
        yield case


def _of_fields(number: int, target: Target, draw: random.Random) -> Case:
    """One or two fields with other values."""
    changes, culprits, right = {}, [], True
    for chosen in draw.sample(target.fields, 1 if draw.random() < 0.7 else 2):
        if any(chosen.path.startswith(path) or path.startswith(chosen.path) for path in changes):
            continue
        value, fine = some(draw, chosen)
        changes[chosen.path] = value
        if not fine:
            right = False
            culprits += _names(chosen.path, value)
    what = ", ".join(f"{path}={value!r}" for path, value in changes.items())
    return Case(number, target, what, right, changes, culprits=tuple(culprits))


def _of_combiner(number: int, target: Target, draw: random.Random) -> Case:
    config, right = draw.choice(COMBINERS)
    names = [str(config.get("type")), "combiner", "COMBINER", *config]
    values = [text for value in config.values() for text in _names("", value)]
    what = f"combiner {config!r}"
    culprits = tuple(names + values)
    return Case(number, target, what, right, target.combiner(config), culprits=culprits)


def _of_terms(number: int, target: Target, draw: random.Random) -> Case:
    given, right = draw.choice(TERMS)
    terms = with_box(given, target.box)
    names = ["terms", "TERMS", "pattern", "combiner"]
    return Case(number, target, f"terms {terms!r}", right, target.terms(terms),
                culprits=tuple(names))  # fmt: skip


def _of_line(number: int, target: Target, draw: random.Random) -> Case:
    words, right = draw.choice(LINES[""] + LINES.get(target.name, ()))
    if words == ["another.py"] or words == ["--bla"]:
        names = [words[0], "unrecognized"]
    else:
        names = [part for word in words for part in (word, *word.split("="), word.split(".")[-1])]
        names += [part.split(".")[-1].strip("-") for part in names]
        names += ["pattern"] if "--terms" in words else []
    return Case(number, target, "words " + " ".join(words), right, words=tuple(words),
                culprits=tuple(name for name in names if len(name) > 1))  # fmt: skip


def _of_file(number: int, target: Target, draw: random.Random) -> Case:
    kind, right = draw.choice(BREAKS)
    return Case(number, target, f"file {kind}", right, broken=(kind, draw.random()),
                culprits=("config", "case", "mutated"))  # fmt: skip


def _names(path: str, value: Any) -> list[str]:
    """How a line may name a field: by its name, or by its value."""
    names = [path.split(".")[-1], str(value), repr(value)]
    if isinstance(value, (list, tuple, dict)):
        names += [str(item) for item in value]
    return [name for name in names if name]


def _is_yaml(changes: Mapping[str, Any]) -> bool:
    """Whether yaml's values say the same (json is a part of yaml that this writes through)."""
    try:
        json.dumps(changes, allow_nan=True)
    except (TypeError, ValueError):
        return False
    return all(not isinstance(v, float) or isfinite(v) or True for v in changes.values())
