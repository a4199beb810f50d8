"""model-index.yml and the metafiles: their configs are there, their metrics are measured ones."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
#: A metric of the metafiles, and what a ledger calls it: on the test split, or where one is all.
SCORES = {"box AP": ("test", "AP"), "box AP50": ("test50", "AP50")}


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


METAFILES = [ROOT / name for name in _read(ROOT / "model-index.yml")["Import"]]
MODELS = [model for file in METAFILES for model in _read(file)["Models"]]


def test_every_metafile_is_imported() -> None:
    assert sorted(METAFILES) == sorted(ROOT.glob("configs/**/metafile.yml"))
    names = [model["Name"] for model in MODELS]
    assert len(names) == len(set(names)) >= 10


@pytest.mark.parametrize("file", METAFILES, ids=lambda file: file.parent.name)
def test_collections(file: Path) -> None:
    content = _read(file)
    for collection in content["Collections"]:
        assert (ROOT / collection["README"]).is_file()
        assert (ROOT / collection["Code"]["URL"]).is_file()
        assert f'version="{collection["Code"]["Version"]}"' in (ROOT / "setup.py").read_text()
    known = {collection["Name"] for collection in content["Collections"]}
    assert {model["In Collection"] for model in content["Models"]} == known


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["Name"])
def test_config_and_metrics(model: dict[str, Any]) -> None:
    assert (ROOT / model["Config"]).is_file()
    said = model["Metadata"]
    lines = (ROOT / said["Ledger"]).read_text(encoding="utf-8").splitlines()
    results = [
        result
        for result in map(json.loads, lines)
        if result["method"] == said["Method"] and result["rate"] == said.get("Learning Rate")
    ]
    assert len({result["seed"] for result in results}) == len(results) == said["Seeds"]
    assert {result["config"] for result in results} == {
        model["Config"].replace("configs/", "lossweave::")
    }
    (found,) = model["Results"]
    assert found["Metrics"].keys() == SCORES.keys()
    for metric, value in found["Metrics"].items():
        name = next(name for name in SCORES[metric] if name in results[0]["scores"])
        assert value == round(100 * mean(one["scores"][name] for one in results), 1), metric


def test_an_installed_package_has_them(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-W", "ignore", "setup.py", "--quiet", "build_py", "-d", tmp_path],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    mim = tmp_path / "lossweave" / ".mim"
    for name in ["model-index.yml", *_read(mim / "model-index.yml")["Import"]]:
        assert (mim / name).read_bytes() == (ROOT / name).read_bytes()
    assert (mim / MODELS[0]["Config"]).is_file()
