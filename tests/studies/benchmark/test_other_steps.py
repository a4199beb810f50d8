"""Other ways of combining find the same gradient."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from lossweave.mmdet.configs import load_config, with_combiner
from lossweave.progress import Progress
from lossweave.studies.benchmark.detectors import (
    DETECTORS,
    build_detector,
    fixed_batch,
    optimizer_of,
    sharing,
)
from lossweave.studies.benchmark.other_steps import FlatStep, TorchJDMtlStep


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
