"""``torch.compile`` beneath a combination: the gradients of the model as it is, or one line."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.torch_loop_toy import TERMS, TwoHeads, batch_of, gradients
from torch import Tensor, nn

from lossweave.errors import LossweaveError
from lossweave.torch_loop import Weave

PARAMETERS = {"type": "PCGrad", "boundary": "parameters"}
FEATURES = {"type": "PCGrad", "boundary": "features"}


class Heads(nn.Module):
    """Both heads, called as one module."""

    def __init__(self, cls: nn.Module, box: nn.Module) -> None:
        super().__init__()
        self.cls, self.box = cls, box

    def forward(self, shared: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls(shared), self.box(shared)


class OneCall(TwoHeads):
    def __init__(self) -> None:
        super().__init__()
        self.heads = Heads(self.cls, self.box)

    def forward(self, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        inputs, labels, boxes = batch
        scores, deltas = self.heads(self.backbone(inputs))
        return {
            "loss_cls": nn.functional.cross_entropy(scores, labels),
            "loss_box": 5 * nn.functional.mse_loss(deltas, boxes),
        }


def _as_it_is(model: TwoHeads) -> nn.Module:
    return model


def _head(model: TwoHeads) -> nn.Module:
    model.cls = _compiled(model.cls)
    return model


def _backbone(model: TwoHeads) -> nn.Module:
    model.backbone = _compiled(model.backbone)
    return model


def _heads(model: TwoHeads) -> nn.Module:
    model.heads = _compiled(model.heads)
    return model


def _compiled(module: nn.Module) -> Any:
    return torch.compile(module, backend="aot_eager")


def _gradients(
    kind: type[TwoHeads], compiled: Callable[[Any], nn.Module], combiner: Any
) -> dict[str, Tensor]:
    torch._dynamo.reset()
    model = kind()
    trained = compiled(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weave = Weave(trained, combiner, TERMS, optimizer=optimizer)
    weave(trained(batch_of(1))).backward()
    return {name.replace("_orig_mod.", ""): grad for name, grad in gradients(model).items()}


@pytest.mark.parametrize(
    ("compiled", "combiner"),
    [(_head, FEATURES), (_head, "Alternating"), (_backbone, PARAMETERS)],
)
def test_a_head_or_what_heads_share_has_the_gradients_of_the_model_as_it_is(
    compiled: Any, combiner: Any
) -> None:
    expected = _gradients(TwoHeads, _as_it_is, combiner)
    found = _gradients(TwoHeads, compiled, combiner)
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad)


@pytest.mark.parametrize(
    ("compiled", "combiner"),
    [(_heads, FEATURES), (_heads, "Alternating"), (_compiled, PARAMETERS)],
)
def test_what_hides_which_loss_reaches_what_is_refused(compiled: Any, combiner: Any) -> None:
    with pytest.raises(LossweaveError, match=r"^torch\.compile: one compiled graph") as caught:
        _gradients(OneCall, compiled, combiner)
    assert "\n" not in str(caught.value)


def test_loss_values_are_combined_whatever_is_compiled() -> None:
    expected = _gradients(OneCall, _as_it_is, "UncertaintyWeighting")
    found = _gradients(OneCall, _compiled, "UncertaintyWeighting")
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad)
