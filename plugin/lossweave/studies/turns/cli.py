"""The command line of ``tools/turns.py``."""

from collections.abc import Sequence

from lossweave.studies.options import (
    add_ledger,
    add_trainings,
    ledger_of,
    tool_parser,
    trainings_of,
)
from lossweave.studies.turns.findings import Turns
from lossweave.studies.turns.study import run_turns
from lossweave.utils.arguments import typed
from lossweave.utils.fields import COUNT

__all__ = ["turns"]

_DESCRIPTION = """\
Train with the terms taking turns, beside the plain sum, the half-weighted sum and each term
alone, with several seeds, and answer with intervals:

  is taking turns, to first order, the sum weighted by one half?
  do longer turns pass a gain on?
  does one task's training help the other?

A task trained alone has no AP, so every term's loss on the test split is measured too, and
samples of the weights say how far apart two trainings went. Every result is a line of a ledger,
and only what it lacks is done; interrupted trainings (Ctrl-C) go on: call again with more seeds,
lengths or methods to add them."""

_EXAMPLES = """\
what is written, in work_dirs/turns:
  turns.md                  tables and answers, with scores.png, terms.png, apart.png
  turns.json                every number and curve, commands, versions, machine
  ledger.jsonl              a line a training; tools/results.py makes the report anew from it
  <method>_seed<n>/         a training: checkpoints, logs, score.json, term_losses.json

examples:
  python tools/make_demo_data.py
  python tools/turns.py --jobs 2
      turns of 1, 10 and 100 updates, seeds 0 1 2: 21 trainings of 2 to 4 minutes
  python tools/turns.py --jobs 2 --seeds 0 1 2 3 4 --also AutoLoss "Alternating inactive=zero"
      more seeds and methods, added to what is there
  python tools/turns.py --config lossweave::mmdet/demo/retinanet_screen.py --lengths 1 10 55 \\
      --seeds 0 1 2 3 4 --cfg-options optim_wrapper.optimizer.lr=1e-3 \\
      default_hooks.logger.interval=5
      the smaller config, logged often enough to see into turns of 10: 35 trainings of 40 s
  python tools/turns.py --work-dir work_dirs/turns_short --cfg-options train_cfg.max_iters=200 \\
      train_cfg.val_interval=200 param_scheduler.1.end=200
      a shorter schedule
  python tools/turns.py --work-dir work_dirs/turns_sgd --cfg-options \\
      optim_wrapper.optimizer.type=SGD optim_wrapper.optimizer.lr=0.02 \\
      optim_wrapper.optimizer.weight_decay=1e-4
      plain gradient steps, of which the claim about one half is made
"""


def turns(arguments: Sequence[str] | None = None) -> None:
    """``tools/turns.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is trained, or a training that failed.
    """
    parser = tool_parser(_DESCRIPTION, _EXAMPLES)
    parser.add_argument(
        "--lengths",
        nargs="+",
        type=typed(COUNT),
        default=list(Turns.lengths),
        metavar="UPDATES",
        help="of the turns (1 10 100)",
    )
    parser.add_argument(
        "--also",
        nargs="+",
        default=[],
        metavar="METHOD",
        help="further combiners, with their options in quotes",
    )
    add_trainings(parser, Turns.work_dir)
    add_ledger(parser)
    args = parser.parse_args(arguments)
    run_turns(
        Turns(
            lengths=tuple(args.lengths),
            also=tuple(args.also),
            ledger=ledger_of(args),
            **trainings_of(args, "turns", arguments),
        )
    )
