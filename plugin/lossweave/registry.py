"""lossweave's scope in MMEngine's registries.

MMEngine imports this module by itself the first time that a config names a
``lossweave.Something`` type, so configs need no ``custom_imports`` line.
Nothing else in the package imports it, except the MMDetection adapter.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

__all__ = [
    "DATA_SAMPLERS",
    "HOOKS",
    "LOOPS",
    "MODELS",
    "OPTIM_WRAPPER_CONSTRUCTORS",
    "RUNNERS",
    "TRANSFORMS",
]

_LOCATIONS = ["lossweave.mmdet"]

MODELS = Registry("model", parent=MMENGINE_MODELS, scope="lossweave", locations=_LOCATIONS)
HOOKS = Registry("hook", parent=MMENGINE_HOOKS, scope="lossweave", locations=_LOCATIONS)
LOOPS = Registry("loop", parent=MMENGINE_LOOPS, scope="lossweave", locations=_LOCATIONS)
DATA_SAMPLERS = Registry(
    "data sampler", parent=MMENGINE_DATA_SAMPLERS, scope="lossweave", locations=_LOCATIONS
)
TRANSFORMS = Registry(
    "transform", parent=MMENGINE_TRANSFORMS, scope="lossweave", locations=_LOCATIONS
)
RUNNERS = Registry("runner", parent=MMENGINE_RUNNERS, scope="lossweave", locations=_LOCATIONS)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    "optimizer wrapper constructor",
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope="lossweave",
    locations=_LOCATIONS,
)
