"""From logs to records and back."""

import json
from math import isnan
from pathlib import Path

import pytest
from helpers.synthetic_runs import record, training_row, write_scalars

from lossweave import LossweaveError
from lossweave.studies import RunRecord, read_run

EVALUATION = {"coco/bbox_mAP": 0.4, "coco/bbox_mAP_50": 0.7, "time": 9.0, "step": 60}


def test_a_run_is_read(tmp_path: Path) -> None:
    rows = [training_row(20, 3.0), training_row(40, 2.0), training_row(60, 1.0, 1.5), EVALUATION]
    write_scalars(tmp_path, "20261122_000001", rows)
    run = read_run(tmp_path, "DWA", seed=7)
    assert (run.combiner, run.iterations, run.details) == ("DWA", 60, {"seed": 7})
    assert list(run.terms) == ["cls", "loc"]
    assert run.terms["cls"].value.steps == (20, 40, 60)
    assert run.terms["cls"].value.values == (3.0, 2.0, 1.0)
    assert run.terms["cls"].weight.last == 1.5
    assert (run.ap, run.ap50) == (0.4, 0.7)
    # the evaluation's own time is not among the iterations'
    assert run.seconds_per_iteration == pytest.approx(0.54)
    assert run.seconds_for_data == 0.25


def test_a_resumed_run_is_one_run(tmp_path: Path) -> None:
    before = [training_row(20, 3.0), training_row(40, 9.0), training_row(60, 9.0)]
    write_scalars(tmp_path, "20261122_000001", before)
    write_scalars(tmp_path, "20261122_000002", [training_row(40, 2.0), training_row(60, 1.0)])
    write_scalars(tmp_path, "20261122_000003", [{**EVALUATION, "step": 0}])
    run = read_run(tmp_path, "Sum")
    assert run.terms["cls"].value.steps == (20, 40, 60)
    assert run.terms["cls"].value.values == (3.0, 2.0, 1.0)
    assert run.ap == 0.4


def test_without_an_evaluation_there_is_no_ap(tmp_path: Path) -> None:
    write_scalars(tmp_path, "20261122_000001", [training_row(20, 3.0)])
    assert isnan(read_run(tmp_path, "Sum").ap)


def test_json_and_back() -> None:
    run = record("Sum")
    assert RunRecord.from_dict(json.loads(json.dumps(run.as_dict()))) == run


def test_nothing_logged(tmp_path: Path) -> None:
    with pytest.raises(LossweaveError, match="no logged training iteration"):
        read_run(tmp_path, "Sum")


def test_broken_line(tmp_path: Path) -> None:
    write_scalars(tmp_path, "1", [training_row(20, 3.0)]).open("a").write("{\n")
    with pytest.raises(LossweaveError, match="line 2"):
        read_run(tmp_path, "Sum")
