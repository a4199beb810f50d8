"""The adapters have the same rooms under the same names; what one has alone is listed here."""

from pathlib import Path

import lossweave

PACKAGE = Path(next(iter(lossweave.__path__)))

#: What an adapter has alone, each with its reason.
ALONE = {
    "mmdet": {
        "held_out.py": "held-out data are built from a config; Detectron2's loader comes ready",
        "loops.py": "MMEngine's training loops are classes; Detectron2's is the trainer",
        "weight_sample.py": "a study's hook, which runs under MMDetection's configs",
        "models/ssd_head.py": "Detectron2 has no SSD",
        "models/vgg.py": "the paper's network; Detectron2 has none to put beside it",
        "staged/transforms.py": "proposals follow MMDetection's pipeline of transforms; "
        "Detectron2's mapper does it itself",
    },
    "detectron2": {
        "config_node.py": "yaml configs have a node with declared keys",
        "yaml.py": "one of two kinds of config, with a trainer of its own",
        "lazy.py": "the other one",
        "run.py": "what the two share",
    },
}


def _rooms(adapter: str) -> set[str]:
    home = PACKAGE / adapter
    return {str(path.relative_to(home)) for path in home.rglob("*.py")}


def test_the_same_rooms_under_the_same_names() -> None:
    mmdet, detectron2 = _rooms("mmdet"), _rooms("detectron2")
    assert mmdet - detectron2 == ALONE["mmdet"].keys()
    assert detectron2 - mmdet == ALONE["detectron2"].keys()
