"""The hook: what a combiner needs to know, and what the optimizer must leave alone."""

import random
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook, LoggerHook
from mmengine.logging import print_log
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from lossweave.combination import LossCombination
from lossweave.combiners import GradientCombiner
from lossweave.errors import LossweaveError
from lossweave.host import optimizer_step
from lossweave.host.draws import seed_main
from lossweave.host.hook import HostHook
from lossweave.mmdet.detector import CombinedLossMixin
from lossweave.mmdet.draws import SeededBatchSampler
from lossweave.mmdet.held_out import HeldOut, training_losses
from lossweave.progress import Progress
from lossweave.registry import HOOKS

__all__ = ["CombinerHook"]

_KEY = "lossweave"


@HOOKS.register_module()
class CombinerHook(Hook):
    """Connects the combiners of a model with MMEngine's Runner.

    It tells them the progress in optimizer updates, logs terms and weights as ``term_NAME``
    and ``weight_NAME`` at the logger's interval, stops at a loss that is not finite, keeps
    gradients from the optimizer where a turn holds parameters or an update is skipped, and
    makes resuming exact: with numbered draws
    (:class:`~lossweave.mmdet.SeededBatchSampler`) the main process, too, is seeded by the
    number of the iteration; otherwise its random states are in the checkpoint. A model
    without a combiner trains under it as it would without. For ``AutoLoss`` it also reads
    the norm of each update's gradient, and measures losses on held-out data.

    Args:
        interval: iterations between logged values; None means the logger's.
        held_out: for ``AutoLoss(reward='held_out')``, a data loader's config as
            ``train_dataloader``'s (the pipeline is a training one), over data that is not
            trained on. On every rank its first batch is kept in memory and measured again
            and again.
        held_out_batches: how many batches.
        max_skips: updates skipped in a row (``on_nonfinite='skip'``) at which the run ends; None
            never ends it.

    Raises:
        NonFiniteLossError: in training, a loss is not finite and ``on_nonfinite`` is 'raise', or
            there is no combiner; too many updates are skipped; a checkpoint's weights are not
            finite.
        LossweaveError: before it, a combiner asks for held-out losses and there is no data.
    """

    priority = "NORMAL"  # after the hooks that bring losses to the host, before the logger

    def __init__(
        self,
        interval: int | None = None,
        held_out: dict[str, Any] | None = None,
        held_out_batches: int = 1,
        max_skips: int | None = 100,
    ) -> None:
        for name, count in (
            ("interval", interval),
            ("held_out_batches", held_out_batches),
            ("max_skips", max_skips),
        ):
            if count is not None and (
                isinstance(count, bool) or not isinstance(count, int) or count < 1
            ):
                raise LossweaveError(f"CombinerHook: {name}={count!r} should be at least 1")
        self.interval = interval
        self.held_out, self.held_out_batches = held_out, held_out_batches
        self._held_out: HeldOut | None = None
        self._loaded: dict[str, Any] = {}
        self._host = HostHook(max_skips)
        self._draws: SeededBatchSampler | None = None

    # ------------------------------------------------------------------------ training

    def before_train(self, runner: Runner) -> None:
        """Find the combiners, watch the optimizers, restore what the checkpoint kept."""
        self._model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        loader = runner.train_dataloader
        sampler = getattr(loader, "batch_sampler", None)
        self._draws = sampler if isinstance(sampler, SeededBatchSampler) else None
        self._per_epoch = _length(loader)
        if self.interval is None:
            loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
            self._log_interval = loggers[0].interval if loggers else 50
        else:
            self._log_interval = self.interval
        optimizers = [getattr(w, "optimizer", w) for w in _optim_wrappers(runner)]
        with self._host.begun(self._model, optimizers, partial(_norm, runner.optim_wrapper)):
            if runner.cfg.get("compile"):
                self._refuse_compiled()
            self._prepare_held_out()
            self._restore(runner)

    def _prepare_held_out(self) -> None:
        where = (
            "dict(type='lossweave.CombinerHook', held_out=dict(batch_size=..., dataset=...)), with "
            "the pipeline of the training data"
        )
        asked = self._host.need_held_out(self.held_out is not None, where)
        if asked and self._held_out is None and self.held_out is not None:
            self._held_out = HeldOut(self.held_out, self.held_out_batches)

    def _refuse_compiled(self) -> None:
        """Refuse what has to see which parameters a loss reaches: a compiled graph is one node."""
        for combination in self._host.combinations.values():
            for combiner in combination.combiners:
                if isinstance(combiner, GradientCombiner) or combiner.inactive == "hold":
                    what = f"compile: in a compiled model {type(combiner).__name__} cannot tell "
                    raise LossweaveError(
                        f"{what}what each loss reaches; take compile out of the config, or combine "
                        "loss values"
                    )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Tell the combiners where the training stands."""
        if self._draws is not None:
            seed_main(self._draws.seed, get_dist_info()[0], runner.iter)
        progress = Progress(
            iteration=runner.iter,
            accumulation=_accumulation(runner),
            max_iterations=getattr(runner.train_loop, "max_iters", None),
            iterations_per_epoch=self._per_epoch,
        )
        self._host.begin_iteration(progress)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Check what was logged, learn from the new losses where asked to, log the weights."""
        self._look(runner, outputs or {})
        if not self._host.combinations:
            return
        context = _context(runner.optim_wrapper)

        def again(_: Any) -> Mapping[str, Any]:
            return training_losses(self._model, data_batch, context)

        def held_out(_: Any) -> Mapping[str, Any]:
            return self._held_out.losses(self._model, context) if self._held_out else {}

        self._host.end_iteration(again, held_out, partial(_bypass, self._model, runner))
        if self.every_n_inner_iters(batch_idx, self._log_interval) or (
            self._per_epoch and batch_idx + 1 == self._per_epoch
        ):
            for name, value in self._host.logged().items():
                runner.message_hub.update_scalar(f"train/{name}", value)

    def after_train(self, runner: Runner) -> None:
        """Stop watching the optimizers."""
        self._host.end()

    # ------------------------------------------------------------------------ messages

    def _look(self, runner: Runner, outputs: dict[str, Any]) -> None:
        scalars = runner.message_hub.log_scalars
        losses = {
            name: scalars[f"train/{name}"].current()
            for name in outputs
            if "loss" in name and f"train/{name}" in scalars
        }
        said = self._host.look(losses, "loss")
        if said:
            print_log(said, "current")

    # ---------------------------------------------------------------------- resumption

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep what an exact resume needs and the framework leaves out."""
        progress = self._host.progress
        if progress is None:
            return
        self._host.check_weights()
        kept: dict[str, Any] = self._host.state_dict()
        alone = get_dist_info()[1] == 1
        if self._draws is None and alone:
            kept["random"] = {
                "python": random.getstate(),
                "numpy": np.random.get_state(),
                "torch": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            }
        if not progress.last_of_update:
            if alone:
                kept["grads"] = {
                    name: p.grad for name, p in self._model.named_parameters() if p.grad is not None
                }
            else:
                print_log(
                    "this checkpoint lies within an accumulation window, whose gradients are "
                    "not in it with several processes: resuming from it is not exact",
                    "current",
                )
        checkpoint[_KEY] = kept

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take back what :meth:`before_save_checkpoint` kept, when resuming."""
        if runner._resume:
            self._loaded = checkpoint.get(_KEY, {})

    def _restore(self, runner: Runner) -> None:
        loaded, self._loaded = self._loaded, {}
        self._host.load_state_dict(loaded)
        _take_gradients(self._model, loaded.get("grads", {}))
        states = loaded.get("random")
        if states and self._draws is None and get_dist_info()[1] == 1:
            random.setstate(states["python"])
            np.random.set_state(states["numpy"])
            torch.set_rng_state(states["torch"].cpu())
            if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])


