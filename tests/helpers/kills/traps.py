"""Where a process is killed: at a file, in a call, or in an iteration of a training.

A trap is plain data, so that it can be sent to the process that it is for. It is set there by
wrapping a public function, and kills with SIGKILL: nothing is caught, closed or flushed. Or
another signal is sent, which asks to stop.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["Trap", "arm", "at_call", "at_file", "in_iteration"]


@dataclass(frozen=True)
class Trap:
    """A moment.

    Args:
        name: in reports.
        kind: 'file' (a file takes its place), 'call' (of a function), 'iteration' (its end).
        where: the end of the file's path, ``module:function``, or the folder of the training.
        when: for files 'before' (written beside), 'half' (half of it written beside) or 'after'
            (it has its place); for calls 'before' or 'after'.
        nth: which time, from 1; of an iteration its number.
        then: what is done to the folder after the kill: 'truncate' cuts the newest checkpoint,
            'empty note' the note of the last one; '' is nothing.
        number: of the signal.
    """

    name: str
    kind: Literal["file", "call", "iteration"]
    where: str
    when: Literal["before", "half", "after"] = "before"
    nth: int = 1
    then: str = ""
    number: int = signal.SIGKILL


def at_file(where: str, when: Any = "before", nth: int = 1, name: str = "", then: str = "") -> Trap:
    """A moment in the writing of a file."""
    return Trap(name or f"{where}, {when}", "file", where, when, nth, then)


def at_call(where: str, nth: int, name: str, when: Any = "before") -> Trap:
    """A moment in a call of a function, the nth in its process."""
    return Trap(name, "call", where, when, nth)


def in_iteration(folder: str, number: int, name: str = "", then: str = "") -> Trap:
    """The end of an iteration, counted from 1, of the training in a folder of that name."""
    said = name or f"iteration {number} of {folder}"
    return Trap(said, "iteration", folder, nth=number, then=then)


def arm(trap: Trap) -> None:
    """Set the trap in this process."""
    global _number
    _number = trap.number
    {"file": _file, "call": _call, "iteration": _iteration}[trap.kind](trap)


_number: int = signal.SIGKILL


def _die() -> None:
    os.kill(os.getpid(), _number)


def _counted(nth: int) -> Callable[[], bool]:
    seen = 0

    def now() -> bool:
        nonlocal seen
        seen += 1
        return seen == nth

    return now


def _file(trap: Trap) -> None:
    stock, now = os.replace, _counted(trap.nth)

    def replace(source: Any, target: Any, **options: Any) -> None:
        if not str(target).endswith(trap.where) or not now():
            stock(source, target, **options)
            return
        if trap.when == "half":
            os.truncate(source, os.path.getsize(source) // 2)
        if trap.when == "after":
            stock(source, target, **options)
        _die()

    os.replace = replace


def _call(trap: Trap) -> None:
    module_name, _, path = trap.where.partition(":")
    owner: Any = importlib.import_module(module_name)
    *outer, last = path.split(".")
    for name in outer:
        owner = getattr(owner, name)
    stock, now = getattr(owner, last), _counted(trap.nth)

    def call(*args: Any, **kwargs: Any) -> Any:
        fatal = now()
        if fatal and trap.when == "before":
            _die()
        found = stock(*args, **kwargs)
        if fatal:
            _die()
        return found

    setattr(owner, last, call)


def _iteration(trap: Trap) -> None:
    """Before the hooks that save and write have had their turn."""
    if "mmengine" in _frameworks():
        from mmengine.runner import Runner

        stock = Runner.call_hook

        def call_hook(runner: Any, name: str, **options: Any) -> None:
            here = Path(runner.work_dir).name == trap.where
            if name == "after_train_iter" and here and runner.iter + 1 == trap.nth:
                _die()
            stock(runner, name, **options)

        Runner.call_hook = call_hook
    if "detectron2" in _frameworks():
        from detectron2.engine import SimpleTrainer

        step = SimpleTrainer.run_step

        def run_step(trainer: Any) -> None:
            step(trainer)
            folders = {
                Path(hook.checkpointer.save_dir).name
                for hook in trainer._hooks
                if hasattr(hook, "checkpointer")
            }
            # A yaml config's trainer has its hooks in another object around this one.
            if trap.where in (folders or {"run"}) and trainer.iter + 1 == trap.nth:
                _die()

        SimpleTrainer.run_step = run_step


def _frameworks() -> set[str]:
    return {"mmengine", "detectron2"} & set(sys.modules)
