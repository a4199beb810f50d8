"""What all training runs share: steady scripts, and one line for what ends them."""

from collections.abc import Callable
from typing import Any

import torch

from lossweave.detectron2.hook import CombinerHook
from lossweave.detectron2.rungs import RungsDone
from lossweave.errors import LossweaveError, NonFiniteLossError, one_line

__all__ = ["steady_scripts", "train_explained"]


def steady_scripts() -> None:
    """Let scripted functions (RetinaNet's focal loss) give the same bits from the first call on.

    TorchScript fuses a function after it has seen it run, which changes the last bits; a resumed
    run would see that at another iteration.
    """
    torch.jit.set_fusion_strategy([("STATIC", 0), ("DYNAMIC", 0)])


def train_explained(hook: CombinerHook, train: Callable[[], Any]) -> None:
    """Train; what ends it is one line where a loss was not finite, or where nothing was trained.

    Args:
        hook: the trainer's, which has seen the losses.
        train: the training.

    Raises:
        NonFiniteLossError: a loss was not finite.
        KeyboardInterrupt: somebody asked to stop, whatever failed after that.
        LossweaveError: the first iteration failed, so something was asked for wrongly.
    """
    try:
        train()
    except RungsDone:
        return
    except LossweaveError:
        raise
    except Exception as error:
        if _while_stopping(error):
            # The stock writers fail where they write twice in one of the first iterations.
            raise KeyboardInterrupt from error
        if isinstance(error, FloatingPointError) and (what := hook.failure()):
            raise NonFiniteLossError(what) from error
        trainer = getattr(hook, "trainer", None)
        if trainer is not None and trainer.iter > trainer.start_iter:
            raise
        raise LossweaveError(one_line(error)) from error


def _while_stopping(error: BaseException) -> bool:
    """Whether an exception came up while a request to stop was being answered."""
    here: BaseException | None = error
    while here is not None and not isinstance(here, KeyboardInterrupt):
        here = here.__context__
    return here is not None
