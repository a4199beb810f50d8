"""The command line of ``tools/simulate.py``."""

from collections.abc import Sequence
from typing import Annotated

from lossweave.combiners import combiner_names
from lossweave.studies.options import command_line, tool_parser
from lossweave.studies.simulate.study import SCALES, Simulation, run_simulation
from lossweave.utils.arguments import folder, typed
from lossweave.utils.fields import COUNT, SEED, above

__all__ = ["simulate"]

_DESCRIPTION = """\
Two losses that share their parameters, from 0.001 to 1000 apart, and every combiner on them:
the weights df/dL over the plane of the two losses, and where plain gradient descent and Adam go
on two small problems whose Pareto set is known. It says of each combiner where it explodes, where
it dies, where it stalls, whether it reaches the Pareto set, and where on it.

No detector and no data: a few minutes on two cores. What was computed is kept when called
again, as long as neither the settings nor the code of the combiners changed."""

_EXAMPLES = """\
what is written, in work_dirs/simulate:
  simulate.html             to look at: one page, no network; combiner, scale and start to choose
  simulate.png              sum, square and product beside each other
  fields.png, paths.png     all combiners
  simulate.md               a table, and every combiner's verdict in words
  simulate.json             the findings, thresholds, versions, machine
  parts/                    every field and trajectory

examples:
  python tools/simulate.py
  python tools/simulate.py --combiners Sum Product MGDA --scales 0.01 0.1 1 10 100 \\
      --out work_dirs/simulate_three
"""


def simulate(arguments: Sequence[str] | None = None) -> None:
    """``tools/simulate.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is computed.
    """
    parser = tool_parser(_DESCRIPTION, _EXAMPLES)
    standard = Simulation()
    parser.add_argument(
        "--combiners",
        nargs="+",
        metavar="NAME",
        help="(every registered one: " + " ".join(combiner_names()) + ")",
    )
    parser.add_argument(
        "--scales",
        nargs="+",
        type=typed(Annotated[float, above(0)]),
        default=list(SCALES),
        metavar="RATIO",
        help="how much larger the second loss is made than the first "
        f"({' '.join(f'{scale:g}' for scale in SCALES)})",
    )
    parser.add_argument(
        "--seed",
        type=typed(SEED),
        default=standard.seed,
        help="of the least-squares pair (%(default)s)",
    )
    parser.add_argument(
        "--steps",
        type=typed(COUNT),
        default=standard.steps,
        help="updates of a training (%(default)s)",
    )
    parser.add_argument(
        "--settle",
        type=typed(COUNT),
        default=standard.settle,
        help="updates of standing losses after which weights are read that learn (%(default)s)",
    )
    parser.add_argument(
        "--jobs", type=typed(COUNT), help="processes (as many as there are cores)"
    )
    parser.add_argument("--out", type=folder, default=standard.out, help="folder (%(default)s)")
    args = parser.parse_args(arguments)
    options = {name: value for name, value in vars(args).items() if value is not None}
    for name in ("combiners", "scales"):
        if name in options:
            options[name] = tuple(options[name])
    run_simulation(Simulation(command=command_line("simulate", arguments), **options))
