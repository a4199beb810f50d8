"""On what a number was measured."""

import os
import platform
from collections.abc import Mapping
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

__all__ = ["machine", "machine_line", "provenance", "versions"]

#: Distributions whose versions decide the numbers; of two names, the one that is installed.
_PACKAGES = {
    "lossweave": ("lossweave",),
    "torch": ("torch",),
    "torchjd": ("torchjd",),
    "mmengine": ("onedl-mmengine", "mmengine"),
    "mmdet": ("onedl-mmdetection", "mmdet"),
    "mmcv": ("onedl-mmcv", "mmcv"),
}


def machine() -> dict[str, Any]:
    """Processor, cores, threads of torch and accelerator; nothing that names the host.

    Example:
        >>> sorted(machine())
        ['accelerator', 'cores', 'cpu', 'system', 'torch_threads']
    """
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
    }


def machine_line(found: Mapping[str, Any] | None = None) -> str:
    """A machine in one line, for reports.

    Args:
        found: as :func:`machine` has it, None for what is not known; this one if None.

    Example:
        >>> machine_line({"cpu": "Any", "cores": 2, "torch_threads": 1, "accelerator": "H100"})
        'Any, 2 cores, 1 torch threads; H100'
    """
    found = machine() if found is None else found
    parts = [
        found["cpu"] or "a machine not recorded",
        *([f"{found['cores']} cores"] if found["cores"] else []),
        *([f"{found['torch_threads']} torch threads"] if found["torch_threads"] else []),
    ]
    accelerator = f"; {found['accelerator']}" if found["accelerator"] else ""
    return ", ".join(parts) + accelerator


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for name, distributions in _PACKAGES.items():
        for distribution in distributions:
            try:
                found[name] = version(distribution)
                break
            except PackageNotFoundError:
                continue
    return found


def provenance(command: str, **settings: Any) -> dict[str, Any]:
    """Where the numbers of a record come from.

    Args:
        command: the command that made them.
        settings: what else decided them.

    Returns:
        Both, with today's date, the machine and the versions.

    Example:
        >>> list(provenance("python tools/compare.py", seeds=(0, 1, 2)))
        ['command', 'seeds', 'date', 'machine', 'versions']
    """
    return dict(
        command=command,
        **settings,
        date=date.today().isoformat(),
        machine=machine(),
        versions=versions(),
    )


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
