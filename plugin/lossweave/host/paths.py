"""Where configs are found, by the names that people type, and which framework they are for."""

import ast
import importlib.util
import os
from difflib import get_close_matches
from pathlib import Path

from lossweave.errors import LossweaveError

__all__ = [
    "config_root",
    "framework_of",
    "in_model_zoo",
    "model_zoo",
    "resolve_config",
    "tools_root",
]

_ZOO = "detectron2://"
#: What Detectron2 and MMDetection read configs from.
_KINDS = (".py", ".yaml", ".yml", ".json")


def config_root(package: str) -> Path:
    """The folder of configs that an installed package ships.

    Raises:
        LossweaveError: the package is not installed, or ships none.
    """
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise LossweaveError(f"the package {package!r} is not installed")
    home = Path(next(iter(spec.submodule_search_locations)))
    # An installed package has them in .mim, a checkout at its top.
    for root in (home / ".mim" / "configs", home.parent / "configs", home.parents[1] / "configs"):
        if root.is_dir():
            return root
    raise LossweaveError(f"the package {package!r} ships no configs")


def resolve_config(name: str) -> str:
    """The path of a config: a path as it is, or one of those that a package ships.

    These are ``package::path``, and ``detectron2://path`` for Detectron2's model zoo, whose
    names are also known as they are. A name never leads out of the folder that it names.

    Raises:
        LossweaveError: there is no such file; the message lists near names.

    Example:
        >>> resolve_config("nowhere.py")
        Traceback (most recent call last):
        ...
        lossweave.errors.LossweaveError: there is no config 'nowhere.py'
    """
    if name.startswith(_ZOO):
        return str(_among(name, model_zoo(), _ZOO))
    if "::" in name:
        package = name.partition("::")[0]
        return str(_among(name, config_root(package), f"{package}::"))
    if _is_file(name):
        if not name.endswith(_KINDS):
            raise LossweaveError(f"{name} is no config: those are {', '.join(_KINDS)} files")
        return name
    if os.path.isdir(name):
        raise LossweaveError(f"{name!r} is a folder, not a config")
    if in_model_zoo(name):
        return str(model_zoo() / name)
    raise LossweaveError(f"there is no config {name!r}")


def in_model_zoo(name: str) -> bool:
    """Whether Detectron2's model zoo has a config of that name."""
    try:
        return _inside(name) and _is_file(model_zoo() / name)
    except LossweaveError:
        return False


def model_zoo() -> Path:
    """The folder of the configs in Detectron2's model zoo."""
    spec = importlib.util.find_spec("detectron2")
    if spec is None or not spec.submodule_search_locations:
        raise LossweaveError(
            "detectron2 is not installed; tools/install_detectron2.py --help says how"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model_zoo" / "configs"


def _among(name: str, root: Path, prefix: str) -> Path:
    relative = name.removeprefix(prefix)
    path = root / relative
    if not _inside(relative):
        raise LossweaveError(f"{name!r} leads out of the configs of {prefix}")
    if not _is_file(path) or not relative.endswith(_KINDS):
        files = (p for p in root.rglob("*") if p.suffix in (".py", ".yaml"))
        near = get_close_matches(relative, [str(p.relative_to(root)) for p in files], n=3)
        hint = "; did you mean " + " or ".join(prefix + n for n in near) if near else ""
        raise LossweaveError(f"there is no config {name!r}{hint}")
    return path


def _inside(relative: str) -> bool:
    """Whether a relative path stays below where it begins."""
    steps = os.path.normpath(relative).split(os.sep)
    return not os.path.isabs(relative) and steps[0] != os.pardir


def _is_file(path: str | Path) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # too long for a file's name, or not one at all
        return False


def tools_root() -> Path:
    """The folder of lossweave's own tools, in an installed package or a checkout.

    Raises:
        LossweaveError: they are in neither place.
    """
    home = Path(__file__).parents[1]
    for root in (home / ".mim" / "tools", home.parents[1] / "tools"):
        if root.is_dir():
            return root
    raise LossweaveError("lossweave's tools are missing from this installation")


def framework_of(config: str) -> str:
    """Which framework a config is for: 'mmdet' or 'detectron2'.

    A yaml file is Detectron2's. A Python file is a LazyConfig of Detectron2's if it imports
    anything of that, or imports relatively (MMDetection's configs name bases, or import them
    inside ``with read_base()``).

    Args:
        config: its name, as :func:`resolve_config` takes it.

    Raises:
        LossweaveError: there is no such config, or it is no text.

    Example:
        >>> framework_of("detectron2://COCO-Detection/retinanet_R_50_FPN_1x.yaml")
        'detectron2'
    """
    if config.startswith(_ZOO):
        return "detectron2"
    if config.startswith("mmdet::"):
        return "mmdet"
    path = resolve_config(config)
    if path.endswith((".yaml", ".yml")):
        return "detectron2"
    return "detectron2" if path.endswith(".py") and _is_lazy(Path(path)) else "mmdet"


def _is_lazy(path: Path) -> bool:
    try:
        statements = ast.parse(path.read_text(encoding="utf-8")).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise LossweaveError(f"{path} is not a Python file: {error}") from None
    except OSError as error:
        raise LossweaveError(f"{path} cannot be read: {error.strerror}") from None
    for statement in statements:
        if isinstance(statement, ast.ImportFrom):
            if statement.level:
                return True
            names = [statement.module or ""]
        elif isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        else:
            continue
        if any(f"{name}.".startswith(("detectron2.", "lossweave.detectron2.")) for name in names):
            return True
    return False
