"""Training steps that combine gradients without lossweave, to measure beside it.

They differ from the stock step in what stands between the losses and ``.grad``; forward,
clipping and optimizer are the same. All find the terms as lossweave does.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor
from torchjd import aggregation
from torchjd.autojac import backward, jac_to_grad, mtl_backward

from lossweave.backward import reached_leaves
from lossweave.combination.terms import TermMap
from lossweave.errors import LossweaveError
from lossweave.studies.benchmark.detectors import Step

__all__ = [
    "FlatStep",
    "OtherStep",
    "TorchJDBackwardStep",
    "TorchJDMtlStep",
    "aggregator_for",
    "summed_terms",
]


def aggregator_for(method: str) -> Any:
    """TorchJD's aggregator of a method's name.

    Raises:
        LossweaveError: TorchJD has none, or it needs arguments.
    """
    try:
        return getattr(aggregation, method)()
    except (AttributeError, TypeError, ImportError) as error:
        raise LossweaveError(
            f"{method} cannot be compared with TorchJD here ({error}); choose PCGrad"
        ) from error


def summed_terms(losses: Mapping[str, Any], terms: TermMap) -> list[Tensor]:
    """The terms of a detector's training losses, each an attached scalar."""
    entries: dict[str, Tensor] = {}
    for name, loss in losses.items():
        parts = [loss] if isinstance(loss, Tensor) else loss
        entries[name] = torch.stack([part.mean() for part in parts]).sum()
    found = terms.assign(entries)
    return [torch.stack([entries[name] for name in names]).sum() for names in found.entries]


class OtherStep(Step):
    """A step that fills ``.grad`` by :meth:`differentiate`.

    Args:
        model: a stock detector.
        optimizer: its optimizer.
        batch: what a data loader would give.
        wait: waits for the device.
        terms: which losses make up which term.
        method: of gradients, by TorchJD's name.
    """

    def __init__(
        self,
        model: Any,
        optimizer: OptimWrapper,
        batch: Any,
        wait: Callable[[], None],
        terms: TermMap,
        method: str,
    ) -> None:
        super().__init__(model, optimizer, batch, wait)
        self.terms = terms
        self.aggregator = aggregator_for(method)

    def run(self) -> None:
        """As ``train_step`` has it."""
        self.gradients()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def gradients(self) -> None:
        """Forward, and the combined gradient in ``.grad``."""
        with self.optimizer.optim_context(self.model):
            data = self.model.data_preprocessor(self.batch, True)
            losses = self.forward(data)
        self.model.parse_losses(losses)
        terms = summed_terms(losses, self.terms)
        del losses, data
        self.differentiate(terms)

    def forward(self, data: Any) -> Any:
        """The detector's training losses."""
        return self.model._run_forward(data, mode="loss")

    def differentiate(self, terms: list[Tensor]) -> None:
        """Leave the combined gradient in ``.grad``."""
        raise NotImplementedError

    def discard(self) -> None:
        """Forget what a step that failed left behind."""
        for p in self.model.parameters():
            p.grad = None
            if hasattr(p, "jac"):
                del p.jac


class FlatStep(OtherStep):
    """One backward per term, all shared gradients flattened into one matrix, combined there,
    and written back: the way of LibMTL (``AbsWeighting``, commit 2d842d6), with its buffers.
    Each term's vector is made anew and copied into the matrix, and between the terms ``.grad``
    is zeroed, not dropped. Private parameters gather their plain gradients."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.shared: list[Tensor] = []

    def differentiate(self, terms: list[Tensor]) -> None:
        """Leave the combined gradient in ``.grad``."""
        if not self.shared:
            self.shared = _shared_leaves(terms)
        sizes = [p.numel() for p in self.shared]
        matrix = self.shared[0].new_zeros(len(terms), sum(sizes))
        for k in range(len(terms)):
            terms[k].backward(retain_graph=k + 1 < len(terms))
            vector = matrix.new_zeros(sum(sizes))
            for p, part in zip(self.shared, vector.split(sizes), strict=True):
                if p.grad is not None:
                    part.copy_(p.grad.flatten())
                    p.grad.zero_()
            matrix[k] = vector
        combined = self.aggregator(matrix)
        for p, part in zip(self.shared, combined.split(sizes), strict=True):
            p.grad = part.view_as(p).clone()


class TorchJDBackwardStep(OtherStep):
    """TorchJD's ``backward`` and ``jac_to_grad``, which combine the gradients of all leaves.

    Args:
        args: as in :class:`OtherStep`.
        chunk: terms that are differentiated at once; None means all of them, by vmap.
    """

    def __init__(self, *args: Any, chunk: int | None = None) -> None:
        super().__init__(*args)
        self.chunk = chunk

    def differentiate(self, terms: list[Tensor]) -> None:
        """Leave the combined gradient in ``.grad``."""
        backward(terms, parallel_chunk_size=self.chunk)
        _aggregate(self.model, self.aggregator)


class TorchJDMtlStep(OtherStep):
    """TorchJD's ``mtl_backward`` and ``jac_to_grad``, the features being the neck's outputs.

    The outputs are aliased, since one of them may be computed from another. What two terms
    share above them is not combined but added up.

    Args:
        args: as in :class:`OtherStep`.
        chunk: terms that are differentiated at once below the features; None means all.
        retain: whether the graph is kept, as it must be where terms share some of it above
            the features.
    """

    def __init__(self, *args: Any, chunk: int | None = None, retain: bool = False) -> None:
        super().__init__(*args)
        self.chunk, self.retain = chunk, retain
        self.features: list[Tensor] = []

    def forward(self, data: Any) -> Any:
        """The detector's training losses; notes the neck's outputs."""

        def alias(module: Any, inputs: Any, outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
            self.features = [output.view_as(output) for output in outputs]
            return tuple(self.features)

        handle = self.model.neck.register_forward_hook(alias)
        try:
            return super().forward(data)
        finally:
            handle.remove()

    def differentiate(self, terms: list[Tensor]) -> None:
        """Leave the combined gradient in ``.grad``."""
        features, self.features = self.features, []
        mtl_backward(terms, features, parallel_chunk_size=self.chunk, retain_graph=self.retain)
        _aggregate(self.model, self.aggregator)


def _aggregate(model: Any, aggregator: Any) -> None:
    jac_to_grad([p for p in model.parameters() if hasattr(p, "jac")], aggregator)


def _shared_leaves(terms: Sequence[Tensor]) -> list[Tensor]:
    count: dict[int, int] = {}
    leaves: dict[int, Tensor] = {}
    for term in terms:
        for leaf in reached_leaves([term]):
            leaves[id(leaf)] = leaf
            count[id(leaf)] = count.get(id(leaf), 0) + 1
    return [leaf for key, leaf in leaves.items() if count[key] > 1]
