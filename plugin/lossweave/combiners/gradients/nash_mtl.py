"""Multi-task learning as a bargaining game."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Unpack

from lossweave.combiners._preference import own
from lossweave.combiners.gradients._fair import fair_weights
from lossweave.combiners.gradients._torchjd import torchjd_part
from lossweave.combiners.gradients.base import GradientCombiner, Shared
from lossweave.combiners.registry import register_combiner

__all__ = ["NashMTL"]


class _Solvers(dict[int, Any]):
    """Compiled problems by number of terms; made anew, not copied or saved."""

    def __deepcopy__(self, memo: Any) -> "_Solvers":
        return _Solvers()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Solvers, ()


@register_combiner
class NashMTL(GradientCombiner):
    r"""The Nash bargaining solution: :math:`G w = 1 / w` (Navon et al., Multi-Task Learning as
    a Bargaining Game, 2022), by a sequence of convex problems.

    For two terms :math:`w_i = 1 / (\|g_i\| \sqrt{1 + \cos})` up to a common factor: it is blind
    to the losses' scales. ``max_norm`` bounds the length of the combined gradient. Each solution
    starts the next search, so the last one is in the checkpoint; it moves once per update. The
    problem is solved for rows of unit size, since the solver does not converge far from it.

    Edge cases: zero rows and absent terms are left out, and what their search starts from stays.
    Against rows that cancel exactly there is no solution: the last weights serve again.

    Args:
        max_norm: longest combined gradient; 0 sets no bound.
        optim_niter: convex problems solved per search, at most.
        shared: ``boundary``, ``interval``, ``normalize``, ``private``, ``momentum``, as in
            :class:`~lossweave.combiners.GradientCombiner`.

    Raises:
        LossweaveError: ``max_norm`` negative, ``optim_niter`` below 1, or cvxpy and ecos not
            installed.

    Example:
        >>> combiner = NashMTL()
        >>> combiner.bind(("cls", "loc"))
        >>> weights = combiner.weights_of(torch.tensor([[4.0, 0.0], [0.0, 1.0]]).double())
        >>> round(weights[1] / weights[0], 2)
        2.0
    """

    preference = own("the exponents of the bargain: (G w)ₖ = pₖ / wₖ")

    learns: ClassVar[bool] = True
    solution: Tensor

    def __init__(
        self, max_norm: float = 1.0, optim_niter: int = 20, **shared: Unpack[Shared]
    ) -> None:
        super().__init__(**shared)
        self.require("max_norm", max_norm, max_norm >= 0, "0 or more")
        self.require("optim_niter", optim_niter, optim_niter >= 1, "at least 1")
        self.max_norm, self.optim_niter = max_norm, optim_niter
        needs = {"cvxpy": "nash-mtl", "ecos": "nash-mtl"}
        self._make = torchjd_part("NashMTL", "NashMTL", needs)
        self._solvers = _Solvers()

    def init_state(self, count: int) -> None:
        super().init_state(count)
        self.register_buffer("solution", torch.ones(count, dtype=torch.float64))

    def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
        count = len(terms)
        if self.prefer is not None:
            weights = fair_weights(gramian, self.shares_of(terms), alpha=1.0)
            length = (weights @ gramian @ weights).sqrt()
            return weights * (self.max_norm / length).clamp(max=1) if self.max_norm else weights
        if count not in self._solvers:
            solver = self._make(count, self.max_norm, 1, self.optim_niter).weighting
            solver._init_optim_problem()
            solver.step = 1.0  # the problem is made; what it starts from is ours
            self._solvers[count] = solver
        solver = self._solvers[count]
        solution = self.solution.cpu().clone()
        solver.prvs_alpha = solution[terms].numpy()
        # Of unit size, or the solver's tolerance would be one on the rows' common scale.
        size = gramian.norm()
        weights = solver(_root(gramian / size)) / size.sqrt()
        solution[terms] = torch.from_numpy(solver.prvs_alpha).double()
        self.move(solution=solution)
        return weights


def _root(gramian: Tensor) -> Tensor:
    """Some rows that have this Gramian: the solver wants rows, and looks at nothing else."""
    values, vectors = torch.linalg.eigh(gramian)
    return vectors * values.clamp(min=0).sqrt()
