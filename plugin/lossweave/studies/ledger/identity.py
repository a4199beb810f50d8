"""What decides a training: its resolved config, the code, the machine."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lossweave.studies.ledger.result import Code, Machine, hashed
from lossweave.utils.provenance import machine, versions

__all__ = ["code_of_today", "config_hash", "harmless", "machine_of_today", "without_harmless"]

#: Of a config, what is about showing and keeping; what a result has in a field of its own.
_SHOWN = (
    *("log_processor", "log_level", "visualizer", "vis_backends", "work_dir", "experiment_name"),
    *("resume", "randomness.seed", "model.combiner", "launcher"),
    *(f"default_hooks.{hook}" for hook in ("logger", "checkpoint", "timer", "visualization")),
    *("default_hooks.weight_sample", "default_hooks.lossweave.interval"),
)
#: Likewise, wherever they stand.
_LOADING = ("num_workers", "persistent_workers", "pin_memory")
#: What of the package trains nothing.
_BESIDE = ("studies", "cli")


def harmless(key: str) -> bool:
    """Whether a config's setting changes nothing about what is learned.

    Example:
        >>> harmless("train_dataloader.num_workers"), harmless("train_cfg.max_iters")
        (True, False)
    """
    shown = any(key == name or key.startswith(f"{name}.") for name in _SHOWN)
    return shown or key.rpartition(".")[2] in _LOADING


def without_harmless(options: Sequence[str]) -> tuple[str, ...]:
    """``--cfg-options`` without those that change nothing about what is learned.

    Example:
        >>> without_harmless(["train_cfg.max_iters=9", "randomness.seed=1"])
        ('train_cfg.max_iters=9',)
    """
    return tuple(option for option in options if not harmless(option.partition("=")[0]))


def config_hash(config: Mapping[str, Any]) -> str:
    """A hash of a resolved config, whatever the order of its keys.

    Args:
        config: plain values, or classes in them.

    Example:
        >>> config_hash({"a": 1, "log_level": "INFO"}) == config_hash({"a": 1})
        True
    """
    return hashed(_kept(config, ""))


def _kept(value: Any, place: str) -> Any:
    if isinstance(value, Mapping):
        return {
            str(key): _kept(item, f"{place}{key}.")
            for key, item in value.items()
            if not harmless(f"{place}{key}")
        }
    if isinstance(value, (list, tuple)):
        return [_kept(item, place) for item in value]
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return value


def machine_of_today(threads: int | None = None) -> Machine:
    """This machine.

    Args:
        threads: torch's in the training; None means those of this process.
    """
    found = machine()
    return Machine(
        cpu=found["cpu"],
        threads=found["torch_threads"] if threads is None else threads,
        accelerator=found["accelerator"],
        cores=found["cores"],
        system=found["system"],
    )


@cache
def code_of_today() -> Code:
    """This package: its version, and the last commit that changed what trains.

    Changes that are in no commit are told by a hash behind the commit. Without a repository
    around the package the commit is not known.
    """
    version = versions().get("lossweave")
    package = Path(__file__).parents[2]
    paths = [".", *(f":(exclude){room}" for room in _BESIDE)]
    commit = _git(package, "log", "-1", "--format=%H", "--", *paths)
    if not commit:
        return Code(version)
    changed = _git(package, "diff", "HEAD", "--", *paths)
    added = _git(package, "ls-files", "--others", "--exclude-standard", "--", *paths)
    text = f"{changed}\n{added}".encode()
    for name in (added or "").splitlines():
        text += (package / name).read_bytes()
    suffix = f"+{hashlib.sha256(text).hexdigest()[:8]}" if changed or added else ""
    return Code(version, commit[:12] + suffix)


def _git(folder: Path, *words: str) -> str | None:
    """What git says, or None where it cannot."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
