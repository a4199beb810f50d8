"""What all training runs share: steady scripts, and one line for what ends them."""

from collections.abc import Callable
from typing import Any

import torch

from lossweave.detectron2.hook import CombinerHook
from lossweave.errors import NonFiniteLossError

__all__ = ["steady_scripts", "train_explained"]


def steady_scripts() -> None:
    """Let scripted functions (RetinaNet's focal loss) give the same bits from the first call on.

    TorchScript fuses a function after it has seen it run, which changes the last bits; a resumed
    run would see that at another iteration.
    """
    torch.jit.set_fusion_strategy([("STATIC", 0), ("DYNAMIC", 0)])


def train_explained(hook: CombinerHook, train: Callable[[], Any]) -> None:
    """Train; where the trainer ends the run at a loss that is not finite, say which.

    Args:
        hook: the trainer's, which has seen the losses.
        train: the training.

    Raises:
        NonFiniteLossError: a loss was not finite.
    """
    try:
        train()
    except FloatingPointError as error:
        what = hook.failure()
        if not what:
            raise
        raise NonFiniteLossError(what) from error
