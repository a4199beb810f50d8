"""Trainings as processes of their own: started, continued, tested, and never done twice.

Every training of a study is a ``tools/train.py``, so it can be repeated by hand. What is
finished is kept in its folder's ``score.json``; what was interrupted goes on with ``--resume``.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import torch
from mmengine.config import DictAction
from tqdm import tqdm

from lossweave.combination import LossCombination
from lossweave.combiners import combiner_class
from lossweave.errors import LossweaveError
from lossweave.host.paths import resolve_config, tools_root
from lossweave.mmdet.configs import load_config
from lossweave.studies.runs.record import read_run
from lossweave.utils.files import write_atomically

__all__ = [
    "AP",
    "AP50",
    "RATE",
    "Method",
    "Score",
    "Trial",
    "call",
    "parsed_options",
    "read_test_metrics",
    "refuse_other_settings",
    "run_all",
    "serial_loading",
    "train_and_test",
    "write_json",
]

AP, AP50 = "coco/bbox_mAP", "coco/bbox_mAP_50"
#: Where a config has its learning rate.
RATE = "optim_wrapper.optimizer.lr"
_Result = TypeVar("_Result")
#: Options that change nothing about what is learned.
_HARMLESS = ("default_hooks.", "log_processor.", "randomness.seed=")
#: Seconds between glances at what runs.
_GLANCE = 10.0
_LOADING = (".num_workers", ".persistent_workers")


@dataclass(frozen=True)
class Method:
    """A combiner with its arguments, as typed: ``'Sum weights=[1,2]'``.

    Raises:
        LossweaveError: an unknown combiner.

    Example:
        >>> method = Method.parse("Sum weights=[1,2]")
        >>> method.label, method.options, method.folder
        ('Sum weights=[1,2]', ('weights=[1,2]',), 'Sum_weights-1-2')
    """

    combiner: str
    options: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Method":
        """A method from its words."""
        words = text.split()
        if not words:
            raise LossweaveError("a method is a combiner's name and its options, not ''")
        combiner_class(words[0])
        return cls(words[0], tuple(words[1:]))

    @property
    def label(self) -> str:
        """As it was typed."""
        return " ".join([self.combiner, *self.options])

    @property
    def folder(self) -> str:
        """A name for a folder."""
        kept = "".join(c if c.isalnum() or c in "._" else "-" for c in "_".join(self.options))
        parts = [part for part in kept.split("-") if part]
        return "_".join(part for part in (self.combiner, "-".join(parts)) if part)


@dataclass(frozen=True)
class Score:
    """One finished training.

    Args:
        method: the method's label.
        seed: its seed.
        val: COCO AP on the validation split.
        test: COCO AP on the test split.
        test50: AP at IoU .50 on the test split.
        details: commands, weights, seconds per iteration.
        rate: the learning rate that the study asked for; None where it is the config's.
    """

    method: str
    seed: int
    val: float
    test: float
    test50: float
    details: dict[str, Any] = field(default_factory=dict)
    rate: float | None = None


@dataclass(frozen=True)
class Trial:
    """One training that a study asks for.

    Args:
        method: what combines the losses.
        seed: of the initial weights and of the order of the data.
        config: an iteration-based config with COCO evaluation on two splits.
        work_dir: the study's folder; the training has one of its own in it.
        options: further ``--cfg-options``.
        jobs: trainings that share the cores.
        rate: the learning rate; the config's if None.
    """

    method: Method
    seed: int
    config: str
    work_dir: str
    options: tuple[str, ...] = ()
    jobs: int = 1
    rate: float | None = None

    @property
    def folder(self) -> Path:
        """The training's own folder; one per learning rate, if the study asks for one."""
        rate = "" if self.rate is None else f"_lr{self.rate!r}"
        return Path(self.work_dir) / f"{self.method.folder}_seed{self.seed}{rate}"

    @property
    def settings(self) -> tuple[str, ...]:
        """All ``--cfg-options`` but the seed's."""
        return self.options if self.rate is None else (*self.options, f"{RATE}={self.rate!r}")


def train_and_test(trial: Trial) -> Score:
    """Train (or go on, or find it finished), evaluate on the test split, and keep the score.

    Where the study asked for a learning rate, a training whose loss stops being finite has
    AP 0, and ``diverged`` among its details.

    Raises:
        LossweaveError: the training failed (its log is named), or the folder holds a finished
            training with other settings.
    """
    folder, seed = trial.folder, trial.seed
    finished = folder / "score.json"
    if finished.is_file():
        score = Score(**json.loads(finished.read_text()))
        _refuse_other(folder, score, trial.settings)
        return score
    folder.mkdir(parents=True, exist_ok=True)
    config, log = resolve_config(trial.config), folder / "log.txt"
    options = [f"randomness.seed={seed}", *trial.settings]
    method = trial.method
    train = [
        *("tools/train.py", config, "--work-dir", str(folder), "--exact-resume"),
        *("--combiner", method.combiner),
        *(["--combiner-options", *method.options] if method.options else []),
        *("--cfg-options", *options),
    ]
    resume = ["--resume"] if (folder / "last_checkpoint").is_file() else []
    command = shlex.join(["python", *train]).replace(config, trial.config)
    try:
        call([*train[:4], *resume, *train[4:]], log, trial.jobs)
    except LossweaveError:
        # In a sweep over rates a loss that stops being finite is a finding, not a mistake.
        end = _last_line(log)
        if trial.rate is None or LossCombination.ADVICE not in end:
            raise
        details = dict(command=command, diverged=end)
        score = Score(method.label, seed, 0.0, 0.0, 0.0, details, trial.rate)
        write_json(finished, score.__dict__)
        return score
    run = read_run(folder, method.combiner)
    checkpoint = (folder / "last_checkpoint").read_text().strip()
    test = ["tools/test.py", config, checkpoint, "--work-dir", str(folder / "test")]
    call([*test, *(["--cfg-options", *trial.options] if trial.options else [])], log, trial.jobs)
    metrics = read_test_metrics(folder / "test")
    score = Score(
        method=method.label,
        seed=seed,
        val=run.metrics.get(AP, 0.0),
        test=metrics[AP],
        test50=metrics[AP50],
        details=dict(
            command=command,
            seconds_per_iteration=run.seconds_per_iteration,
            weights={name: term.weight.last for name, term in run.terms.items()},
        ),
        rate=trial.rate,
    )
    write_json(finished, score.__dict__)
    return score


