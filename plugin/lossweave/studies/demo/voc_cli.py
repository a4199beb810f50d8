"""The command line of ``tools/prepare_voc.py``."""

from collections.abc import Sequence

from lossweave.demo.voc import prepare_voc
from lossweave.studies.options import tool_parser

__all__ = ["prepare"]

_DESCRIPTION = """\
Writes COCO annotations for any folder in VOC layout (Annotations/*.xml, JPEGImages, and
ImageSets/Main where it has splits). Pictures stay where they are and are not copied. Empty and
inverted boxes are dropped, which one line says, as it does of whatever else was left out."""

_EXAMPLES = """\
what is written:
  OUT/annotations/train.json  val.json  test.json    with pictures' paths relative to OUT

examples:
  git clone https://github.com/Shenggan/BCCD_Dataset && mv BCCD_Dataset/BCCD data/BCCD
  python tools/prepare_voc.py data/BCCD
      blood cells, for configs/mmdet/real: 205 + 87 + 72 pictures, as its ImageSets/Main says
  python tools/prepare_voc.py /data/mine --out data/mine --split 8 1 1 --seed 1
      no ImageSets, or others than one wants: eight tenths, one and one, drawn at random
  python tools/prepare_voc.py data/BCCD --out data/wbc --classes WBC"""


def prepare(arguments: Sequence[str] | None = None) -> None:
    """``tools/prepare_voc.py``: see its ``--help``.

    Raises:
        LossweaveError: naming the folder, file, class or number that is wrong.
    """
    parser = tool_parser(_DESCRIPTION, _EXAMPLES)
    parser.add_argument("root", help="a folder with Annotations and JPEGImages")
    parser.add_argument("--out", help="where the annotations go (ROOT)")
    parser.add_argument(
        "--classes", nargs="+", default=[], metavar="NAME", help="these alone, in this order (all)"
    )
    parser.add_argument(
        "--split",
        nargs=3,
        type=float,
        metavar=("TRAIN", "VAL", "TEST"),
        help="parts of a random split (ImageSets/Main, else 0.7 0.15 0.15)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random split (%(default)s)")
    parser.add_argument(
        "--skip-missing", action="store_true", help="leave out annotations without a picture"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")
    args = vars(parser.parse_args(arguments))
    data = prepare_voc(progress=not args.pop("quiet"), **args)
    for remark in data.remarks:
        print(remark)
    for split, path in data.files.items():
        print(f"{path}: {data.pictures[split]} pictures, {data.boxes[split]} boxes")
    print(f"classes: {', '.join(data.classes)}")
