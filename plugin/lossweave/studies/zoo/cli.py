"""The command line of ``tools/zoo.py``."""

from collections.abc import Sequence
from typing import Annotated

from lossweave.errors import LossweaveError
from lossweave.studies.options import command_line, tool_parser
from lossweave.studies.zoo.study import FRAMEWORKS, Zoo, run_zoo
from lossweave.utils.arguments import folder, typed
from lossweave.utils.fields import above

__all__ = ["zoo"]

_DESCRIPTION = """\
Try every config of a framework's zoo: one training step of the stock model, and the same with
the plain sum (which must leave it to the last bit), UncertaintyWeighting and PCGrad.

Each model runs in a process of its own, small ones first. What was tried is kept, so that the
command can be stopped and goes on where it was."""

_EXAMPLES = """\
what is written, in work_dirs/zoo:
  zoo.md, zoo.jsonl

examples:
  python tools/zoo.py
      all of it; hours on 2 CPU cores
  python tools/zoo.py --only retinanet/ detr/
      two folders
  python tools/zoo.py --framework detectron2 --work-dir work_dirs/zoo_detectron2
      Detectron2's
  python tools/zoo.py --again
      once more what failed, or did not train in stock"""


def zoo(arguments: Sequence[str] | None = None) -> None:
    """``tools/zoo.py``: see its ``--help``.

    Raises:
        LossweaveError: wrong input, or a config that is not as it should be.
    """
    parser = tool_parser(_DESCRIPTION, _EXAMPLES)
    amount = typed(Annotated[float, above(0)])
    parser.add_argument(
        "--framework", choices=list(FRAMEWORKS), default=Zoo.framework, help="(%(default)s)"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="parts of names")
    parser.add_argument("--work-dir", type=folder, default=Zoo.work_dir, help="(%(default)s)")
    parser.add_argument(
        "--seconds", type=amount, default=Zoo.seconds, help="of a core, for a model (%(default)s)"
    )
    parser.add_argument(
        "--gigabytes", type=amount, default=Zoo.gigabytes, help="of memory, likewise (%(default)s)"
    )
    parser.add_argument("--again", action="store_true", help="try again what failed")
    args = parser.parse_args(arguments)
    trials = run_zoo(
        Zoo(
            framework=args.framework,
            only=tuple(args.only),
            work_dir=args.work_dir,
            seconds=args.seconds,
            gigabytes=args.gigabytes,
            again=args.again,
            command=command_line("zoo", arguments),
        )
    )
    bad = [trial.configs[0] for trial in trials if not trial.good]
    if bad:
        raise LossweaveError(f"{len(bad)} models are not as they should be, e.g. {bad[0]}")
