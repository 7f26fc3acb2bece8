# Two commands do everything: `make demo` and `make test`. Each sets up what it needs first.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
# Threads that spin for long cost several times the work where cores are shared; threads that sleep at once are slow to wake.
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 20000
export PYTHONDONTWRITEBYTECODE :=

help:  ## this list
	@awk -F ':.*##' '/^[a-z-]+:.*##/ {printf "  make %-11s%s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: help setup demo paper paper-tiny test check check-speed slow first-light gpu-table format notebooks train-tiny train-second train-crowd train-pan clean

setup: $(VENV)/.installed  ## the environment in .venv (about two minutes the first time)

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; say which with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)" "$$(grep '^setuptools==' requirements.lock)"
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup  ## cache policies side by side on the embedded world, 60 s videos, report in reports/demo.html
	$(PY) -m experiments.demo

paper: setup  ## the paper's tables and figures that the runs on disk allow, in reports/paper/ (ARGS='model=wan2.1-1.3b device=cuda')
	$(PY) -m experiments.paper $(ARGS)

paper-tiny: setup  ## all of them on the embedded world, 2 prompts each, made and drawn in reports/paper/
	$(PY) -m experiments.paper make=true first=2 $(ARGS)

test: setup  ## the fast tests
	$(PY) -m pytest -n 2

check: setup  ## what CI runs: format, lint, types, tests
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m pytest -n 2

check-speed: setup  ## this commit beside its parent, chunk by chunk in turn: the ratio of processor times
	$(PY) -m benchmarks.check_speed
	$(PY) -m benchmarks.check_speed cache=deep_forcing

slow: setup  ## the slow tests
	$(PY) -m pytest -m slow

first-light: setup  ## the first real rollout on this machine, checked for what must hold of it (ARGS='generator=longlive device=cuda')
	$(PY) -m experiments.first_light $(ARGS)

gpu-table:  ## speeds on this machine's GPU, as a table in reports/gpu_table/ (8 minutes at most; needs torch alone)
	@PY=$$(test -x $(PY) && echo $(PY) || echo $(PYTHON)); $$PY -m experiments.bench gpu-table

format: setup  ## what ruff can put right
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

notebooks: setup  ## run the notebooks and write them with their pictures as notebooks/*.ipynb
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r notebooks/requirements.txt
	$(PY) notebooks/render.py

train-tiny: setup  ## train the embedded world's model again (about an hour on two cores) into runs/train/
	mkdir -p runs/train
	$(PY) -m deepforcing.tiny.train --out runs/train/short.safetensors --seed 0 --frames 9 --steps 1500 --batch 16 --lr 2.5e-3 --final-lr 0.4 --flat 0.5
	$(PY) -m deepforcing.tiny.train --out runs/train/tiny.safetensors --init runs/train/short.safetensors --seed 1 --steps 1300 --batch 8 --lr 2e-3 --flat 0.3

train-second: setup  ## train tiny_second, the embedded world's model from other seeds, on one core, into runs/train/
	mkdir -p runs/train
	$(PY) -m deepforcing.tiny.train --threads 1 --out runs/train/second_first.safetensors --seed 6 --frames 3 --steps 2000 --batch 32 --lr 2.5e-3 --final-lr 0.4 --flat 0.7
	$(PY) -m deepforcing.tiny.train --threads 1 --out runs/train/second_short.safetensors --init runs/train/second_first.safetensors --seed 7 --frames 9 --steps 1000 --batch 16 --lr 2.5e-3 --final-lr 0.4 --flat 0.3
	$(PY) -m deepforcing.tiny.train --threads 1 --out runs/train/tiny_second.safetensors --init runs/train/second_short.safetensors --seed 8 --steps 1300 --batch 8 --lr 2e-3 --flat 0.3

train-crowd: setup  ## train the model of world tiny_crowd, on one core, into runs/train/; the same again goes on where it was stopped
	mkdir -p runs/train
	$(PY) -m deepforcing.tiny.train --world tiny_crowd --threads 1 --out runs/train/crowd_short.safetensors --seed 0 --frames 9 --steps 1500 --batch 8 --lr 2.5e-3 --final-lr 0.4 --flat 0.5
	$(PY) -m deepforcing.tiny.train --world tiny_crowd --threads 1 --out runs/train/tiny_crowd.safetensors --init runs/train/crowd_short.safetensors --seed 1 --steps 1300 --batch 4 --lr 2e-3 --flat 0.3

train-pan: setup  ## train the model of world tiny_pan, likewise
	mkdir -p runs/train
	$(PY) -m deepforcing.tiny.train --world tiny_pan --threads 1 --out runs/train/pan_short.safetensors --seed 0 --frames 9 --steps 1200 --batch 8 --lr 2.5e-3 --final-lr 0.4 --flat 0.5
	$(PY) -m deepforcing.tiny.train --world tiny_pan --threads 1 --out runs/train/tiny_pan.safetensors --init runs/train/pan_short.safetensors --seed 1 --steps 500 --batch 4 --lr 2e-3 --flat 0.2

clean:  ## remove the environment and caches; runs/ and reports/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
