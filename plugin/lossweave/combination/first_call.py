"""What can only be seen in the first training forward, before any update."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lossweave.combination.settling import SettledTerms
from lossweave.combiners import Combiner
from lossweave.errors import LossweaveError
from lossweave.progress import Progress
from lossweave.utils import distributed

__all__ = ["check_entries", "check_hook"]


def check_entries(
    settled: SettledTerms,
    entries: Mapping[str, Tensor],
    extra: str,
    progress: Progress | None,
    log: Callable[[str], None],
) -> None:
    """Settle the terms, and check them against the losses that there are, on any rank.

    Args:
        settled: whose terms they are.
        entries: the losses.
        extra: 'add' or 'error'.
        progress: where the training stands, where that is known.
        log: where remarks go.

    Raises:
        LossweaveError: no losses, patterns that match nothing, losses that no term claims.
    """
    everywhere = [name for names in distributed.gather_objects(list(entries)) for name in names]
    everywhere = list(dict.fromkeys(everywhere))
    if not everywhere:
        raise LossweaveError(
            "the detector's training forward returned no entry with 'loss' in its name, "
            "so there is nothing to combine"
        )
    resumed = progress is not None and progress.iteration > 0
    device = next((entry.device for entry in entries.values()), torch.device("cpu"))
    settled.settle(everywhere, device, resumed, log)
    terms = settled.terms
    try:
        terms.check(everywhere)
    except LossweaveError as error:
        # A resumed run was checked when it began; its first batch may lack a term.
        if not resumed:
            raise
        log(f"in the first iteration since resuming, {error}")
    unclaimed = terms.assign(everywhere).extra
    if unclaimed and extra == "error":
        raise LossweaveError(f"no term claims the losses {list(unclaimed)} (extra='error')")


def check_hook(
    combiners: Sequence[Combiner],
    skips: bool,
    progress: Progress | None,
    hook_line: str,
    log: Callable[[str], None],
) -> None:
    """Say what lacks the framework's hook.

    Args:
        combiners: of the whole tree.
        skips: whether updates may have to be skipped.
        progress: where the training stands, where that is known without the hook.
        hook_line: where the hook is added and how.
        log: where remarks go.

    Raises:
        LossweaveError: what does not work without it is asked for.
    """
    who = next(
        (type(c).__name__ for c in combiners if c.needs_hook),
        "on_nonfinite='skip'" if skips else "",
    )
    if who:
        raise LossweaveError(f"{who} needs the lossweave hook; add {hook_line}")
    if progress is None and any(c.learns or c.scheduled for c in combiners):
        log(
            "without the lossweave hook every backward counts as one optimizer "
            f"update, and resuming is not exact; add {hook_line}"
        )