def run_all(
    work: Sequence[Callable[[], _Result]],
    jobs: int,
    what: str,
    standing: Callable[[], str] | None = None,
) -> list[_Result]:
    """Do all of it, ``jobs`` at a time, behind a progress bar; the results in order.

    Args:
        work: what is done; each starts processes and waits for them.
        jobs: how many at a time.
        what: the bar's title.
        standing: says what runs at the moment, to be shown beside the bar.

    Raises:
        Exception: what the first item to fail raised; nothing is begun after that.
    """
    failed = Event()

    def begin(item: Callable[[], _Result]) -> _Result:
        if failed.is_set():
            raise CancelledError
        try:
            return item()
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(work), desc=what, unit="run") as bar:
        running = [pool.submit(begin, item) for item in work]
        left, shown = set(running), ""
        try:
            while left:
                done, left = wait(left, timeout=_GLANCE, return_when=FIRST_COMPLETED)
                for job in sorted(done, key=running.index):  # what failed before what gave way
                    job.result()
                bar.update(len(done))
                now = standing() if standing is not None else shown
                if now != shown:
                    bar.set_postfix_str(now)
                    shown = now
        except BaseException:
            failed.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [job.result() for job in running]


def call(words: Sequence[str], log: Path, jobs: int = 1) -> None:
    """Run one of lossweave's tools (``tools/x.py``) or modules as a process, into a log.

    Args:
        words: the tool or the module's dotted name, and its arguments.
        log: what it prints is appended here.
        jobs: processes that share the cores; each gets an equal part of the threads.

    Raises:
        LossweaveError: it failed; the log and its last line are named.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads must not spin on shared cores
    }
    tool = words[0].endswith(".py")
    begin = [str(tools_root() / Path(words[0]).name)] if tool else ["-m", words[0]]
    with open(log, "a") as file:
        done = subprocess.run(
            [sys.executable, *begin, *[w for w in words[1:] if w]],
            stdout=file, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip
    if done.returncode:
        raise LossweaveError(f"a training failed, see {log}: {_last_line(log)[:200]}")


def _last_line(log: Path) -> str:
    return next((line for line in reversed(log.read_text().splitlines()) if line.strip()), "")


def read_test_metrics(folder: Path) -> dict[str, float]:
    """What the newest test run wrote; a detector that finds nothing has no AP, i.e. 0.

    Raises:
        LossweaveError: nothing was written there.
    """
    files = sorted(folder.glob("*/*.json"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise LossweaveError(f"{folder} holds no test metrics")
    return {AP: 0.0, AP50: 0.0, **json.loads(files[-1].read_text())}


def parsed_options(options: Sequence[str]) -> dict[str, Any]:
    """``--cfg-options`` as the tools read them.

    Example:
        >>> parsed_options(["train_cfg.max_iters=5", "model.type=SSD"])
        {'train_cfg.max_iters': 5, 'model.type': 'SSD'}
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="*", action=DictAction)
    return parser.parse_args(["--cfg-options", *options]).cfg_options or {}


def serial_loading(config: str) -> tuple[str, ...]:
    """Options that load data without workers, where there is no GPU to keep busy.

    Workers compete with torch's threads for the same cores (measured for the demo). With
    numbered draws the data are the same either way.

    Raises:
        LossweaveError: there is no such config.
    """
    if torch.cuda.is_available():
        return ()
    cfg = load_config(config)
    return tuple(
        f"{split}_dataloader.{setting}"
        for split in ("train", "val", "test")
        if cfg.get(f"{split}_dataloader") is not None
        for setting in ("num_workers=0", "persistent_workers=False")
    )


def refuse_other_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Note in a folder what is trained there, and refuse it for anything else.

    Args:
        folder: a training's own.
        settings: plain values.

    Raises:
        LossweaveError: the folder has been begun with other settings.
    """
    noted = folder / "settings.json"
    wanted = json.loads(json.dumps(settings))
    if noted.is_file() and json.loads(noted.read_text()) != wanted:
        raise LossweaveError(
            f"{folder} holds a training with other settings ({noted}); choose another --work-dir"
        )
    if not noted.is_file():
        write_json(noted, wanted)


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that whoever reads the path finds all of it or the file before.

    A number that is not finite becomes null.
    """
    write_atomically(path, json.dumps(_finite(content), indent=1, allow_nan=False).encode())


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _refuse_other(folder: Path, score: Score, options: Sequence[str]) -> None:
    words = shlex.split(score.details.get("command", ""))
    if "--cfg-options" not in words:
        return
    before = _settings(words[words.index("--cfg-options") + 1 :])
    if before != _settings(options):
        raise LossweaveError(
            f"{folder} holds a finished training with other --cfg-options "
            f"({' '.join(sorted(before)) or 'none'}); choose another --work-dir"
        )


def _settings(options: Sequence[str]) -> set[str]:
    return {
        option
        for option in options
        if not option.startswith(_HARMLESS) and not option.partition("=")[0].endswith(_LOADING)
    }
