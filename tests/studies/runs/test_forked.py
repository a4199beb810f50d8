"""A forked tool is the tool: the same weights bit for bit, the same output, the same end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.mmdet_support import assert_same
from helpers.mmdet_toy import toy_config, write_data

from lossweave.errors import EXIT_WRONG_INPUT
from lossweave.host.paths import tools_root
from lossweave.studies.runs.forked import run_forked

TRAIN = tools_root() / "train.py"
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("toy")
    cfg = toy_config("retinanet", write_data(folder / "data"), folder / "run", iterations=3)
    cfg.pop("work_dir")
    cfg.dump(folder / "toy.py")
    return str(folder / "toy.py")


def _words(config: str, work_dir: Path) -> list[str]:
    options = ["--exact-resume", "--combiner", "GradDrop", "--cfg-options", "randomness.seed=3"]
    return [config, "--work-dir", str(work_dir), *options]


def _weights(work_dir: Path) -> dict[str, torch.Tensor]:
    content = torch.load(work_dir / "iter_3.pth", weights_only=False)
    return dict(content["state_dict"])


def test_a_forked_training_is_the_tools_own_bit_for_bit(config: str, tmp_path: Path) -> None:
    alone = [sys.executable, str(TRAIN), *_words(config, tmp_path / "alone")]
    environment = {**os.environ, **ENVIRONMENT}
    subprocess.run(alone, check=True, env=environment, capture_output=True)
    before = dict(os.environ)
    for name in ("one", "two"):  # the second child finds what the first one left in the server
        words = _words(config, tmp_path / name)
        assert run_forked(TRAIN, words, tmp_path / "log.txt", ENVIRONMENT, 1) == 0
        assert_same(_weights(tmp_path / "alone"), _weights(tmp_path / name))
    assert dict(os.environ) == before
    assert (tmp_path / "log.txt").read_text().count("creating index") >= 2


def test_the_child_has_the_words_the_environment_and_the_threads(tmp_path: Path) -> None:
    tool, log = tmp_path / "tool.py", tmp_path / "log.txt"
    tool.write_text(
        "import os, sys, torch\n"
        "print(sys.argv[1:], os.environ['OF_THE_CHILD'], torch.get_num_threads(), __name__)\n"
        "sys.exit(7)\n"
    )
    assert run_forked(tool, ["a", "b c"], log, {"OF_THE_CHILD": "yes"}, 2) == 7
    assert log.read_text().splitlines()[-1] == "['a', 'b c'] yes 2 __main__"
    assert "OF_THE_CHILD" not in os.environ


def test_wrong_input_is_one_line_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert run_forked(TRAIN, ["nowhere.py"], log, ENVIRONMENT, 1) == EXIT_WRONG_INPUT
    assert log.read_text().splitlines()[-1].startswith("error: ")
