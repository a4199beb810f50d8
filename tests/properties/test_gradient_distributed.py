"""Gradients combined under DDP, and in one process, against the straightforward computation."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import gradient_cases as support_gradient
from helpers.gradient_cases import (
    BOUNDARIES,
    cases,
    config,
    distributed_cases,
    expected,
    long_cases,
    run,
)
from helpers.gradient_net import PATTERNS, Net, Scenario, shard
from helpers.ranks import RANKS, spawn

from lossweave.combination import build_combination
from lossweave.progress import Progress

CASES = cases()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the two processes recorded, spawned once for all tests here."""
    folder = tmp_path_factory.mktemp("ranks")
    spawn(support_gradient.work, str(folder))
    return [torch.load(Path(folder) / f"rank{r}.pt", weights_only=False) for r in range(RANKS)]


def _compare(case: str, found: list[list[torch.Tensor]], reference: Any) -> None:
    tolerance = CASES[case].tolerance
    assert len(found) == len(reference)
    for ours, theirs in zip(found, reference, strict=True):
        largest = max(grad.abs().max() for grad in theirs)
        assert largest > 0
        for mine, other in zip(ours, theirs, strict=True):
            assert (mine - other).abs().max() <= tolerance * largest


@pytest.mark.parametrize("label", distributed_cases())
def test_two_ranks(label: str, ranks: list[dict[str, Any]]) -> None:
    case, boundary, scenario = distributed_cases()[label]
    reference = expected(case, boundary, scenario)
    for records in ranks:
        _compare(case, records[label]["grads"], reference)
    one, other = (records[label] for records in ranks)
    assert one["weights"] == other["weights"]
    for name, value in one["state"].items():
        assert torch.equal(value, other["state"][name]), name


@pytest.mark.parametrize("label", long_cases())
def test_two_ranks_stay_together_for_twenty_updates(label: str, ranks: Any) -> None:
    one, other = (records[label] for records in ranks)
    assert len(one["grads"]) == 20 and len(one["weights"]) == 20
    assert one["weights"] == other["weights"]
    assert one["state"].keys() == other["state"].keys()
    for name, value in one["state"].items():
        assert torch.equal(value, other["state"][name]), name
        assert value.isfinite().all() or not name.startswith(("trunk", "neck", "head")), name
    assert len(one["momentum"]) == len(list(Net().parameters()))
    for mine, theirs in zip(one["momentum"], other["momentum"], strict=True):
        assert torch.equal(mine, theirs)
    start = Net().state_dict()
    assert any(not torch.equal(one["state"][name], value) for name, value in start.items())


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "scenario",
    [Scenario(), Scenario(zero="b"), Scenario(accumulation=2)],
    ids=["plain", "a zero row", "accumulated"],
)
def test_one_process(case: str, boundary: str, scenario: Scenario) -> None:
    _compare(case, run(case, boundary, scenario, None)["grads"],
             expected(case, boundary, scenario, world=1))  # fmt: skip


@pytest.mark.parametrize("boundary", [name for name in BOUNDARIES if name != "representation"])
@pytest.mark.parametrize("case", CASES)
def test_a_term_that_is_never_there(case: str, boundary: str) -> None:
    scenario = Scenario(absent="c", updates=2)
    _compare(case, run(case, boundary, scenario, None)["grads"],
             expected(case, boundary, scenario, world=1))  # fmt: skip


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("scale", [2.0**16, 2.0**-10])
def test_a_loss_scaler_changes_nothing(case: str, boundary: str, scale: float) -> None:
    plain = run(case, boundary, Scenario(updates=2), None)
    scaled = run(case, boundary, Scenario(updates=2), None, scale)
    for ours, theirs in zip(scaled["grads"], plain["grads"], strict=True):
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("case", ["PCGrad", "GradNorm", "NashMTL"])
def test_a_skipped_update_teaches_nothing(case: str, boundary: str) -> None:
    combination = build_combination(
        config(case, BOUNDARIES[boundary]), PATTERNS, on_nonfinite="skip"
    )
    combination.log = lambda message: None
    model = Net(combination)
    for iteration in range(4):
        combination.set_progress(Progress(iteration))
        model.zero_grad()
        before = {k: v.clone() for k, v in combination.state_dict().items()}
        losses = model(shard(iteration, 0))
        if iteration == 2:
            losses["loss_b"] = losses["loss_b"] * torch.nan
        combination(losses, model=model).backward()
        assert combination.skipping == (iteration == 2)
        if iteration == 2:
            for name, value in combination.state_dict().items():
                if name != "window_skipped":
                    torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
        else:
            assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
