"""What is typed wrongly at the studies' command lines ends in one line before anything is built."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lossweave.errors import LossweaveError

REPOSITORY = Path(__file__).parents[2]
#: Of every tool: where its command line is, and what it needs before the wrong words.
TOOLS = {
    "benchmark": ("benchmark", []),
    "compare": ("compare", ["--methods", "Sum", "DWA"]),
    "demo": ("demo", []),
    "make_data": ("demo.data_cli", []),
    "turns": ("turns", []),
    "short_runs": ("short_runs", []),
    "zoo": ("zoo", []),
    "simulate": ("simulate", []),
    "results": ("results", []),
    "alternating_vs_joint": (
        "alternating_vs_joint", ["lossweave::mmdet/alternating/faster-rcnn_demo.py"],
    ),
}  # fmt: skip
WRONG = {
    "benchmark": (
        "--device tpu", "--device cuda:99", "--device cuda:-1", "--device ''", "--rounds 0",
        "--rounds -3", "--rounds 1e3", "--repeats 0", "--batch-size 0", "--threads -2",
        "--threads 99999", "--boundaries Nope", "--combiners Nope", "--combiners Sum Sum",
        "--work-dir file", "--work-dir file/below", "--detectors",
    ),
    "compare": (
        "--seeds -1", "--seeds 99999999999", "--seeds 1 1", "--jobs 0", "--jobs many",
        "--work-dir file", "--cfg-options x", "--cfg-options =3", "--rates nan 1",
        "--rates 0 1", "--rates inf 1", "--config nowhere.py", "--ledger file",
    ),
    "demo": (
        "--seed -1", "--iterations 0", "--iterations 99999999999", "--iterations 1.5",
        "--work-dir file", "--data-root file", "--config nowhere.py", "--combiners Nope",
    ),
    "make_data": (
        "--train 0", "--val -1", "--test x", "--size 0", "--size 99999", "--difficulty 7",
        "--difficulty nan", "--seed -1", "--root file",
    ),
    "turns": ("--lengths 0", "--lengths 1 1", "--seeds -1", "--jobs 0", "--work-dir file",
              "--cfg-options x", "--also Nope"),
    "short_runs": ("--iterations 0", "--batch-size 0", "--seed -1",
                   "--work-dir file", "--combiners Nope"),
    "zoo": ("--seconds 0", "--gigabytes -1", "--seconds nan", "--seconds inf", "--work-dir file",
            "--framework x"),
    "simulate": ("--steps 0", "--settle -1", "--scales 0", "--scales nan", "--scales -1",
                 "--seed -1", "--jobs 0", "--out file", "--combiners Nope", "--steps x"),
    "results": ("nowhere", "--ledger nowhere", "--ledger file --work-dir w"),
    "alternating_vs_joint": ("--seeds 0", "--seeds -2", "--jobs 0", "--work-dir file",
                             "--cfg-options x", "--cfg-options schedule.rpn.lr=fast"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pytest.importorskip("mmdet")
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("no folder")
    yield
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "work_dirs", "data"}


@pytest.mark.parametrize(
    ("tool", "words"), [(tool, words) for tool, wrong in WRONG.items() for words in wrong]
)
def test_one_line(tool: str, words: str) -> None:
    module, before = TOOLS[tool]
    module = module if "." in module else f"{module}.cli"
    command = getattr(importlib.import_module(f"lossweave.studies.{module}"), tool)
    with pytest.raises(LossweaveError) as caught:
        command([*before, *("" if word == "''" else word for word in words.split())])
    assert "\n" not in str(caught.value)


def test_a_card_that_is_not_there_is_found_before_anything_is_built() -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "tools/benchmark.py"), "--device", "cuda"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "error: argument --device: cuda is not there: this machine has no CUDA card"
    )
    assert not Path("work_dirs").exists()
