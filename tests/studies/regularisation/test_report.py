"""Findings and report of penalties whose curves are known."""

from dataclasses import replace

import pytest
import torch
from helpers.arm_results import regularisation_results

from lossweave.errors import LossweaveError
from lossweave.studies.ledger.ledger import append
from lossweave.studies.regularisation.cli import regularisation
from lossweave.studies.regularisation.findings import find_regularisation
from lossweave.studies.regularisation.report import questions, verdict
from lossweave.studies.regularisation.study import Sweep, arms_of
from lossweave.studies.regularisation.weights import sizes_in
from lossweave.studies.results.remake import remake


def test_corners_and_the_best_strengths_are_found() -> None:
    found = find_regularisation(regularisation_results())
    assert {kind: c.corner for kind, c in found.curves.items()} == dict(
        l1=1e-4, l2=1e-3, decay=None
    )
    l1 = found.curves["l1"]
    assert l1.corners == (1e-4,) * 3 and l1.best == 0
    assert l1.lost.mean == pytest.approx(-0.01, abs=1e-3) and l1.lost.sign == -1
    assert l1.points[3].sparse == pytest.approx((0.99, 0.9899, 0.9898), abs=1e-4)
    assert found.curves["l2"].points[1].size == pytest.approx((400, 404, 408))
    said = verdict(found)
    assert said.startswith("l1: the corner is at lambda 0.0001 (by seed 0.0001, 0.0001, 0.0001)")
    assert "the best one by AP on validation is no penalty at all" in said
    assert "No strength of l1 is shown to raise AP" in said and "l1 at most 99 %" in said


def test_what_costs_ap_is_said_with_the_weakest_that_is_shown_to() -> None:
    said = verdict(find_regularisation(regularisation_results()))
    assert (
        "No strength of l1 is shown to raise AP; the weakest that is shown to lower it is 1e-06"
        in said
    )


def test_seeds_corners_are_told_from_that_of_their_mean() -> None:
    l1 = find_regularisation(regularisation_results()).curves["l1"]
    found = find_regularisation(regularisation_results())
    flat = replace(found, curves={"l1": replace(l1, corner=None, corners=(1e-5, 1e-4))})
    assert "axes; that of single seeds has one at 1e-05, 0.0001)" in verdict(flat)
    alone = replace(found, curves={"l1": replace(l1, corners=())})
    assert "0.0001 (of the seeds' means; no seed's own curve has one), the best" in verdict(alone)


def test_one_seed_has_corners_and_no_interval() -> None:
    found = find_regularisation(regularisation_results(seeds=1))
    assert "a difference in test AP that is not shown (-0.010 (one seed))" in verdict(found)


def test_the_report_is_made_from_the_ledger_alone_and_twice_the_same(tmp_path) -> None:
    append(tmp_path / "ledger.jsonl", *regularisation_results())
    names = ("regularisation.md", "regularisation.json", "l_curve.png", "strength.png",
             "weights.png")  # fmt: skip
    made = []
    for _ in range(2):
        remake([tmp_path / "ledger.jsonl"], tmp_path)
        made.append({name: (tmp_path / name).read_bytes() for name in names})
    assert made[0] == made[1]
    text = made[0]["regularisation.md"].decode()
    assert "| 0.0001 | 0.606 | 60.6 | 99.0 % |" in text and "| corner |" in text
    (row,) = questions(regularisation_results(), "here")
    assert row.effect.startswith("l1: corner minus best")
    assert row.answer.startswith("l1's corner is at 0.0001, the best being none; ")
    assert row.answer.count(". ") == 0  # one sentence


def test_penalties_stand_without_decay_and_the_decay_without_penalty() -> None:
    sweep = Sweep(dict(l1=(1e-5,), decay=(2.0,)), ("bbox_head",), ("backbone", "neck"))
    none, l1, decay = arms_of(sweep)
    assert none.options == ("optim_wrapper.optimizer.weight_decay=0.0",)
    assert "model.penalty.weight=1e-05" in l1.options and none.options[0] in l1.options
    assert "model.penalty.modules=[bbox_head]" in l1.options
    assert decay.options == (
        "optim_wrapper.optimizer.weight_decay=2.0",
        "optim_wrapper.paramwise_cfg.custom_keys.backbone.decay_mult=0.0",
        "optim_wrapper.paramwise_cfg.custom_keys.neck.decay_mult=0.0",
    )


def test_the_sizes_are_of_the_named_modules_weights(tmp_path) -> None:
    state = {
        "neck.conv.weight": torch.tensor([[1.0, -2.0]]),
        "neck.conv.bias": torch.tensor([5e-4]),
        "neck.bn.running_var": torch.ones(9),
        "bbox_head.fc.weight": torch.ones(100),
    }
    torch.save(dict(state_dict=state), tmp_path / "last.pth")
    sizes = sizes_in(tmp_path / "last.pth", ["neck"])
    assert sizes["count"] == 3 and sizes["l1"] == pytest.approx(3.0005)
    assert sizes["l2"] == pytest.approx(2.5) and sizes["below 0.001"] == pytest.approx(1 / 3)
    with pytest.raises(LossweaveError, match="has no weights of nick"):
        sizes_in(tmp_path / "last.pth", ["nick"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--l1", "0"], "--l1: 0 should be positive"),
        (["--l1", "1e-5", "1e-5"], "--l1: numbers above 0, each once"),
        (["--l1", "--l2", "--decay"], "name at least one strength"),
        (["--modules", "*"], "--modules: name parts"),
        (["--config", "no/a.py"], "no/a.py"),
    ],
)
def test_wrong_input_is_one_line(words, said, tmp_path) -> None:
    with pytest.raises(LossweaveError, match=said.replace("*", r"\*")) as found:
        regularisation(["--work-dir", str(tmp_path), *words])
    assert "\n" not in str(found.value)


def test_a_plan_trains_nothing(tmp_path, capsys) -> None:
    words = ["--plan", "--seeds", "0", "--l1", "1e-5", "--l2", "--decay"]
    regularisation(["--work-dir", str(tmp_path), *words])
    assert "lacking: kind-l1_lambda-1e-05, seed 0" in capsys.readouterr().out
