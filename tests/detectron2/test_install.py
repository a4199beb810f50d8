"""The installer's wheel, and what a detectron2 without compiled operators says."""

import importlib.util
import io
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "install_detectron2.py"


def _load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tool() -> ModuleType:
    return _load(TOOL, "install_detectron2")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source package in the shape of the real one."""
    files = {
        "detectron2/__init__.py": "__version__ = '0.6'\n",
        "detectron2/data/build.py": "import numpy as np\nx = np.zeros(3, dtype=np.int), np.int32\n",
        "detectron2/evaluation/coco_evaluation.py": (
            "from detectron2.evaluation.fast_eval_api import COCOeval_opt\n"
        ),
        "detectron2/model_zoo/configs/A/b.yaml": "VERSION: 2\nnp.int\n",
        "projects/PointRend/point_rend/__init__.py": "",
        "setup.py": "raise SystemExit\n",
    }
    path = tmp_path / "pb1-detectron2-0.6.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"pb1-detectron2-0.6/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def test_the_wheel_installs(tool, source: Path, tmp_path: Path) -> None:
    wheel = tool.build_wheel(source, tmp_path)
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True, capture_output=True)
    files = {str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()}
    assert {"detectron2/_C.py", "detectron2/projects/point_rend/__init__.py"} <= files
    assert not any(name.startswith(("setup", "projects")) for name in files)
    text = (target / "detectron2/data/build.py").read_text()
    assert "dtype=int), np.int32" in text
    text = (target / "detectron2/evaluation/coco_evaluation.py").read_text()
    assert text == "from pycocotools.cocoeval import COCOeval as COCOeval_opt\n"
    assert "np.int" in (target / "detectron2/model_zoo/configs/A/b.yaml").read_text()


def test_anything_else_is_refused(tool, tmp_path: Path) -> None:
    path = tmp_path / "other.tar.gz"
    with tarfile.open(path, "w:gz"):
        pass
    with pytest.raises(ValueError, match="not a source package of detectron2"):
        tool.build_wheel(path, tmp_path)


def test_a_detectron2_that_is_there_is_left_alone(tool, capsys) -> None:
    import detectron2

    tool.main([])
    said = capsys.readouterr().out
    assert str(Path(detectron2.__file__).parent) in said and "left as it is" in said
    shown = subprocess.run([sys.executable, str(TOOL), "--help"], capture_output=True, text=True)
    assert "--source" in shown.stdout


def test_a_missing_operator_says_so_in_one_line(tool, tmp_path: Path) -> None:
    path = tmp_path / "stand_in.py"
    # The installed package may have its own; a library of operators can be defined once.
    path.write_text(tool.STAND_IN.replace('Library("detectron2"', 'Library("of_this_test"'))
    stand_in = _load(path, "stand_in")
    import torch

    boxes = torch.zeros(1, 5)
    calls = [
        lambda: stand_in.box_iou_rotated(boxes, boxes),
        lambda: stand_in.modulated_deform_conv_forward(),
        lambda: torch.ops.of_this_test.nms_rotated(boxes, torch.zeros(1), 0.5),
    ]
    for call in calls:
        with pytest.raises(NotImplementedError, match="this detectron2 has no compiled") as caught:
            call()
        assert "\n" not in str(caught.value)
    assert not stand_in.has_cuda() and "none" in stand_in.get_compiler_version()


def test_what_is_downloaded_is_pinned_by_its_hash(tool, tmp_path: Path, monkeypatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], check: bool) -> None:
        asked.append(command)
        requirement = Path(command[command.index("--requirement") + 1]).read_text().split()
        assert "--require-hashes" in command and check
        assert requirement[1] == f"--hash=sha256:{tool.SHA256[requirement[0]]}"
        assert len(tool.SHA256[requirement[0]]) == 64
        (tmp_path / ("pip-1.whl" if len(asked) == 1 else "pb1-detectron2-0.6.tar.gz")).touch()

    monkeypatch.setattr(tool.subprocess, "run", run)
    assert tool.download(tmp_path).name == "pb1-detectron2-0.6.tar.gz"
    assert len(asked) == 2 and set(tool.SHA256) == {tool.SOURCE, tool.PIP}


def test_no_member_of_the_source_leads_elsewhere(tool, source: Path) -> None:
    crafted = source.with_name("crafted.tar.gz")
    with tarfile.open(crafted, "w:gz") as archive:
        for name in ("x/detectron2/__init__.py", "x/detectron2/../../evil.py"):
            info = tarfile.TarInfo(name)
            archive.addfile(info, io.BytesIO())
        link = tarfile.TarInfo("x/detectron2/link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert {path for path, _ in tool.files_of(crafted)} == {
        "detectron2/__init__.py", "detectron2/_C.py"
    }  # fmt: skip
