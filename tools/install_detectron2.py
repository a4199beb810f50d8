"""Installs a detectron2 that runs beside current libraries; ``--help`` says how."""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib.util
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

SOURCE = "pb1-detectron2==0.6"
# pip 26.3 reads the source's metadata and refuses the address of an optional dependency in it,
# even with --no-deps, which would never fetch it.
PIP = "pip==26.2.1"
#: What is downloaded is installed and run, so it is these files or none.
SHA256 = {
    SOURCE: "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29",
    PIP: "71138adf1f4ca900cdb7d289c21b7494329f2332b6d85f0e1c42108c0384ed3e",
}

_DESCRIPTION = f"""\
Makes detectron2 0.6 importable in this Python environment, for training and testing RetinaNet and
the R-CNN detectors. A detectron2 that is there already is used and left alone; its own repository
(github.com/facebookresearch/detectron2) is the place to get the official one.

Otherwise the source package {SOURCE} is downloaded and its Python part installed. It comes without
its compiled operators: their place is taken by a module that says so in one line when a rotated
box or a deformable convolution asks for one. Names that Pillow and numpy have removed since are
replaced by today's. What detectron2 itself needs: pip install 'lossweave[detectron2]'."""

_EPILOG = """\
examples:
  python tools/install_detectron2.py
  python tools/install_detectron2.py --source pb1-detectron2-0.6.tar.gz   # downloaded before
  pip uninstall detectron2                                                # to remove it again"""

#: What the package used and its libraries no longer have.
MENDED = (
    (re.compile(r"\bnp\.(int|bool|float|str|object)\b"), r"\1"),
    (re.compile(r"\bImage\.LINEAR\b"), "Image.BILINEAR"),
    # COCO evaluation falls back to pycocotools where this import fails, but not later.
    (
        re.compile(r"^from detectron2\.evaluation\.fast_eval_api import COCOeval_opt$", re.M),
        "from pycocotools.cocoeval import COCOeval as COCOeval_opt",
    ),
)

#: Folders of the source that are packages elsewhere.
_PROJECTS = {
    "projects/PointRend/point_rend/": "detectron2/projects/point_rend/",
    "projects/DeepLab/deeplab/": "detectron2/projects/deeplab/",
    "projects/Panoptic-DeepLab/panoptic_deeplab/": "detectron2/projects/panoptic_deeplab/",
}

STAND_IN = '''\
"""In place of detectron2's compiled operators, which this installation does not have."""

from torch.library import Library

_NAMES = (
    "box_iou_rotated", "nms_rotated", "roi_align_rotated_forward", "roi_align_rotated_backward",
    "deform_conv_forward", "deform_conv_backward_input", "deform_conv_backward_filter",
    "modulated_deform_conv_forward", "modulated_deform_conv_backward",
    "InstanceAnnotation", "COCOevalEvaluateImages", "COCOevalAccumulate",
)


def _missing(name):
    def operator(*args, **kwargs):
        raise NotImplementedError(
            f"this detectron2 has no compiled operators, and {name} (rotated boxes, deformable "
            "convolution) is one; install detectron2 from its own repository to use it"
        )

    return operator


globals().update({name: _missing(name) for name in _NAMES})
_library = Library("detectron2", "DEF")
_library.define("nms_rotated(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
_library.impl("nms_rotated", _missing("nms_rotated"), "CompositeExplicitAutograd")


def get_compiler_version():
    return "none (no compiled operators)"


def get_cuda_version():
    return "none (no compiled operators)"


def has_cuda():
    return False
'''


def installed() -> str | None:
    """Where detectron2 is already, if anywhere."""
    spec = importlib.util.find_spec("detectron2")
    return None if spec is None else str(Path(spec.origin or "").parent)


def mended(text: str) -> str:
    """A module's text with today's names.

    Example:
        >>> mended("np.zeros(3, dtype=np.int), np.int64, Image.LINEAR")
        'np.zeros(3, dtype=int), np.int64, Image.BILINEAR'
    """
    for pattern, replacement in MENDED:
        text = pattern.sub(replacement, text)
    return text


def files_of(source: Path) -> Iterator[tuple[str, bytes]]:
    """The files to install, by their path below site-packages."""
    with tarfile.open(source) as archive:
        for member in archive:
            path = str(PurePosixPath(*PurePosixPath(member.name).parts[1:]))
            for folder, package in _PROJECTS.items():
                path = path.replace(folder, package, 1) if path.startswith(folder) else path
            if not path.startswith("detectron2/") or ".." in PurePosixPath(path).parts:
                continue
            file = archive.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            content = file.read()
            if path.endswith(".py"):
                content = mended(content.decode()).encode()
            yield path, content
    yield "detectron2/_C.py", STAND_IN.encode()


def build_wheel(source: Path, folder: Path) -> Path:
    """A wheel of the source's Python part, so that pip can install it and remove it again."""
    info = "detectron2-0.6.dist-info"
    files = dict(files_of(source))
    if "detectron2/__init__.py" not in files:
        raise ValueError(f"{source} is not a source package of detectron2")
    files[f"{info}/METADATA"] = (
        b"Metadata-Version: 2.1\nName: detectron2\nVersion: 0.6\n"
        b"Summary: detectron2 without its compiled operators\nLicense: Apache-2.0\n"
    )
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = [f"{path},{_digest(content)},{len(content)}" for path, content in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    wheel = folder / "detectron2-0.6-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return wheel


def download(folder: Path) -> Path:
    """The source package, by pip, which refuses files of another hash than those in SHA256."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--require-hashes", "--dest", str(folder)]
    subprocess.run([*pip, "download", *options, *_pinned(PIP, folder)], check=True)
    older = next(folder.glob("pip-*.whl"))
    subprocess.run(
        [sys.executable, str(older / "pip"), *pip[3:], "download", "--no-build-isolation",
         *options, *_pinned(SOURCE, folder)], check=True,
    )  # fmt: skip
    return next(folder.glob("*detectron2*.tar.gz"))


def _pinned(requirement: str, folder: Path) -> list[str]:
    """pip's arguments for a requirement and the only hash that it may have."""
    name = requirement.partition("=")[0]
    file = folder / f"{name}.requirements"
    file.write_text(f"{requirement} --hash=sha256:{SHA256[requirement]}\n")
    return ["--requirement", str(file)]


def _digest(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
    return "sha256=" + digest.rstrip(b"=").decode()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--source", type=Path, metavar="FILE", help="a source package instead of a download"
    )
    args = parser.parse_args(arguments)
    found = installed()
    if found is not None:
        print(f"detectron2 is there already, in {found}; it is left as it is")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            wheel = build_wheel(args.source or download(folder), folder)
            pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)
        except (OSError, ValueError, tarfile.TarError, subprocess.CalledProcessError) as error:
            sys.exit(f"error: detectron2 could not be installed: {error}")
    print("installed detectron2 0.6 (its Python part, without compiled operators)")


if __name__ == "__main__":
    main()
