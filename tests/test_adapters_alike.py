"""The adapters have the same rooms under the same names; what one has alone is listed here."""

import ast
from pathlib import Path

import pytest

import lossweave

PACKAGE = Path(next(iter(lossweave.__path__)))

#: What an adapter has alone, each with its reason.
ALONE = {
    "mmdet": {
        "box_errors.py": "a transform of MMDetection's pipelines, for a study",
        "held_out.py": "held-out data are built from a config; Detectron2's loader comes ready",
        "loops.py": "MMEngine's training loops are classes; Detectron2's is the trainer",
        "weight_sample.py": "a study's hook, which runs under MMDetection's configs",
        "models/ssd_head.py": "Detectron2 has no SSD",
        "models/roi_align.py": "the operator of the next one",
        "models/nonapproximate.py": "a study of MMDetection's two-stage detectors",
        "models/vgg.py": "the paper's network; Detectron2 has none to put beside it",
        "staged/transforms.py": "proposals follow MMDetection's pipeline of transforms; "
        "Detectron2's mapper does it itself",
    },
    "detectron2": {
        "meta_arch.py": "the detector of yaml configs is a meta-architecture",
        "config_node.py": "yaml configs have a node with declared keys",
        "yaml.py": "one of two kinds of config, with a trainer of its own",
        "lazy.py": "the other one",
        "staged/yaml.py": "stages read a LazyConfig; a yaml config becomes one",
        "run.py": "what the two share",
    },
}


#: Public names of a room that one adapter has alone, and why.
NAMES_ALONE: dict[str, dict[str, str]] = {
    "staged/training": {
        "mmdet/StagedRunner": "a config names a runner; Detectron2's tools call a function",
        "detectron2/train_stages": "that function",
    },
    "staged/hooks": {
        "detectron2/unwrapped": "MMEngine has a function for it",
        "mmdet/TrainableOptimWrapperConstructor": "the stock one hands over frozen weights",
    },
    "staged/network": {
        "mmdet/StageDetector": "one detector class has all stages as arguments",
        "detectron2/MODULES": "parts have other names",
        "detectron2/StageProposalNetwork": "two architectures are stages",
        "detectron2/StageRCNN": "as above",
        "detectron2/stage_network": "makes one of the two of a whole detector's modules",
        "detectron2/check_detector": "a built model is looked at; MMDetection's config suffices",
        "detectron2/rpn_settings": "read from the built model; MMDetection's are in the config",
    },
    "staged/proposals": {
        "detectron2/FixedProposals": "wraps the mapper: see transforms",
        "detectron2/entries_of": "data are a list; MMDetection builds a loader",
    },
    "staged/checks": {},
    "staged/configs": {
        "mmdet/is_combined": "Detectron2's yaml and lazy configs share theirs",
        "mmdet/leaves_of": "a data set may be wrapped",
        "mmdet/pipelines_of": "as above; each part has a pipeline",
        "mmdet/plain_config": "a Runner of its own needs a name of its own",
        "mmdet/proposal_loader": "data are a config; Detectron2's are a list of entries",
        "mmdet/schedule_of": "a study reads it where the rest of the config may be absent",
        "detectron2/described": "LazyConfigs hold classes and functions",
        "detectron2/detector_of": "a combination wraps the detector's config",
        "detectron2/has_schedule": "asked by the tools; MMDetection's registry knows the runner",
    },
}


def _rooms(adapter: str) -> set[str]:
    home = PACKAGE / adapter
    return {str(path.relative_to(home)) for path in home.rglob("*.py")}


def _names(adapter: str, room: str) -> set[str]:
    for node in ast.parse((PACKAGE / adapter / f"{room}.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def test_the_same_rooms_under_the_same_names() -> None:
    mmdet, detectron2 = _rooms("mmdet"), _rooms("detectron2")
    assert mmdet - detectron2 == ALONE["mmdet"].keys()
    assert detectron2 - mmdet == ALONE["detectron2"].keys()


@pytest.mark.parametrize("room", sorted(NAMES_ALONE))
def test_the_same_names_in_a_room(room: str) -> None:
    mmdet, detectron2 = _names("mmdet", room), _names("detectron2", room)
    alone = {f"mmdet/{n}" for n in mmdet - detectron2}
    alone |= {f"detectron2/{n}" for n in detectron2 - mmdet}
    assert alone == NAMES_ALONE[room].keys(), "name the difference above, with its reason"
