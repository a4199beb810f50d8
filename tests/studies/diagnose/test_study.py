"""From the command line to the report, and from the ledger to the same report."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.diagnosed import watched
from helpers.mmdet_toy import toy_config

from lossweave.errors import LossweaveError
from lossweave.studies.diagnose import study
from lossweave.studies.diagnose.asked import Asked
from lossweave.studies.diagnose.cli import diagnose
from lossweave.studies.diagnose.record import Record
from lossweave.studies.diagnose.session import Session
from lossweave.studies.results.remake import remake

FILES = ("diagnosis.json", "diagnosis.md", "diagnosis.png")


@pytest.fixture(scope="module")
def config(data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("config")
    cfg = toy_config("retinanet", data, folder / "x", seeded=False)
    cfg.dump(str(folder / "toy.py"))
    return str(folder / "toy.py")


def test_a_diagnosis_and_its_ledger(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [config, "--iterations", "4", "--interval", "1"]
    diagnose(words)
    folder = tmp_path / "work_dirs/diagnose_toy"
    said = capsys.readouterr().out
    assert "written: work_dirs/diagnose_toy/diagnosis.md" in said and "clipped" in said
    found = json.loads((folder / "diagnosis.json").read_text())
    assert set(found["static_weights"]) == {"cls", "loc"}
    assert found["answers"]["training"].keys() >= {"matters", "scale", "conflict", "mend"}
    assert found["thresholds"]["FAR"] == 10 and len(found["record"]["looks"]) == 4
    text = (folder / "diagnosis.md").read_text()
    assert "**Does it matter?**" in text and "bbox_head.retina_cls" in text
    assert f"weights=[{found['static_weights']['cls']:.3g}," in text
    before = {name: (folder / name).read_bytes() for name in FILES}
    assert remake([folder / "ledger.jsonl"], tmp_path / "again") == []
    assert {name: (tmp_path / "again" / name).read_bytes() for name in FILES} == before
    diagnose(words)  # nothing is trained
    assert "ledger.jsonl has it" in capsys.readouterr().out
    assert {name: (folder / name).read_bytes() for name in FILES} == before


def test_an_interrupted_training_is_reported_as_far_as_it_was_seen(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = Session.after

    def stopped(self: Session) -> dict[str, float]:
        found = after(self)
        if self.iterations == 2:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Session, "after", stopped)
    words = [config, "--iterations", "4", "--interval", "1", "--work-dir", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        diagnose(words)
    assert "It was interrupted" in (tmp_path / "diagnosis.md").read_text()
    assert len(json.loads((tmp_path / "diagnosis.json").read_text())["record"]["looks"]) == 2
    assert not (tmp_path / "ledger.jsonl").exists()  # it is no result


def test_the_plan_trains_nothing(config: str, tmp_path: Path, capsys: Any) -> None:
    diagnose([config, "--plan", "--work-dir", str(tmp_path)])
    assert "lacking: diagnosis, seed 0" in capsys.readouterr().out
    assert not (tmp_path / "diagnosis.md").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.py"], "there is no config 'nowhere.py'"),
        (["CONFIG", "--iterations", "0"], "--iterations=0 should be at least 1"),
        (["CONFIG", "--interval", "0"], "--interval=0 should be at least 1"),
        (["CONFIG", "--iterations", "4"], "4 iterations leave a stage without a look"),
        (["CONFIG", "--stages", "begin"], "--stages: 'begin' should be one of start, middle, end"),
        (["CONFIG", "--stages", "end,end"], "--stages: end, end names one twice"),
        (["CONFIG", "--checkpoint", "x.pth"], "there is no checkpoint 'x.pth'"),
        (["CONFIG", "--seed", "-1"], "--seed=-1 should be from 0"),
        (["CONFIG", "--terms", "wing"], "terms='wing' should be"),
        (["CONFIG", "--terms", "a=nothing*", "--interval", "1"], "pattern 'nothing.' of term 'a'"),
        (["CONFIG", "--cfg-options", "modl.type=SSD"], "did you mean 'model'"),
        (["CONFIG", "--sages", "end"], "unrecognized arguments"),
    ],
)
def test_wrong_input(config: str, words: list[str], message: str, tmp_path: Path) -> None:
    words = [config if word == "CONFIG" else word for word in words]
    with pytest.raises(LossweaveError, match=message) as raised:
        diagnose([*words, "--work-dir", str(tmp_path / "out")])
    assert "\n" not in str(raised.value)


def test_stages_are_parts_of_the_training() -> None:
    asked = Asked("x.py", stages=("start", "end"), interval=10)
    assert asked.limit is None
    plan = asked.plan(None, 500)
    assert [plan.stage(i) for i in (0, 99, 100, 399, 400)] == ["start", "start", None, None, "end"]
    assert Asked("x.py").limit == 240 and Asked("x.py", iterations=7).limit == 7


def _record(stage: str, scale: float) -> Record:
    found, _ = watched(lambda x, i: {"loss_a": scale * x[0], "loss_b": x[1] + i}, iterations=4)
    assert found is not None
    looks = [replace(look, stage=stage) for look in found.looks]
    return replace(found, looks=looks, means={stage: found.means["all"]})


def test_several_trainings_are_one_record(tmp_path: Path) -> None:
    made = study.merged([_record("from a", 1.0), _record("from b", 100.0)])
    assert made.stages == ["from a", "from b"] and made.iterations == 8
    found = study.diagnose(made)
    study.write_diagnosis(tmp_path, made, found, dict(
        command="x", date="2026-01-01",
        machine=dict(cpu="c", cores=1, torch_threads=1, accelerator=None),
    ))  # fmt: skip
    text = (tmp_path / "diagnosis.md").read_text()
    assert "## from a" in text and "## The numbers: from b" in text
    assert found.weights["b"] / found.weights["a"] == pytest.approx(10)  # the mean of the logs
    with pytest.raises(LossweaveError, match="other terms"):
        study.merged([made, replace(made, terms=["a"])])
