"""What combiners share that work on each term's own gradient."""

import warnings
from collections.abc import Sequence
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal, TypedDict

import torch
from torch import Tensor
from typing_extensions import Unpack

from lossweave.combiners._preference import own
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.gradients._torchjd import torchjd_part, unit_trace
from lossweave.errors import LossweaveError
from lossweave.progress import Progress
from lossweave.utils.fields import between
from lossweave.utils.shown_rows import Shown

__all__ = [
    "ZERO_SQUARE",
    "ConeProjection",
    "GradientCombiner",
    "PreferringCombiner",
    "Shared",
]

_BOUNDARIES = ("parameters", "features", "representation")
#: A row this much shorter than the longest (squared) is what float32 leaves of a zero.
ZERO_SQUARE = 1e-24


class Shared(TypedDict, total=False):
    """The arguments that all gradient combiners share; see :class:`GradientCombiner`."""

    boundary: str | Sequence[str]
    interval: int
    normalize: bool
    private: Literal["plain", "weighted"]
    momentum: Annotated[float, between(0, 1)]


class GradientCombiner(Combiner):
    r"""A combiner of the terms' gradients: :math:`\sum_k w_k g_k` with weights made of them.

    With the K rows :math:`g_k` of :math:`J`, over what two or more terms share, a subclass
    makes K weights of the Gramian :math:`G = J J^\top` in :meth:`weigh`. The scalar's value is
    the plain sum of the losses. Where and how the rows are taken, and how ranks agree, is
    told by :func:`lossweave.backward.gradient_root`.

    A term that is absent, or whose row is zero (a batch without positives), is left out before
    the method sees the Gramian, so that no method stalls on it; with one term left, its weight
    is 1. With a Gramian that is not finite, as when a loss scaler overflows, no method is
    called, the weights are equal, and nothing is learned. So it is, said once, where a solver
    fails.

    Args:
        boundary: where gradients are combined. 'parameters': exact, one backward pass per term
            through all that they share. 'features': at the detector's extracted features, one
            ordinary pass below them (MGDA-UB; Sener and Koltun, 2018). 'representation': at the
            last tensors that two or more terms share, which is the cheapest. A module's name
            (or pattern), or a list of them: at what these modules return.
        interval: optimizer updates between two computations of the weights; in between, the
            weights are kept and the step is one ordinary backward.
        normalize: whether the method sees rows of unit norm (what it makes of them is
            multiplied by their mean norm), so that no term prevails by its loss's scale.
        private: a parameter that only one term reaches gets the term's gradient as it is
            ('plain'), or times the term's weight ('weighted', which ``interval`` > 1 implies).
        momentum: share of the last update's weights in this one's,
            :math:`\lambda \leftarrow m \lambda + (1 - m) w`, which smooths what the noise of a
            batch does to the weights (CR-MOGM; Zhou et al., 2022). A term's first weights are
            taken as they are; in an update without its row they wait.

    Raises:
        LossweaveError: an argument out of range, an interval above 1 with private='plain'
            asked for, or a solver that is not installed.
    """

    scheduled: ClassVar[bool] = False
    #: Rows are combined by :meth:`mix`, element by element; the weights serve the rest.
    elementwise: bool = False
    #: Rows are shown to :meth:`remember` before they are weighed.
    remembers: bool = False
    #: With one term left, its weight is 1 and the method is not asked.
    single: ClassVar[bool] = True
    kept: Tensor
    smoothed: Tensor

    def __init__(
        self,
        boundary: str | Sequence[str] = "parameters",
        interval: int = 1,
        normalize: bool = False,
        private: Literal["plain", "weighted"] | None = None,
        momentum: Annotated[float, between(0, 1)] = 0.0,
    ) -> None:
        super().__init__()
        names = (boundary,) if isinstance(boundary, str) else tuple(boundary)
        fine = len(names) > 0 and all(isinstance(n, str) and n for n in names)
        self.require("boundary", boundary, fine, "a word or a list of modules' names")
        reserved = [name for name in names if name in _BOUNDARIES]
        self.require("boundary", boundary, not reserved or isinstance(boundary, str),
                     "one of the words, or a list of modules' names")  # fmt: skip
        self.require("interval", interval, interval >= 1, "at least 1")
        if interval > 1 and private == "plain":
            raise LossweaveError(
                f"{type(self).__name__}: interval={interval} implies private='weighted', since "
                "the ordinary backward in between weights whole terms"
            )
        self.boundary = boundary if reserved else names
        self.require("momentum", momentum, 0 <= momentum < 1, "0 or more, and below 1")
        self.interval, self.normalize, self.momentum = interval, normalize, momentum
        self.private: str = private or ("weighted" if interval > 1 else "plain")
        self._failed = False
        if momentum:
            self.learns = True  # type: ignore[misc]
        #: The losses of the forward whose gradients are weighed, shape ``(K,)``.
        self.root_losses: Tensor | None = None
        self._moved: dict[str, Tensor] = {}
        self._gramian: list[list[float]] = []
        self._iterations = self._conflicts = 0

    def init_state(self, count: int) -> None:
        if self.interval > 1:
            self.register_buffer("kept", torch.ones(count, dtype=torch.float64))
        if self.momentum:  # nan: no weights yet
            self.register_buffer("smoothed", torch.full((count,), torch.nan, dtype=torch.float64))

    # -------------------------------------------------------------------- what methods define

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        """The weights for a Gramian of finite, nonzero rows.

        Args:
            gramian: float64, on the CPU, shape ``(m, m)``.
            terms: the positions of the m rows among the K terms.

        Returns:
            The weights, shape ``(m,)``.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no weigh(gramian, terms)")

    def mix(self, rows: Sequence[Tensor], key: int) -> Tensor:
        """One tensor's K rows, combined element by element, for ``elementwise`` methods.

        Args:
            rows: K tensors of one shape, zero where a term does not reach it.
            key: tells tensors apart, and ranks where those have tensors of their own.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no mix(rows, key)")

    def remember(self, shown: Shown) -> list[dict[int, Tensor]] | None:
        """Look at the rows of a finite Gramian before :meth:`weigh`, for methods that remember.

        Returns:
            What becomes of them, piece by piece, for ``elementwise`` methods; None where they stay.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no remember(shown)")

    def resting(self) -> Tensor:
        """The weights of terms that have no row here, shape ``(K,)``."""
        if self.interval > 1:
            return self.kept.cpu().clone()
        return torch.ones(len(self.terms), dtype=torch.float64)

    # ------------------------------------------------------------------------- in the step

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        """The plain sum; the weights follow in the backward pass."""
        self.root_losses = losses
        weights = torch.ones_like(losses).masked_fill(~present, 0)
        return Combined(losses.masked_fill(~present, 0).sum(), weights)

    def begin(self, progress: Progress) -> None:
        super().begin(progress)
        if progress.first_of_update:  # what an update that was skipped has left
            self._moved.clear()

    def move(self, **memory: Tensor) -> None:
        """Let buffers take these values when the update ends, the last ones that are told."""
        self._moved.update(memory)

    @torch.no_grad()
    def update(self, losses: Tensor, present: Tensor) -> None:
        for name, value in self._moved.items():
            self.get_buffer(name).copy_(value)
        self._moved.clear()

    @property
    def computes(self) -> bool:
        """Whether the weights are computed in this update, not kept from an earlier one."""
        return self.progress.update % self.interval == 0

    def keep(self, weights: Tensor) -> None:
        """Keep the weights until they are computed again."""
        self.kept.copy_(weights)

    def kept_weights(self, like: Tensor) -> Tensor:
        """The weights between two computations, shape ``(K,)``."""
        return self.kept.to(like)

    @torch.no_grad()
    def weights_of(self, gramian: Tensor) -> list[float]:
        """The K weights for the K x K Gramian of this iteration; learns from it.

        Args:
            gramian: float64, on the CPU, zero rows where a term has none.
        """
        count = len(gramian)
        if not self._measure(gramian):
            return [1.0 / count] * count
        squares = [self._gramian[k][k] for k in range(count)]
        least = ZERO_SQUARE * max(squares)
        terms = [k for k, square in enumerate(squares) if square > least]
        weights = self.resting()
        if terms:
            found = self._weighed(gramian[terms][:, terms], terms)
            weights[terms] = self._smoothed(found, terms) if self.momentum else found
        if self.interval > 1:
            self.keep(weights)
        return weights.tolist()

    def _weighed(self, gramian: Tensor, terms: list[int]) -> Tensor:
        if len(terms) == 1 and self.single:
            return torch.ones(1, dtype=torch.float64)
        norms = gramian.diagonal().sqrt()
        if self.normalize:
            gramian = gramian / torch.outer(norms, norms)
        where, shares = self.preference.where, self.shares_of(terms)
        scales = {"rows": shares, "divided rows": 1 / shares}.get(where, torch.ones_like(shares))
        try:
            found = self.weigh(gramian * torch.outer(scales, scales), terms).double()
            if where == "divided rows":  # weights of as large a sum
                scales = scales * found.sum() / (found * scales).sum()
            found = found * scales
            if where == "weights":
                found = found * shares
            failure = "" if found.isfinite().all() else "its weights are not finite"
        except Exception as error:
            if not _is_numerical(error):
                raise
            failure = str(error)
        if failure:
            if not self._failed:
                warnings.warn(
                    f"{type(self).__name__}: {failure}; equal weights were used", stacklevel=2
                )
            self._failed = True
            found = torch.full((len(terms),), 1 / len(terms), dtype=torch.float64)
        return found * norms.mean() / norms if self.normalize else found

    def shares_of(self, terms: Sequence[int]) -> Tensor:
        """The importances of the given terms, float64."""
        return torch.tensor([self.importances[k] for k in terms], dtype=torch.float64)

    def _smoothed(self, weights: Tensor, terms: list[int]) -> Tensor:
        memory = self.smoothed.cpu().clone()
        before = torch.where(memory[terms].isnan(), weights, memory[terms])
        memory[terms] = self.momentum * before + (1 - self.momentum) * weights
        self.move(smoothed=memory)
        return memory[terms]

    # ---------------------------------------------------------------------------- for logs

    def _measure(self, gramian: Tensor) -> bool:
        """Keep what was learned on the way; on the host already, so it costs no wait.

        Returns:
            Whether the Gramian is finite.
        """
        self._gramian = gramian.tolist()
        finite = all(isfinite(entry) for row in self._gramian for entry in row)
        if finite:
            self._iterations += 1
            self._conflicts += any(entry < 0 for row in self._gramian for entry in row)
        return finite

    def measures(self) -> dict[str, float]:
        """Norm of each term's gradient, pairwise cosines, share of iterations in conflict.

        The norms and cosines are those of the last computation, the share is of those since
        :meth:`forget_measures`. Empty where there was none.
        """
        if not self._gramian:
            return {}
        gramian = torch.tensor(self._gramian, dtype=torch.float64)
        norms = gramian.diagonal().clamp(min=0).sqrt()
        scale = torch.outer(norms, norms)
        cosines = (gramian / scale).masked_fill(scale == 0, 0).clamp(-1, 1).tolist()
        names = [term.replace(".", "_") for term in self.terms]
        found = {f"grad_norm_{n}": norm for n, norm in zip(names, norms.tolist(), strict=True)}
        for i, one in enumerate(names):
            for j in range(i + 1, len(names)):
                found[f"cos_{one}_{names[j]}"] = cosines[i][j]
        if self._iterations:
            found["conflict"] = self._conflicts / self._iterations
        return found

    def forget_measures(self) -> None:
        self._gramian = []
        self._iterations = self._conflicts = 0


class PreferringCombiner(GradientCombiner):
    """A combiner of gradients with a preference per term; ``prefer`` multiplies it.

    Args:
        pref_vector: preference of each term, by name or in their order; None means equal ones.
        shared: as in :class:`GradientCombiner`.

    Raises:
        LossweaveError: preferences that do not fit the terms, are negative, or all 0.
    """

    preference = own("its preference vector is multiplied by pₖ")

    def __init__(
        self,
        pref_vector: dict[str, float] | Sequence[float] | None = None,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        self.pref_vector = pref_vector
        self._preference: list[float] | None = None

    def bind(self, terms: Sequence[str]) -> None:
        super().bind(terms)
        if self.pref_vector is not None:
            self._preference = self.per_term(self.pref_vector, "pref_vector")
            fine = min(self._preference) >= 0 and max(self._preference) > 0
            self.require("pref_vector", self.pref_vector, fine, "not negative, and not all 0")

    def preferences(self, terms: Sequence[int]) -> Tensor | None:
        """The preferences of the given terms as a vector; None stands for equal ones."""
        shares = self.shares_of(terms)
        if self._preference is not None:
            return shares * torch.tensor([self._preference[k] for k in terms], dtype=torch.float64)
        return None if self.prefer is None else shares / len(terms)


class ConeProjection(PreferringCombiner):
    """What the combiners share that project onto the cone of directions that no term minds.

    Edge cases: zero rows and absent terms are left out. The cone is that of rows scaled to a
    Gramian of trace 1, so very short gradients are projected like others.

    Args:
        pref_vector: preference of each term, by name or in their order; None means equal
            ones that add up to 1 (the step is then that of a mean).
        reg_eps: added to the diagonal of the Gramian, so that the projector's problem is
            definite.
        shared: ``boundary``, ``interval``, ``normalize``, ``private``, ``momentum``, as in
            :class:`~lossweave.combiners.GradientCombiner`.

    Raises:
        LossweaveError: preferences that do not fit the terms, ``reg_eps`` not positive, or
            quadprog and qpsolvers not installed.
    """

    #: The class in ``torchjd.aggregation``.
    weighting: ClassVar[str]

    def __init__(
        self,
        pref_vector: dict[str, float] | Sequence[float] | None = None,
        reg_eps: float = 0.0001,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(pref_vector, **shared)
        self.require("reg_eps", reg_eps, reg_eps > 0, "positive")
        self.reg_eps = reg_eps
        who = type(self).__name__
        needs = {p: "quadprog-projector" for p in ("qpsolvers", "quadprog")}
        projector = torchjd_part(who, "torchjd.linalg:QuadprogProjector", needs)
        self._weighting: Any = torchjd_part(who, self.weighting)(
            projector=projector(reg_eps=reg_eps)
        )

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        self._weighting.pref_vector = self.preferences(terms)
        return self._weighting(unit_trace(gramian))


def _is_numerical(error: Exception) -> bool:
    """Whether an exception is a solver's, not a mistake in the program."""
    kinds = (ValueError, ArithmeticError, torch.linalg.LinAlgError)
    return isinstance(error, kinds) or type(error).__name__ in ("SolverError", "LinAlgError")
