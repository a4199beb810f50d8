"""What can be said of parameters that FSDP shards, and what cannot."""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from lossweave.errors import LossweaveError
from lossweave.utils import distributed

__all__ = ["is_sharded", "refuse_sharded"]


def is_sharded(model: nn.Module) -> bool:
    """Whether FSDP, of either kind, shards a model's parameters.

    Example:
        >>> is_sharded(nn.Linear(2, 2))
        False
    """
    return any(getattr(module, "_is_fsdp_managed_module", False) for module in model.modules())


def refuse_sharded(
    boundary: object, leaves: Iterable[Tensor], parameters: Sequence[Tensor]
) -> None:
    """Refuse to combine gradients of parameters that cannot be told apart, or not be named.

    Args:
        boundary: the combiner's, for the message.
        leaves: what the terms reach above it.
        parameters: the model's, as they are when its forward has ended.

    Raises:
        LossweaveError: FSDP has them in tensors of its own.

    Example:
        >>> import torch
        >>> layer = nn.Linear(2, 2)
        >>> refuse_sharded("features", [layer.weight], list(layer.parameters()))
    """
    leaves = list(leaves)
    if any(getattr(leaf, "_is_flat_param", False) for leaf in leaves):
        raise LossweaveError(
            f"boundary={boundary!r}: FullyShardedDataParallel keeps what terms reach in one "
            "tensor, so their gradients cannot be told apart; use fully_shard, DDP, or a "
            "combiner of loss values"
        )
    if distributed.world_size() == 1:
        return
    known = {id(parameter) for parameter in parameters}
    strange = sum(isinstance(leaf, nn.Parameter) and id(leaf) not in known for leaf in leaves)
    if strange:
        raise LossweaveError(
            f"boundary={boundary!r}: {strange} parameters that the terms reach are not the model's "
            "when its forward has ended, as fully_shard leaves them; use boundary='features' and "
            "shard the heads with reshard_after_forward=False, or use DDP"
        )
