"""Findings and report of box losses whose errors are known."""

import pytest
from helpers.arm_results import box_loss_results

from lossweave.errors import LossweaveError
from lossweave.studies.box_losses.cli import box_losses
from lossweave.studies.box_losses.findings import find_losses
from lossweave.studies.box_losses.report import questions, verdict
from lossweave.studies.box_losses.study import LOSSES, arm_of, best_weights
from lossweave.studies.ledger.ledger import append
from lossweave.studies.results.remake import remake


def test_the_weights_are_those_that_validation_data_choose() -> None:
    found = find_losses(box_loss_results())
    assert found.weights == {"L2": 3.0, "L1": 1.0, "GIoU": 2.0}
    assert found.tried["L2"] == pytest.approx({1.0: 0.32, 3.0: 0.42, 9.0: 0.32})
    assert best_weights([r for r in box_loss_results() if r.details["places"]["share"]]) == {}


def test_changes_are_paired_and_losses_are_told_apart() -> None:
    found = find_losses(box_loss_results())
    assert found.losses == ("L2", "L1", "GIoU") and found.shares == (0.0, 0.05, 0.2)
    harm = found.harm["median error"]
    assert harm["L2"][0.2].mean == pytest.approx(2 * harm["L1"][0.2].mean, rel=0.03)
    assert found.beside["median error"]["L2"][0.2].sign == 1
    assert found.between["AP50"]["GIoU"][0.2].mean == pytest.approx(0.02)
    assert found.means["found"]["L1"][0.0].mean == pytest.approx(0.8)
    said = verdict(found)
    assert said.startswith("L2 goes after the outliers more than L1 does: with 20 % of the")


def test_what_is_not_shown_is_said_to_be_so() -> None:
    one = find_losses(box_loss_results(seeds=1))
    assert verdict(one).startswith("That L2 goes after the outliers more than L1 is not shown")
    clean = [r for r in box_loss_results() if not r.details["places"]["share"]]
    assert verdict(find_losses(clean)).startswith("Not shown: L2 and L1 have not been trained")


def test_the_report_is_made_from_the_ledger_alone_and_twice_the_same(tmp_path) -> None:
    append(tmp_path / "ledger.jsonl", *box_loss_results())
    names = ("box_losses.md", "box_losses.json", "errors.png", "distributions.png")
    made = []
    for _ in range(2):
        assert remake([tmp_path / "ledger.jsonl"], tmp_path) == []
        made.append({name: (tmp_path / name).read_bytes() for name in names})
    assert made[0] == made[1]
    text = made[0]["box_losses.md"].decode()
    assert "| L2, 20 % | +0.080" in text and "weight 3 of 1 (AP 0.320), 3 (AP 0.420)" in text
    assert "weight 1 of 0.3 (AP 0.320), 1 (AP 0.420): at the edge of those tried" in text
    (row,) = questions(box_loss_results(), "here")
    assert row.report == "[here](here/box_losses.md)" and row.effect.endswith("in the median")


def test_every_loss_is_of_the_head_with_its_weight() -> None:
    for loss, chosen in LOSSES.items():
        arm = arm_of(loss, chosen.weights[0], 0.2)
        assert f"model.bbox_head.loss_bbox.loss_weight={chosen.weights[0]:g}" in arm.options
        assert arm.options[-1] == "train_dataloader.dataset.pipeline.2.share=0.2"
        assert arm_of(loss, 1.0, 0.0).options[-1].endswith("loss_weight=1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--losses", "L3"], "--losses: 'L3' should be one of L2, SmoothL1, L1, GIoU"),
        (["--losses", "L1", "L1"], "each once"),
        (["--shares", "0.2"], "0 should be among them"),
        (["--shares", "2"], "--shares: 2 should be"),
        (["--config", "lossweave::mmdet/demo/retinanet_screen.py"], "GrossBoxErrors"),
    ],
)
def test_wrong_input_is_one_line(words, said, tmp_path) -> None:
    with pytest.raises(LossweaveError, match=said) as found:
        box_losses(["--work-dir", str(tmp_path), *words])
    assert "\n" not in str(found.value)


def test_a_plan_trains_nothing(tmp_path, capsys) -> None:
    box_losses(["--work-dir", str(tmp_path), "--plan", "--seeds", "0", "--losses", "L1"])
    said = capsys.readouterr().out
    assert "lacking: loss-L1_weight-0.3_share-0, seed 0" in said and "then 2 more" in said
