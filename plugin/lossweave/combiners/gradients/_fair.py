"""Fair shares of the progress, for terms that are not equally important."""

import torch
from torch import Tensor

__all__ = ["fair_weights"]

_STEPS = 200
#: Of what is wanted: where the search ends, and what will do where rounding does not let it.
_TOLERANCE, _FAIR = 1e-6, 1e-2


def fair_weights(gramian: Tensor, shares: Tensor, alpha: float) -> Tensor:
    r"""The w > 0 with :math:`(G w)_k = (p_k / w_k)^{1/\alpha}`, by Newton's method.

    It is the weighting of the direction that is best for :math:`\sum_k p_k u_\alpha(g_k \cdot d)`,
    with the alpha-fair utility u; alpha = 1 is Nash's bargain with bargaining powers p. It is the
    minimum of :math:`\frac12 w^\top G w - \sum_k p_k^{1/\alpha} \phi(w_k)`,
    :math:`\phi' = w^{-1/\alpha}`, which is convex.

    Args:
        gramian: of nonzero rows, float64, shape ``(m, m)``.
        shares: p, positive, shape ``(m,)``.
        alpha: positive.

    Raises:
        ValueError: there is no such w, as where the rows cancel exactly.

    Example:
        >>> fair_weights(torch.diag(torch.tensor([4.0, 1.0])).double(), torch.ones(2).double(), 1.0)
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    norms = gramian.diagonal().sqrt()
    cosines = gramian / torch.outer(norms, norms)  # w of unit rows: the same problem, other pulls
    pulls = shares ** (1 / alpha) * norms ** (1 / alpha - 1)

    def cost(w: Tensor) -> Tensor:
        utility = w.log() if alpha == 1 else w ** (1 - 1 / alpha) / (1 - 1 / alpha)
        return w @ cosines @ w / 2 - (pulls * utility).sum()

    weights = pulls ** (alpha / (1 + alpha))  # what each row alone would have
    for _ in range(_STEPS):
        wanted = pulls * weights ** (-1 / alpha)
        slope = cosines @ weights - wanted
        if (slope.abs() <= _TOLERANCE * wanted).all():
            return weights / norms
        curvature = cosines + torch.diag(wanted / (alpha * weights))
        step = torch.linalg.solve(curvature, -slope)
        size = min(1.0, 0.9 / max(float((-step / weights).max()), 1e-300))  # all stay positive
        before, falls = cost(weights), slope @ step
        before = before + 1e-13 * before.abs()  # what rounding leaves of it
        while size > 1e-12 and cost(weights + size * step) > before + 1e-4 * size * falls:
            size /= 2
        weights = weights + size * step
    if not (slope.abs() <= _FAIR * wanted).all():
        raise ValueError("no fair weights were found")
    return weights / norms
