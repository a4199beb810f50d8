"""Any Detectron2 detector, with its losses combined."""

import copyreg
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from omegaconf import OmegaConf
from torch import Tensor, nn

from lossweave.backward import unwatched, weighted_root
from lossweave.combination import LossCombination, build_combination
from lossweave.combination.log import entry_means
from lossweave.combination.nonfinite import ADVICE, described
from lossweave.combination.penalty import ParameterPenalty, penalized, read_penalties
from lossweave.combination.step import StepResult
from lossweave.errors import LossweaveError, NonFiniteLossError
from lossweave.host.interrupt import asked_here, tell
from lossweave.progress import Progress
from lossweave.utils import distributed

__all__ = [
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
    """What a combined detector adds to its base class: its training forward returns one loss.

    It is a dictionary of one entry, so whatever adds up, reduces or logs a detector's losses goes
    on working. The raw losses go to the EventStorage under their own names. Where the combiner is
    the plain sum the detector's own dictionary is returned, and the trainer does with it what it
    always does.
    """

    loss_combination: LossCombination
    #: What is added to the detector's losses while training.
    loss_penalties: tuple[ParameterPenalty, ...] = ()
    training: bool

    def forward(self, batched_inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The base class's; while training, the combination of what that returns.

        Returns:
            While training ``{"total_loss": scalar}``, attached, or with the plain sum the base
            class's losses; otherwise what the base class returns.
        """
        base: Any = super().forward  # type: ignore[misc]
        if not self.training or not torch.is_grad_enabled():
            return base(batched_inputs, *args, **kwargs)
        combination = self.loss_combination
        alone = _follow_storage(combination)
        with _caught(self):
            losses = base(batched_inputs, *args, **kwargs)
        if self.loss_penalties:
            model: Any = self
            losses = penalized(losses, self.loss_penalties, model)
        plain = combination.is_plain_sum and not combination.skips
        total = sum(losses.values()) if plain else None
        again = None
        if combination.recomputes or combination.wants_held_out:
            again = partial(_again, self, _precision(losses), batched_inputs)
        root = combination(losses, total, self, again, watched=losses.values())
        if alone is not None:
            _log_alone(combination, alone)
        if plain:
            return losses
        return {"total_loss": _finite_or_zero(root, combination.update.latest)}


@contextmanager
def _caught(model: Any) -> Iterator[None]:
    """Catch the boundary's tensors during the forward: the features are the backbone's output."""
    boundary = model.loss_combination.boundary
    if boundary is None or not boundary.needs_forward:
        yield
        return
    with boundary.caught(model):
        with unwatched():
            handle = model.backbone.register_forward_hook(lambda m, i, o: boundary.features(o))
        try:
            yield
        finally:
            handle.remove()


def _finite_or_zero(root: Tensor, result: StepResult | None) -> Tensor:
    """The root; of an update that is to be skipped with the value 0, since the trainers end the
    run at one that is not finite."""
    if result is None or result.fine is None:
        return root
    value = torch.where(result.fine, root.detach(), torch.zeros_like(root))
    return weighted_root(value, torch.ones_like(root).view(1), [root])


def _precision(losses: Mapping[str, Any]) -> Callable[[], Any]:
    """The mixed precision of this moment."""
    tensors = [value for value in losses.values() if isinstance(value, Tensor)]
    kind = tensors[0].device.type if tensors else "cpu"
    on_cpu = kind == "cpu"
    enabled = torch.is_autocast_cpu_enabled() if on_cpu else torch.is_autocast_enabled()
    dtype = torch.get_autocast_cpu_dtype() if on_cpu else torch.get_autocast_gpu_dtype()
    return partial(torch.autocast, kind, dtype=dtype, enabled=enabled)


def _again(model: Any, precision: Callable[[], Any], own: Any, batch: Any = None) -> Any:
    """The raw losses of a batch (of its own by default), without gradients."""
    with torch.no_grad(), precision():
        return model(own if batch is None else batch)


def _follow_storage(combination: LossCombination) -> int | None:
    """Where no hook tells the progress, the trainer's iteration does.

    Returns:
        The iteration, where it is another than before; None outside of a trainer.
    """
    if combination.hooked:
        return None
    try:
        at = int(get_event_storage().iter)
    except AssertionError:
        return None
    if combination.progress is not None and combination.progress.iteration == at:
        return None
    combination.set_progress(Progress(iteration=at), hooked=False)
    return at


def put_losses(combination: LossCombination, iteration: int) -> None:
    """Log the raw losses as the framework's trainers do: averaged over the ranks, by their names.

    Where the trainer logs them itself (the plain sum) they are only looked at. One
    synchronisation, in place of the framework's one for each loss. A collective.

    Args:
        combination: whose update it is.
        iteration: for the message.

    Raises:
        NonFiniteLossError: a loss is not finite, and updates are not skipped; on all ranks.
    """
    entries = entry_means(combination.update.results)
    plain = combination.is_plain_sum and not combination.skips
    if not entries or (plain and comm.get_world_size() == 1):
        return
    values = torch.stack(list(entries.values()))
    if plain:
        bad_here = (~values.isfinite()).any().float()
        flags = torch.stack([bad_here, torch.full_like(bad_here, asked_here())])
        bad_anywhere, asked = distributed.sum_(flags).tolist()
        tell(bool(asked))
        if not bad_anywhere:
            return
    found = dict(zip(entries, values.tolist(), strict=True))
    ranks, asked_on = zip(*comm.all_gather((found, asked_here())), strict=True)
    if len(ranks) > 1:
        tell(any(asked_on))
    bad = {name: value for rank in ranks for name, value in rank.items()
           if not math.isfinite(value)}  # fmt: skip
    if bad:
        what = described(bad, "total_loss", combination.terms, combination.label)
        message = f"iteration {iteration}: {what}"
        if not combination.skips:
            raise NonFiniteLossError(f"{message}; {ADVICE}")
        _LOGGER.warning("%s; this optimizer update is skipped", message)
    if comm.is_main_process() and not plain:
        names = dict.fromkeys(name for rank in ranks for name in rank)
        parts = {name: [rank[name] for rank in ranks if name in rank] for name in names}
        means = {name: sum(some) / len(some) for name, some in parts.items()}
        get_event_storage().put_scalars(**means)


def _log_alone(combination: LossCombination, at: int) -> None:
    """What the hook would log, where there is none."""
    put_losses(combination, at)
    if (at + 1) % _INTERVAL == 0:
        get_event_storage().put_scalars(smoothing_hint=False, **combination.logged())


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
    penalty: Any = None,
    loaded_state: str = "take",
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
        loaded_state: 'take' or 'leave'; see there.

        penalty: arguments of a :class:`lossweave.ParameterPenalty`, or a list of them: one more
            loss each.

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
    penalties = read_penalties(_plain(penalty))
    generator = getattr(model, "proposal_generator", None)
    combination = build_combination(
        _plain(combiner),
        _plain(terms),
        rpn=generator is not None,
        roi=getattr(model, "roi_heads", None) is not None,
        extra=extra,
        on_nonfinite=on_nonfinite,
        loaded_state=loaded_state,
        hook_line=_HOOK,
    )
    boundary = combination.boundary
    if boundary is not None and boundary.needs_features and not hasattr(model, "backbone"):
        raise LossweaveError(f"{type(model).__name__} has no backbone; use boundary='parameters'")
    if boundary is not None:
        boundary.refuse_unknown(model)
    for one in penalties:
        one.check(model)
    model.__class__ = made
    model.loss_combination = combination
    model.loss_penalties = penalties  # type: ignore[assignment]
    return model


def _plain(value: Any) -> Any:
    """A config's value without omegaconf's or yacs's containers."""
    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=True)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
