"""Terms and boundary tensors of Detectron2's toy detectors, computed without lossweave."""

from typing import Any

import torch
from torch import Tensor

from helpers.detectron2_toy import forward

#: What 'representation' comes down to.
MODULES = {"faster_rcnn": ("proposal_generator.rpn_head.conv", "roi_heads.box_head")}
TERMS = {"cls": ("loss_cls", "loss_rpn_cls"), "loc": ("loss_box_reg", "loss_rpn_loc")}


def terms_of(losses: dict[str, Tensor]) -> list[Tensor]:
    return [sum(losses[name] for name in names if name in losses) for names in TERMS.values()]


def shard_of(model: Any, batch: list[dict[str, Any]], cut: Any) -> Any:
    """A rank's boundary tensors, real and detached, and its terms' gradients, and their values."""
    cuts: list[tuple[Tensor, Tensor]] = []

    def detached(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: detached(tensor) for name, tensor in value.items()}
        leaf = value.detach().requires_grad_()
        cuts.append((value, leaf))
        return leaf.clone()

    named = dict(model.named_modules())
    names = () if cut == "parameters" else ("backbone",) if cut == "features" else cut
    handles = [named[n].register_forward_hook(lambda m, i, o: detached(o)) for n in names]
    terms = terms_of(forward(model, batch))
    for handle in handles:
        handle.remove()
    inputs = [*(leaf for _, leaf in cuts), *(p for p in model.parameters() if p.requires_grad)]
    grads = [
        list(torch.autograd.grad(term, inputs, retain_graph=True, allow_unused=True))
        for term in terms
    ]
    return cuts, grads, [term.item() for term in terms]
