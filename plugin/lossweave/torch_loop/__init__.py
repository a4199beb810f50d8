"""The plain PyTorch host: any training loop that has a dictionary of losses."""

from lossweave.torch_loop.weave import Weave

__all__ = ["Weave"]