def _take_gradients(model: torch.nn.Module, grads: Mapping[str, torch.Tensor]) -> None:
    """The gradients that an accumulation window had gathered when it was saved."""
    parameters = dict(model.named_parameters())
    for name, grad in grads.items():
        if name not in parameters or parameters[name].shape != grad.shape:
            raise LossweaveError(
                f"the checkpoint lies within an accumulation window of another model: it has a "
                f"gradient of {name!r} ({list(grad.shape)}), which this one has not; resume with "
                "its config, or start from its weights with load_from"
            )
    for name, grad in grads.items():
        parameters[name].grad = grad.to(parameters[name].device)


def _norm(wrapper: Any, grads: list[torch.Tensor]) -> torch.Tensor:
    """The norm of the whole gradient, as the wrapper measured it before it was clipped."""
    scalar = f"train/{getattr(wrapper, 'grad_name', '')}"
    if getattr(wrapper, "clip_grad_kwargs", None) and scalar in wrapper.message_hub.log_scalars:
        clipped = wrapper.message_hub.get_scalar(scalar).current()
        return torch.full((), clipped, device=grads[0].device)
    return optimizer_step.norm(grads)


def _optim_wrappers(runner: Runner) -> list[Any]:
    """The wrappers of the run's optimizers; a dictionary of them has several."""
    wrapper: Any = runner.optim_wrapper
    if isinstance(wrapper, OptimWrapperDict):
        return list(wrapper.values())
    return [wrapper]


