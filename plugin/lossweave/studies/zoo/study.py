"""Try every model of the zoo, each in a process of its own, resumable at any moment."""

import importlib
import json
import logging
import multiprocessing
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lossweave.combiners import build_combiner
from lossweave.errors import LossweaveError
from lossweave.host.paths import config_root, model_zoo
from lossweave.studies.zoo.catalog import Entry, catalog, in_order
from lossweave.studies.zoo.report import write_zoo
from lossweave.studies.zoo.trial import COMBINERS, Trial, try_model
from lossweave.utils.files import write_atomically, write_json
from lossweave.utils.provenance import provenance

__all__ = ["Zoo", "run_zoo"]

_TRIALS = "zoo.jsonl"
_CATALOG = "catalog.json"
#: By framework, the module that knows its models, and the class of one. The frameworks are extras.
FRAMEWORKS = {
    "mmdet": ("lossweave.studies.zoo.mmdet_models", "MMDetectionModel"),
    "detectron2": ("lossweave.studies.zoo.detectron2_models", "Detectron2Model"),
}


@dataclass(frozen=True)
class Zoo:
    """What is tried.

    Args:
        framework: whose zoo, one of :data:`FRAMEWORKS`.
        only: what a config's name must contain, any of these; nothing means all.
        work_dir: where the trials are kept and the table is written.
        seconds: how long one model may take, of a core's time.
        gigabytes: how much memory it may take.
        again: try once more what failed, or did not train in stock.
        command: the command that was typed, for the record.
    """

    framework: str = "mmdet"
    only: tuple[str, ...] = ()
    work_dir: str = "work_dirs/zoo"
    seconds: float = 300.0
    gigabytes: float = 6.0
    again: bool = False
    command: str = ""


def run_zoo(zoo: Zoo) -> list[Trial]:
    """Try what is not tried yet; write ``zoo.md`` after every model.

    Raises:
        LossweaveError: no config has such a name.
    """
    folder = Path(zoo.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    entries, without = _catalog(zoo.framework, folder)
    chosen = [
        entry
        for entry in in_order(entries)
        if not zoo.only or any(part in name for name in entry.names for part in zoo.only)
    ]
    if not chosen:
        raise LossweaveError(f"no config's name contains {' or '.join(zoo.only)}")
    trials = {trial.configs[0]: trial for trial in _read(folder / _TRIALS)}
    origin = provenance(zoo.command)

    def write() -> None:
        write_zoo(folder / "zoo.md", zoo.framework, trials.values(), entries, without, origin)

    with tqdm(chosen, desc="models", unit="model") as bar:
        for entry in bar:
            known = trials.get(entry.names[0])
            if known is not None and not (zoo.again and _failed(known)):
                continue
            bar.set_postfix_str(entry.names[0])
            trial = _tried(entry, zoo)
            trials[entry.names[0]] = trial
            _write(folder / _TRIALS, trials.values())
            if not trial.good:
                tqdm.write(f"{entry.names[0]}: {trial.results}")
            write()
    write()
    return [trials[entry.names[0]] for entry in chosen]


def _failed(trial: Trial) -> bool:
    return bool(trial.stock) or not trial.good


def _read(path: Path) -> list[Trial]:
    if not path.is_file():
        return []
    return [Trial(**json.loads(line)) for line in path.read_text().splitlines()]


def _write(path: Path, trials: Iterable[Trial]) -> None:
    lines = [json.dumps(asdict(trial)) for trial in trials]
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode())


def _catalog(framework: str, folder: Path) -> tuple[list[Entry], dict[str, str]]:
    """The zoo's models, kept beside the trials: reading all configs takes minutes."""
    path = folder / _CATALOG
    root = model_zoo() if framework == "detectron2" else config_root(framework)
    kept: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    if "kinds" in kept:
        known = zip(kept["models"], kept["kinds"], strict=True)
        entries = [Entry(str(root / names[0]), tuple(names), kind) for names, kind in known]
        if all(Path(entry.path).is_file() for entry in entries):
            return entries, kept["without"]
    entries, without = catalog(root, importlib.import_module(FRAMEWORKS[framework][0]).content)
    columns = {"models": [e.names for e in entries], "kinds": [e.kind for e in entries]}
    write_json(path, {**columns, "without": without})
    return entries, without


def _tried(entry: Entry, zoo: Zoo) -> Trial:
    """A trial in a process of its own, ended where it takes too long or too much memory."""
    importlib.import_module(FRAMEWORKS[zoo.framework][0])  # once, for all the processes
    for combiner in COMBINERS:  # and the solver of one
        build_combiner(combiner)
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_in_child, args=(zoo.framework, entry, sending))
    started = time.time()
    process.start()
    sending.close()
    trial = Trial(list(entry.names))
    try:
        while True:
            if receiving.poll(0.5):
                return receiving.recv()
            if _seconds(process.pid, started) > zoo.seconds:
                trial.stock = f"stopped: it took more than {zoo.seconds:.0f} seconds"
                return trial
            if _memory(process.pid) > zoo.gigabytes * 2**30:
                trial.stock = f"stopped: it took more than {zoo.gigabytes:.0f} GB of memory"
                return trial
    except EOFError:
        process.join()
        trial.stock = f"its process ended with status {process.exitcode}"
        return trial
    finally:
        trial.seconds = round(time.time() - started, 1)
        if process.is_alive():
            process.kill()
        process.join()


def _in_child(framework: str, entry: Entry, sending: Connection) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(quiet, stream)
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    module, name = FRAMEWORKS[framework]
    read = partial(getattr(importlib.import_module(module), name), entry.path)
    sending.send(try_model(read, list(entry.names)))


def _seconds(pid: int | None, started: float) -> float:
    """How long a process has computed; where the system does not say, since when it runs.

    What else the machine does is no fault of a model's.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return time.time() - started


def _memory(pid: int | None) -> int:
    """What a process holds in memory, in bytes, without the files that it reads its code from.

    0 where the system does not say.
    """
    try:
        _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
        return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
