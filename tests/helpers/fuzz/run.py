"""Runs cases one after the other, in this process, and says what came of each."""

import argparse
import contextlib
import io
import logging
import os
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from helpers.fuzz.cases import Case, cases
from helpers.fuzz.staged import Reached, ready_stages
from helpers.fuzz.targets import TARGETS
from lossweave.cli import main
from lossweave.errors import LossweaveError

__all__ = ["Outcome", "ready", "run"]

_SECONDS = 60
_PLACES = {"work_dir", "OUTPUT_DIR", "train.output_dir"}


class Outcome(NamedTuple):
    """What came of a case.

    Args:
        kind: 'trained' or 'refused'.
        line: the line that it was refused with.
        fault: what is wrong with that; '' if nothing.
    """

    kind: str
    line: str
    fault: str


@contextlib.contextmanager
def ready(folder: Path) -> Iterator[None]:
    """With all that the cases need; in a folder of their own."""
    from helpers.fuzz import detectron2_side, mmdet_side

    before = Path.cwd()
    with (
        mmdet_side.quick(),
        detectron2_side.quick(folder / "images"),
        ready_stages(folder),
    ):
        os.chdir(folder)
        for name in ("TEXT", "file"):
            (folder / name).write_text("no checkpoint, and no folder")
        (folder / "EMPTY").touch()
        (folder / "FOLDER").mkdir(exist_ok=True)
        try:
            yield
        finally:
            os.chdir(before)


def run(case: Case) -> Outcome:
    """Run one case in the current folder.

    Args:
        case: which.
    """
    folder = Path(f"case_{case.number}")
    config = _write(case, folder)
    words = [config, *case.words]
    if "--work-dir" not in words and not _PLACES & case.changes.keys():
        words += ["--work-dir", str(folder / "work")]
    try:
        with _quiet(), _limited():
            main.train(words)
    except Reached:
        pass
    except LossweaveError as error:
        line = str(error)
        if case.right is None and "TimeoutError" in line:
            return Outcome("trained", "", "")  # for as long as the config now says
        fault = _fault(case, line)
        if list(folder.rglob("*.pth")):
            fault = fault or "refused after the first update"
        return Outcome("refused", line, fault)
    except (Exception, SystemExit) as error:
        if isinstance(error, TimeoutError) and case.right is None:
            return Outcome("trained", "", "")
        return Outcome("failed", f"{type(error).__name__}: {error}", "a traceback")
    return Outcome("trained", "", "accepted, and means nothing" if case.right is False else "")


def _fault(case: Case, line: str) -> str:
    if case.right:
        return "refused, and is right"
    if "\n" in line or len(line) > 900:
        return "more than one line"
    said = line.replace("-", "_")  # options are arguments, too
    named = any(word.replace("-", "_") in said for word in case.culprits)
    return "" if named or case.right is None else "does not name the culprit"


def _write(case: Case, folder: Path) -> str:
    """The mutated config's path."""
    folder.mkdir(exist_ok=True)
    text = case.target.text(case.changes)
    path = folder / f"mutated{case.target.suffix}"
    kind, at = case.broken
    place = int(at * len(text))
    if kind == "cut":
        text = text[:place]
    elif kind == "letter":
        text = text[:place] + "(#:é\t"[place % 5] + text[place + 1 :]
    elif kind == "line":
        lines = text.splitlines(keepends=True)
        del lines[int(at * len(lines))]
        text = "".join(lines)
    elif kind == "suffix":
        path = path.with_suffix(".txt")
    content = {"zeros": b"\0" * 100, "binary": bytes(range(128, 256)), "empty": b""}.get(kind)
    if kind == "folder":
        path.mkdir(exist_ok=True)
    elif kind != "missing":
        path.write_bytes(text.encode() if content is None else content)
    return str(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    sink = io.StringIO()
    with (
        contextlib.redirect_stdout(sink),
        contextlib.redirect_stderr(sink),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """An end to whatever hangs."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--only", type=int, nargs="*", help="numbers of cases")
    parser.add_argument("--lines", action="store_true", help="print what each was refused with")
    args = parser.parse_args()
    counts: Counter[str] = Counter()
    faults = []
    with tempfile.TemporaryDirectory() as name, ready(Path(name)):
        drawn = list(cases(args.count, args.seed, tuple(args.kinds)))
        chosen = [case for case in drawn if args.only is None or case.number in args.only]
        for case in tqdm(chosen, desc="mutations", unit="case", file=sys.stderr):
            outcome = run(case)
            counts[f"{case.target.name}: {outcome.kind}"] += 1
            if outcome.fault:
                told = f"{case.number} {case.target.name}, {case.what}: {outcome.fault}"
                faults.append(f"{told}\n    {outcome.line[:300]}")
                tqdm.write(faults[-1])
            if args.lines:
                print(case.number, case.target.name, case.what, "|", outcome.line)
    for kind in sorted(counts):
        print(f"{kind} {counts[kind]}")
    print(f"{len(faults)} of {len(chosen)} are at fault")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(_main())