def _context(wrapper: Any) -> Any:
    """The precision of training, as a context for the model; a dictionary's first one's."""
    if isinstance(wrapper, OptimWrapperDict):
        wrapper = next(iter(wrapper.values()))
    return getattr(wrapper, "optim_context", lambda model: nullcontext())


def _bypass(model: Any, runner: Runner, path: str, combination: LossCombination) -> str:
    """Which method goes around a combination.

    Args:
        model: the whole model.
        runner: whose loop trains it.
        path: the detector that holds the combination; '' is the model itself.
        combination: the one.
    """
    owner = model.get_submodule(path) if path else model
    steps, parses = (_definer(type(model), name) for name in ("train_step", "parse_losses"))
    if combination.update.forwards:
        who = type(runner.train_loop) if steps is BaseModel else steps
        method = "run_iter" if steps is BaseModel else "train_step"
        return (
            f"{who.__name__}.{method} runs its backward through something else than the loss that "
            f"{type(owner).__name__}.parse_losses returns, so nothing of it is combined; let it "
            "optimise that loss"
        )
    if steps is not BaseModel:
        where = f"the parse_losses of {path!r}" if path else "parse_losses"
        return (
            f"{steps.__name__}.train_step never asks {where} for the loss to optimise, so nothing "
            "is combined; let it call that, or the step of MMEngine's BaseModel"
        )
    if path:
        return (
            f"{parses.__name__}.parse_losses adds up the losses of {path!r} "
            f"({type(owner).__name__}), whose own parse_losses is never called, so nothing is "
            f"combined; make {type(model).__name__} the base_detector"
        )
    who = type(runner.train_loop) if parses is CombinedLossMixin else parses
    method = "run_iter" if parses is CombinedLossMixin else "parse_losses"
    return (
        f"{who.__name__}.{method} never asks the combination of {type(model).__name__} for the "
        "loss to optimise, so nothing is combined"
    )


def _definer(kind: type, method: str) -> type:
    """The class that defines a method of another."""
    return next(base for base in kind.__mro__ if method in vars(base))


def _accumulation(runner: Runner) -> int:
    return max(getattr(w, "_accumulative_counts", 1) for w in _optim_wrappers(runner))


def _length(loader: Any) -> int | None:
    """Iterations in one pass over the data, on all ranks together; None where nobody knows."""
    try:
        length = len(loader)
    except (TypeError, NotImplementedError):  # an iterable data set has none
        return None
    sampler = getattr(loader, "sampler", None)
    sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", sampler)
    if isinstance(sampler, InfiniteSampler):  # its length is that of the whole data set
        length = max(1, length // get_dist_info()[1])
    return length
