"""The command line of ``tools/compare.py``."""

from collections.abc import Sequence

from lossweave.errors import LossweaveError
from lossweave.studies.compare.check import check_rows
from lossweave.studies.compare.findings import Comparison
from lossweave.studies.compare.study import run_comparison
from lossweave.studies.ledger.book import Book
from lossweave.studies.options import (
    add_ledger,
    add_rates,
    add_trainings,
    command_line,
    ledger_of,
    tool_parser,
    trainings_of,
)
from lossweave.studies.runs.method import Method

__all__ = ["compare"]

_DESCRIPTION = """\
Train several methods with several seeds each and compare them with the best of the sums.

A method is a combiner's name, or a name and its options in quotes. The sums among the methods
are the sweep over the sum's weights: the best on the validation split is the tuned sum, and the
differences to it, paired by seed, are measured on the test split. Every result is a line of a
ledger, and only what it lacks is trained: seeds and methods can be added by calling again with
more of them, also on another machine. Results of other code or of another machine count as
trained, but make no pair, and the report says which they are; --here trains them anew.

With --rates every method, the sums included, is first trained at each of these learning rates
with the first seed; its further seeds are trained at the rate with the best AP on the validation
split. Without, all methods have the config's rate, which was chosen for the sum: methods whose
weights have another scale may then fall behind for that alone."""

_EXAMPLES = """\
what is written, in work_dirs/compare:
  comparison.md             table and verdict, with scores.png
  comparison.json           every number, commands, versions, machine
  ledger.jsonl              a line a training; tools/results.py makes the report anew from it
  <method>_seed<n>/         a training: its checkpoints, logs and score.json
  <method>_seed<n>_lr<x>/   the same with --rates

examples:
  python tools/make_demo_data.py
  python tools/compare.py --jobs 2 --rates 5e-4 1e-3 2e-3 \\
      --methods Sum "Sum weights=[2,1]" UncertaintyWeighting "MGDA boundary=features"
      a rate for each, from three: 20 trainings; about 40 minutes on 2 CPU cores
  python tools/compare.py --methods Sum "Sum weights=[1,2]" "Sum weights=[1,4]" FAMO DWA
  python tools/compare.py --seeds 0 1 2 3 4 --jobs 2 --methods Sum "DWA period=50"
  python tools/compare.py --plan --ledger mine.jsonl theirs.jsonl --methods Sum DWA
      what these two ledgers lack together, and the time that it may take
  python tools/compare.py --ledger docs/results/screen/ledger.jsonl --check 2
      whether two random rows of that table come out again
"""


def compare(arguments: Sequence[str] | None = None) -> None:
    """``tools/compare.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, before anything is trained, or a training that failed.
    """
    parser = tool_parser(_DESCRIPTION, _EXAMPLES)
    parser.add_argument("--methods", nargs="+", default=[], metavar="METHOD")
    parser.add_argument(
        "--check",
        type=int,
        metavar="N",
        help="train N random rows of the ledger again (of one ledger always the same), and say "
        "whether they agree: on the same kind of CPU exactly, else within the spread over "
        "seeds; one by other code than the row's is added to the ledger",
    )
    add_rates(
        parser,
        "learning rates to choose from, for every method; trained in this order "
        "(the config's for all)",
    )
    parser.add_argument(
        "--rates-for",
        choices=("all", "sums"),
        default="all",
        help="whose rate is chosen; with sums, the others have the best sum's (all)",
    )
    add_trainings(parser, Comparison.work_dir)
    add_ledger(parser)
    args = parser.parse_args(arguments)
    if (args.check is None) == (not args.methods):
        raise LossweaveError("needs --methods to compare, or --check N to repeat rows of a ledger")
    if args.check is not None:
        if args.check < 1:
            raise LossweaveError(f"--check: {args.check} is not a number of rows above 0")
        book = Book(ledger_of(args), args.work_dir)
        command = command_line("compare", arguments)
        check_rows(book, args.check, args.work_dir, args.jobs, command)
        return
    run_comparison(
        Comparison(
            methods=tuple(Method.parse(text) for text in args.methods),
            rates=tuple(args.rates),
            rates_for=args.rates_for,
            ledger=ledger_of(args),
            **trainings_of(args, "compare", arguments),
        )
    )
