"""The cost of the boundaries: limits, other ways of combining, refusals, one small measurement."""

import json

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import load_config, with_combiner
from lossweave.progress import Progress
from lossweave.studies.benchmark.boundaries import (
    BOUNDARIES,
    FLAT,
    TORCHJD,
    TORCHJD_MTL,
    BoundaryCosts,
    k_pass_limit,
    run_boundaries,
)
from lossweave.studies.benchmark.memory import peak_bytes
from lossweave.studies.benchmark.other_steps import FlatStep, TorchJDMtlStep
from lossweave.studies.benchmark.study import (
    CONTROL,
    DETECTORS,
    build_detector,
    fixed_batch,
    optimizer_of,
    sharing,
)
from lossweave.studies.benchmark.timing import PairedTimes
from lossweave.studies.options import benchmark


def test_limit() -> None:
    assert k_pass_limit(1.0, 1.0, 1) == 1.0
    assert k_pass_limit(1.0, 3.0, 3) == 2.5


def test_methods_that_cannot_be_measured() -> None:
    with pytest.raises(LossweaveError, match="DWA combines no gradients"):
        run_boundaries("DWA")
    with pytest.raises(LossweaveError, match="GradNorm cannot be compared with TorchJD"):
        run_boundaries("GradNorm")


def test_what_should_hold() -> None:
    ratios = {CONTROL: 1.0, "features": 1.05, "parameters": 1.6, FLAT: 1.55, TORCHJD: 1.7}
    times = {name: PairedTimes((1.0,), (ratio,)) for name, ratio in ratios.items()}
    peaks = {CONTROL: 900, "features": 960, "parameters": 1100}
    result = BoundaryCosts(
        "ssd", "PCGrad", 1.0, 1.0, 2, times, {}, peaks, 100, {"features": 4, "parameters": 100}
    )
    held = {check.what: check.held for check in result.checks()}
    assert held == {
        "features: time to stock": True,
        "parameters: time to 1.05 K-pass": False,  # 1.05 times 1.5
        f"parameters: time to {TORCHJD}": True,
        f"parameters: time to {FLAT}": False,
        "features: memory to its limit": False,  # 1060 beside 1050 + 8
        "parameters: memory to its limit": True,  # 1200 beside 1050 + 200
    }


def test_peaks_are_those_of_live_bytes() -> None:
    mega = 2**18  # elements, so MiB

    def call() -> None:
        one = torch.ones(4 * mega)
        two = one + 1  # 8 MiB
        del one
        three = two + 1  # 8 MiB again
        del two, three
        torch.ones(2 * mega)

    call()
    assert 8 * 2**20 <= peak_bytes(call) < 8.1 * 2**20


@pytest.mark.parametrize("detector", ["ssd", "faster_rcnn"])
def test_other_ways_find_the_same_gradient(detector) -> None:
    init_default_scope("mmdet")
    setting = DETECTORS[detector]["cpu"]
    cfg = load_config(setting.config)
    batch = fixed_batch(cfg, (96, 96), 2)
    stock = build_detector(cfg, None).train()
    optimizer = optimizer_of(stock, cfg)
    ours = sharing(MODELS.build(with_combiner(cfg.copy(), "PCGrad").model), stock)
    terms = ours.loss_combination.terms
    ours.loss_combination.set_progress(Progress())

    def grads(make) -> dict[str, torch.Tensor]:
        stock.zero_grad()
        torch.manual_seed(0)
        make()
        return {n: p.grad.clone() for n, p in stock.named_parameters() if p.grad is not None}

    def own() -> None:
        losses = ours._run_forward(ours.data_preprocessor(batch, True), mode="loss")
        ours.parse_losses(losses)[0].backward()

    expected = grads(own)
    arguments = (stock, optimizer, batch, lambda: None, terms, "PCGrad")
    found = {"flat": grads(FlatStep(*arguments).gradients)}
    if detector == "ssd":  # where terms share parameters above the features, it sums there
        found["mtl"] = grads(TorchJDMtlStep(*arguments, chunk=1).gradients)
    largest = max(grad.abs().max() for grad in expected.values())
    for way, other in found.items():
        for name, grad in expected.items():
            assert (other[name] - grad).abs().max() < 1e-5 * largest, (way, name)


def test_one_detector(tmp_path) -> None:
    benchmark(
        ["--boundaries", "PCGrad", "--detectors", "ssd", "--rounds", "1", "--batch-size", "1",
         "--work-dir", str(tmp_path)]
    )  # fmt: skip
    (result,) = json.loads((tmp_path / "boundaries.json").read_text())["results"]
    rows = {CONTROL, *BOUNDARIES, FLAT, TORCHJD, TORCHJD_MTL}
    assert set(result["steps"]) == set(result["memory"]) == set(result["peaks"]) == rows
    assert result["terms"] == 2 and 1 < result["limit"] < 2
    assert all(min(step["a"]) > 0 for step in result["steps"].values())
    assert all(result["memory_limit"][n] > result["memory"][CONTROL] for n in rows)
    # One copy of the shared gradients is less than the detector's parameters.
    assert 0 < result["shared"]["parameters"] < result["resident"]
    memory = [c for c in result["checks"] if "memory" in c["what"]]
    assert len(memory) == 3 and all(check["held"] for check in memory)
    text = (tmp_path / "boundaries.md").read_text()
    assert "K-pass limit" in text and "## What should hold" in text
