"""Any Detectron2 detector, with its losses combined."""

import copyreg
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from omegaconf import OmegaConf
from torch import Tensor, nn

from lossweave.backward import weighted_root
from lossweave.combination import LossCombination, build_combination
from lossweave.detectron2.config_node import combination_options
from lossweave.errors import LossweaveError
from lossweave.progress import Progress

__all__ = [
    "CombinedLossDetector",
    "CombinedLossMixin",
    "combine_losses",
    "combined_class",
    "put_losses",
]

_LOGGER = logging.getLogger("lossweave")
_HOOK = "to the trainer: trainer.register_hooks([lossweave.detectron2.CombinerHook()])"
#: Iterations between the combiner's logged values where no hook says it.
_INTERVAL = 20


class _CombinedMeta(type):
    """Type of the made classes, so that they pickle by the base class that made them."""


class CombinedLossMixin:
    """What a combined detector adds to its base class: its training forward returns one scalar.

    Detectron2's trainers take a tensor for the total loss: they run its backward and log it as
    ``total_loss``. The raw losses go to the EventStorage under their own names. Where the
    combiner is the plain sum the detector's own dictionary is returned, and the trainer does
    with it what it always does.
    """

    loss_combination: LossCombination
    training: bool
    #: The raw losses of the last training forward, detached, until the hook has logged them.
    loss_entries: dict[str, Tensor] | None = None
    #: The last batch, kept only for combiners that look at it again after the update.
    loss_batch: Any = None
    #: The losses of a batch with the last forward's precision, for such combiners and for those
    #: that learn from held-out data.
    loss_again: Callable[[Any], dict[str, Tensor]] | None = None

    def forward(self, batched_inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The base class's; while training, the combination of what that returns.

        Returns:
            While training an attached scalar, or with the plain sum the dictionary of losses;
            otherwise what the base class returns.
        """
        if not self.training or not torch.is_grad_enabled():
            return super().forward(batched_inputs, *args, **kwargs)  # type: ignore[misc]
        combination = self.loss_combination
        if not combination.hooked and (at := _storage_iteration()) is not None:
            combination.set_progress(Progress(iteration=at), hooked=False)
        with _caught(self):
            losses = super().forward(batched_inputs, *args, **kwargs)  # type: ignore[misc]
        total = sum(losses.values())
        root = combination(losses, total, self)
        self.loss_batch = batched_inputs if combination.recomputes else None
        if combination.recomputes or combination.judged:
            self.loss_again = _again(self, next(iter(losses.values())).device)
        self.loss_entries = {name: entry.detach() for name, entry in losses.items()}
        if not combination.hooked:
            _log_alone(self)
        if root is total:
            return losses
        if combination.skipping:  # the trainers end the run at a total that is not finite
            one = torch.ones(1, dtype=root.dtype, device=root.device)
            root = weighted_root(torch.zeros_like(root), one, [root])
        return root


@contextmanager
def _caught(model: Any) -> Iterator[None]:
    """Catch the boundary's tensors during the forward: the features are the backbone's output."""
    boundary = model.loss_combination.boundary
    if boundary is None or not boundary.needs_forward:
        yield
        return
    with boundary.caught(model):
        handle = model.backbone.register_forward_hook(lambda m, i, o: boundary.features(o))
        try:
            yield
        finally:
            handle.remove()


def _again(model: Any, device: torch.device) -> Callable[[Any], dict[str, Tensor]]:
    """A look at a batch without gradients, with the mixed precision of this moment."""
    on_cpu = device.type == "cpu"
    enabled = torch.is_autocast_cpu_enabled() if on_cpu else torch.is_autocast_enabled()
    dtype = torch.get_autocast_cpu_dtype() if on_cpu else torch.get_autocast_gpu_dtype()

    def again(batch: Any) -> dict[str, Tensor]:
        with torch.no_grad(), torch.autocast(device.type, dtype=dtype, enabled=enabled):
            return model(batch)

    return again


def _storage_iteration() -> int | None:
    """The trainer's iteration, or None outside of a trainer."""
    try:
        return int(get_event_storage().iter)
    except AssertionError:
        return None


def put_losses(model: CombinedLossMixin, iteration: int) -> None:
    """Log the raw losses as the framework's trainers do: averaged over the ranks, by their names.

    Where the trainer logs them itself (the plain sum) nothing is done. One synchronisation, in
    place of the framework's one for each loss.

    Args:
        model: a combined detector whose forward has run.
        iteration: the iteration, for the message.

    Raises:
        LossweaveError: a loss is not finite, and ``on_nonfinite`` is 'raise'.
    """
    entries, model.loss_entries = model.loss_entries, None
    combination = model.loss_combination
    if entries is None or (combination.is_plain_sum and combination.on_nonfinite != "skip"):
        return
    values = torch.stack([entry.float() for entry in entries.values()])
    found = dict(zip(entries, values.tolist(), strict=True))
    ranks = comm.gather(found)
    bad = {name: value for name, value in found.items() if not math.isfinite(value)}
    if bad:
        message = f"iteration {iteration}: {combination.describe(bad, 'total_loss')}"
        if combination.on_nonfinite == "raise":
            raise LossweaveError(f"{message}; {combination.ADVICE}")
        _LOGGER.warning("%s; this optimizer update is skipped", message)
    if comm.is_main_process():
        means = {name: sum(rank[name] for rank in ranks) / len(ranks) for name in found}
        get_event_storage().put_scalars(**means)


def _log_alone(model: CombinedLossMixin) -> None:
    """What the hook would log, where there is none."""
    at = _storage_iteration()
    if at is None:
        return
    put_losses(model, at)
    if (at + 1) % _INTERVAL == 0:
        get_event_storage().put_scalars(smoothing_hint=False, **model.loss_combination.logged())


@cache
def combined_class(base: type) -> type:
    """The subclass of a detector class whose losses are combined; one per base class.

    Args:
        base: the detector class.

    Raises:
        LossweaveError: the class is combined already.
    """
    if issubclass(base, CombinedLossMixin):
        raise LossweaveError(f"{base.__name__} is a combined detector already")
    body = {"__module__": __name__, "__doc__": base.__doc__}
    return _CombinedMeta(f"Combined{base.__name__}", (CombinedLossMixin, base), body)


def _reduce_class(made: type) -> tuple[Any, ...]:
    return combined_class, (made.__bases__[1],)


copyreg.pickle(_CombinedMeta, _reduce_class)  # type: ignore[arg-type]


def combine_losses(
    model: nn.Module,
    combiner: Any = "Sum",
    terms: Any = "task",
    extra: str = "add",
    on_nonfinite: str = "raise",
) -> nn.Module:
    """Make the training losses of a detector be combined by ``combiner``. In place.

    The result IS the detector (a subclass of its class, same attributes, same keys in its
    checkpoints), so whatever works on that works on it.

    Args:
        model: a detector whose training forward returns a dictionary of scalar losses.
        combiner: a combiner, its name or ``dict(type=name, ...)``.
        terms: 'task', 'head', 'loss', 'layer', 'level' or a dict; see
            :func:`lossweave.combination.build_combination`.
        extra: 'add' or 'error', for losses that belong to no term.
        on_nonfinite: 'raise' or 'skip'; see :class:`lossweave.combination.LossCombination`.

    Returns:
        The model itself.

    Raises:
        LossweaveError: an unknown combiner, argument or term option, a model that is combined
            already, or one without a backbone where the boundary is its features.

    Example:
        In a LazyConfig, for the stock ``lazyconfig_train_net.py`` or ``tools/train.py``::

            from detectron2.config import LazyCall as L
            from detectron2.model_zoo import get_config
            from lossweave.combiners import PCGrad
            from lossweave.detectron2 import combine_losses

            model = L(combine_losses)(
                model=get_config("common/models/retinanet.py").model, combiner=L(PCGrad)())
    """
    if not isinstance(model, nn.Module):
        raise LossweaveError(f"combine_losses takes a model, but got {type(model).__name__}")
    base: Any = type(model)
    made = combined_class(base)
    generator = getattr(model, "proposal_generator", None)
    combination = build_combination(
        _plain(combiner),
        _plain(terms),
        rpn=generator is not None,
        roi=getattr(model, "roi_heads", None) is not None,
        extra=extra,
        on_nonfinite=on_nonfinite,
        hook_line=_HOOK,
    )
    boundary = combination.boundary
    if boundary is not None and boundary.needs_features and not hasattr(model, "backbone"):
        raise LossweaveError(f"{type(model).__name__} has no backbone; use boundary='parameters'")
    model.__class__ = made
    model.loss_combination = combination
    return model


def _plain(value: Any) -> Any:
    """A config's value without omegaconf's or yacs's containers."""
    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=True)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


@META_ARCH_REGISTRY.register()
def CombinedLossDetector(cfg: Any) -> nn.Module:
    """The meta-architecture named by ``LOSSWEAVE.BASE_DETECTOR``, with its losses combined.

    For yaml configs: ``MODEL.META_ARCHITECTURE: CombinedLossDetector`` and a ``LOSSWEAVE`` node;
    see :func:`lossweave.detectron2.add_lossweave_config`.

    Raises:
        LossweaveError: no ``LOSSWEAVE`` node, an unknown detector, combiner or argument.
    """
    base, options = combination_options(cfg)
    return combine_losses(META_ARCH_REGISTRY.get(base)(cfg), **options)
