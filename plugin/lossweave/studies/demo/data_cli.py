"""The command line of ``tools/make_demo_data.py``."""

from collections.abc import Sequence
from typing import Annotated

from lossweave.demo import make_demo_data
from lossweave.errors import LossweaveError
from lossweave.studies.options import tool_parser
from lossweave.utils.arguments import typed
from lossweave.utils.fields import SEED, between

__all__ = ["make_data"]

_DESCRIPTION = """\
Makes a small detection data set in COCO format out of what scikit-learn ships: real handwritten
digits, scaled, turned, tinted and partly hidden, on pieces of real photographs. Ten classes.
Nothing is downloaded, and the same arguments give the same pictures."""

_EXAMPLES = """\
what is written:
  ROOT/train/*.jpg  ROOT/val/*.jpg  ROOT/test/*.jpg
  ROOT/annotations/train.json  val.json  test.json
  ROOT/meta.json      the arguments; with the same ones a second call returns at once

examples:
  python tools/make_demo_data.py
      2000 + 300 + 300 pictures of 160 x 160 for configs/mmdet/demo, about 15 seconds, 29 MB
  python tools/make_demo_data.py --root data/tiny --train 64 --val 16 --test 16
      the first pictures of the same set, enough to try a config
  python tools/make_demo_data.py --root data/hard --difficulty hard --seed 1
      other pictures: smaller, fainter and more hidden digits, more clutter"""


def _number_or_name(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def make_data(arguments: Sequence[str] | None = None) -> None:
    """``tools/make_demo_data.py``: see its ``--help``.

    Raises:
        LossweaveError: the data cannot be made there, or an argument is wrong.
    """
    parser = tool_parser(_DESCRIPTION, _EXAMPLES)
    parser.add_argument(
        "--root", default="data/lossweave_demo", help="folder to make (default: %(default)s)"
    )
    for split, number in (("train", 2000), ("val", 300), ("test", 300)):
        parser.add_argument(
            f"--{split}",
            type=typed(Annotated[int, between(1, 10**6)]),
            default=number,
            help=f"{split} pictures (default: %(default)s)",
        )
    parser.add_argument(
        "--size",
        type=typed(Annotated[int, between(1, 4096)]),
        default=160,
        help="side of a picture in pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--difficulty",
        type=_number_or_name,
        default="medium",
        help="easy (0.2), medium (0.5), hard (0.8) or a number from 0 to 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=typed(SEED), default=0, help="random seed (default: %(default)s)"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a demo data set in ROOT that was made with other arguments",
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")
    args = vars(parser.parse_args(arguments))
    quiet = args.pop("quiet")
    try:
        data = make_demo_data(progress=not quiet, **args)
    except (ValueError, OSError) as error:
        raise LossweaveError(str(error)) from error
    print(f"demo data: {data.root}")
