"""A forked tool is the tool: the same weights bit for bit, the same output, the same end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_child_uses_the_gpu(tmp_path: Path) -> None:
    tool, log = tmp_path / "tool.py", tmp_path / "log.txt"
    tool.write_text("import torch\nprint(torch.ones(2, device='cuda').sum().item())\n")
    assert run_forked(tool, [], log, {}, 1) == 0
    assert log.read_text().splitlines()[-1] == "2.0"


_COUNTS = """
import os
print(os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"])
"""


def test_gpus_are_counted_without_cudas_runtime(tmp_path: Path) -> None:
    tool, log = tmp_path / "tool.py", tmp_path / "log.txt"
    tool.write_text(_COUNTS)
    assert run_forked(tool, [], log, {}, 1) == 0
    assert log.read_text().splitlines()[-1] == "1"


_BECOMES = """
import sys
from lossweave.studies.runs.forked import _become
_become(sys.argv[1], ["a", "b c"])
"""


def test_where_a_fork_cannot_use_the_gpu_the_child_is_a_new_process(tmp_path: Path) -> None:
    tool = tmp_path / "tool.py"
    tool.write_text("import sys\nprint(sys.argv[1:], __name__)\nsys.exit(7)\n")
    words = [sys.executable, "-c", _BECOMES, str(tool)]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 7
    assert ended.stdout.splitlines()[-1] == "['a', 'b c'] __main__"


def test_wrong_input_is_one_line_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert run_forked(TRAIN, ["nowhere.py"], log, ENVIRONMENT, 1) == EXIT_WRONG_INPUT
    assert log.read_text().splitlines()[-1].startswith("error: ")


_TOOL = """
import signal, sys, time
from pathlib import Path

def end(*_):
    Path(sys.argv[1]).write_text("kept")
    sys.exit(143)

signal.signal(signal.SIGTERM, end)
print("begun", flush=True)
time.sleep(120)
"""
_STUDY = """
from pathlib import Path
import sys
from lossweave.studies.runs.forked import run_forked

if __name__ == "__main__":
    run_forked(Path(sys.argv[1]), [sys.argv[2]], Path(sys.argv[3]), {}, 1)
"""


def _until(found, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not found():
        time.sleep(0.1)
    return bool(found())


def test_a_killed_studys_training_keeps_what_it_has_and_ends(tmp_path: Path) -> None:
    tool, study = tmp_path / "tool.py", tmp_path / "study.py"
    tool.write_text(_TOOL)
    study.write_text(_STUDY)
    kept, log = tmp_path / "kept", tmp_path / "log.txt"
    parent = subprocess.Popen([sys.executable, str(study), str(tool), str(kept), str(log)])
    try:
        assert _until(lambda: log.is_file() and "begun" in log.read_text(), 120)
        assert not kept.exists()
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert _until(kept.is_file, 60)
    finally:
        parent.kill()
