# The commands of this project. `make demo` and `make test` need nothing typed before them.

SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
# The first interpreter in the supported range; `make env PYTHON=...` names another.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)
PIP := $(PY) -m pip --disable-pip-version-check --quiet install
TORCH := torch==2.11.0 torchvision==0.26.0
# OpenMMLab's own last releases, as their installation page leads to them, beside it.
CLASSIC := .venv-classic
CLASSIC_PY := $(CLASSIC)/bin/python
CLASSIC_PIP := $(CLASSIC_PY) -m pip --disable-pip-version-check --quiet install
CLASSIC_TORCH := torch==2.1.2 torchvision==0.16.2
CLASSIC_PYTHON ?= $(shell for p in python3.11 python3.10 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 12))' 2>/dev/null \
	&& echo $$p && break; done)

.PHONY: help env demo compare alternating turns short-runs results simulate tune test lint docs zoo bench kills fuzz clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

env: $(VENV)/ready  ## make the environment in .venv, once (minutes; mmcv may have to compile)

$(VENV)/ready: setup.py tools/install_detectron2.py
	@test -n "$(PYTHON)" || { echo "error: no Python 3.10 to 3.12 found; make env PYTHON=..."; exit 2; }
	@echo "making the environment in $(VENV) (once; needs about 8 GB of disk)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip 'setuptools<82' wheel ninja psutil packaging
	$(PIP) $(TORCH)
	$(PIP) --no-build-isolation $(TORCH) onedl-mmcv==2.3.6
	$(PIP) --no-build-isolation $(TORCH) -e '.[mmdet,detectron2,demo,tune,eval,docs,test]'
	$(PY) tools/install_detectron2.py
	@touch $@

.PHONY: env-classic
env-classic: $(CLASSIC)/ready  ## mmdet 3.3.0 on torch 2.1 in .venv-classic, once (minutes)

$(CLASSIC)/ready: setup.py tools/install_detectron2.py
	@test -n "$(CLASSIC_PYTHON)" || \
		{ echo "error: no Python 3.10 or 3.11 found; make env-classic CLASSIC_PYTHON=..."; exit 2; }
	@echo "making the classic environment in $(CLASSIC) (once; needs about 6 GB of disk)"
	$(CLASSIC_PYTHON) -m venv $(CLASSIC)
	$(CLASSIC_PIP) --upgrade pip 'setuptools<70' wheel ninja psutil packaging
	$(CLASSIC_PIP) $(CLASSIC_TORCH) 'numpy<2'
	MMCV_WITH_OPS=1 $(CLASSIC_PIP) --no-build-isolation $(CLASSIC_TORCH) 'numpy<2' mmcv==2.1.0
	$(CLASSIC_PIP) --no-build-isolation $(CLASSIC_TORCH) \
		-e '.[mmdet-classic,detectron2,solvers-classic,demo,test-classic]'
	$(CLASSIC_PIP) --no-deps 'torchjd==0.18.*'  # it declares torch >= 2.3 and computes on 2.1
	$(CLASSIC_PY) tools/install_detectron2.py
	@touch $@

demo: env  ## train a small detector with the sum and with a learned weighting, and compare
	$(PY) tools/demo.py

test: env lint  ## the whole test suite
	OMP_WAIT_POLICY=PASSIVE $(PY) -m pytest -n 2 --dist loadgroup

# What runs there is listed in tests/classic.txt. Not there: nms of mixed types, which torchvision 0.16
# has not, stock or not; and tensors on a device that is not there, for which torch 2.1 asks a driver.
.PHONY: test-classic
test-classic: env env-classic  ## what touches MMDetection and torch, in .venv-classic
	PYTHONPATH=tests $(PY) -m helpers.across_versions write work_dirs/classic/gradients.json
	PYTHONPATH=tests $(CLASSIC_PY) -m helpers.across_versions compare work_dirs/classic/gradients.json
	OMP_WAIT_POLICY=PASSIVE $(CLASSIC_PY) -m pytest -n 2 --dist loadgroup @tests/classic.txt

.PHONY: test-gpu
test-gpu: env  ## what needs a GPU, which the other tests do not look at
	LOSSWEAVE_GPU_TESTS=1 $(PY) -m pytest -m gpu

lint: env  ## ruff and the type checker
	$(PY) -m ruff check .
	$(PY) -m mypy

docs: env  ## the tables of combiners, and the site in site/, which is read without a network
	$(PY) docs/make.py
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo "open site/index.html"

compare: env  ## combiners beside a tuned sum, a learning rate for each, with intervals (1 to 2 hours)
	$(PY) tools/make_demo_data.py
	$(PY) tools/compare.py --jobs 2 --rates 1e-3 5e-4 1.4e-3 2e-3 --methods "Sum weights=[2,1]" \
		"MGDA boundary=features" "CAGrad boundary=features" "PCGrad boundary=features" \
		"GradNorm boundary=features" UncertaintyWeighting Sum

alternating: env  ## Faster R-CNN in four steps against joint training, 3 seeds (about 1 hour)
	$(PY) tools/make_demo_data.py
	$(PY) tools/alternating_vs_joint.py lossweave::mmdet/alternating/faster-rcnn_demo.py --seeds 3

turns: env  ## terms taking turns beside the half-weighted sum and single tasks (about 1 hour)
	$(PY) tools/make_demo_data.py
	$(PY) tools/turns.py --jobs 2 --also AutoLoss

short-runs: env  ## every combiner of gradients for 100 iterations on three detectors (20 minutes)
	$(PY) tools/short_runs.py

tune: env  ## weights and a learning rate for the demo's small RetinaNet, confirmed (30 minutes)
	$(PY) tools/make_demo_data.py --root data/lossweave_screen --size 96
	$(PY) tools/tune.py lossweave::mmdet/demo/retinanet_screen.py --budget 8

simulate: env  ## two losses that share parameters, every combiner on them; pictures and a page
	$(PY) tools/simulate.py

results: env  ## every report and plot of docs/results, made from its ledger
	$(PY) tools/results.py

zoo: env  ## every config of MMDetection's zoo with combiners, beside the stock step (hours; resumable)
	$(PY) tools/zoo.py --work-dir docs/results/zoo

fuzz: env  ## 800 mutations of configs and command lines: each trains, or ends in one line (10 minutes)
	cd tests && ../$(PY) -m helpers.fuzz.run --count 800

bench: env  ## the cost of every combiner beside the stock training step
	$(PY) tools/benchmark.py
	$(PY) tools/benchmark.py --many-terms

kills: env  ## trainings killed in every named moment and gone on with, both frameworks (10 minutes)
	PYTHONPATH=tests $(PY) -m helpers.kills

clean:  ## remove what the commands made, except the environment
	rm -rf work_dirs data build dist site .pytest_cache .mypy_cache .ruff_cache
