"""The command line of ``tools/results.py``."""

from collections.abc import Sequence

from lossweave.errors import LossweaveError
from lossweave.studies.options import tool_parser
from lossweave.studies.results.remake import remake, remake_all

__all__ = ["results"]

_DESCRIPTION = """\
Make reports and plots from ledgers alone: nothing is trained, and the same ledgers give the same
bytes. Torn lines and duplicates are reported, and results of other code or of another machine are
shown as such."""

_EXAMPLES = """\
examples:
  python tools/results.py
      every report below docs/results, beside its ledger.jsonl
  python tools/results.py --ledger mine.jsonl theirs.jsonl --work-dir work_dirs/together
      one report of two ledgers
"""


def results(arguments: Sequence[str] | None = None) -> None:
    """``tools/results.py``: see its ``--help``.

    Raises:
        LossweaveError: a ledger is missing, broken, or of things that are not to be compared.
    """
    parser = tool_parser(_DESCRIPTION, _EXAMPLES)
    parser.add_argument("root", nargs="?", default="docs/results", help="(%(default)s)")
    parser.add_argument("--ledger", nargs="+", metavar="FILE", help="these as one, instead")
    parser.add_argument("--work-dir", help="where the report of --ledger goes")
    args = parser.parse_args(arguments)
    if (args.ledger is None) != (args.work_dir is None):
        raise LossweaveError("--ledger and --work-dir belong together")
    remarks = remake(args.ledger, args.work_dir) if args.ledger else remake_all(args.root)
    for remark in remarks:
        print(remark)
