# Every target sets up what it needs: a machine with python3 (>= 3.11), pip and make is enough.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The environment is rebuilt when what determines it changes.
DIGEST := $(shell cat pyproject.toml requirements/lock.txt Makefile | $(PYTHON) -c 'import hashlib,sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])')
READY := $(VENV)/.ready-$(DIGEST)

# Bytecode makes every start several times faster; some shells switch it off.
unexport PYTHONDONTWRITEBYTECODE
export UV_COMPILE_BYTECODE := 1
# A local folder of wheels, where pip is set up with one, may hold a CPU build of torch; otherwise uv picks the build
# that fits the machine, so that a laptop does not download CUDA.
WHEELS := $(wildcard $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null)))
ifneq ($(WHEELS),)
export UV_FIND_LINKS := $(WHEELS)
else
export UV_TORCH_BACKEND ?= auto
endif
export DO_NOT_TRACK := 1
export HF_HUB_OFFLINE ?= 1

INSTALL = $(BIN)/uv pip install -q --python $(BIN)/python -c requirements/lock.txt -e '.[dev]'

.PHONY: help setup demo test lint format lock pocket pocket-figures clean
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## make the environment in .venv
$(READY):
	rm -f $(VENV)/.ready-*
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check uv==0.13.9
	$(INSTALL) || { test -n "$$UV_TORCH_BACKEND" && \
	  echo "no build of torch for this machine can be reached: taking the registry's" && \
	  env -u UV_TORCH_BACKEND $(INSTALL); }
	touch $@

demo: $(READY)  ## the whole job on the pocket model: answer, critique, revise, judge, ask
	recipes/demo.sh

test: $(READY)  ## the tests
	$(BIN)/python -m pytest

lint: $(READY)  ## linter, formatter, type checker, principles
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/constitution principles check

format: $(READY)  ## put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(READY)  ## resolve requirements/lock.txt anew
	$(BIN)/uv pip compile -q --universal --python-version 3.11 pyproject.toml --extra dev \
	  -c requirements/pins.txt --no-header --no-annotate -o requirements/lock.txt

pocket: $(READY)  ## train the pocket model anew (about half an hour on two cores)
	$(BIN)/python -m constitution.pocket.train

pocket-figures: $(READY)  ## measure the pocket model on 600 held-out prompts, for the README
	rm -rf build/pocket
	$(BIN)/constitution run recipes/pocket.toml --limit 600 --warehouse build/pocket
	$(BIN)/python -m constitution.pocket.measure --warehouse build/pocket --format json > constitution/pocket/model/measured.json
	$(BIN)/python -m constitution.pocket.measure --warehouse build/pocket --format markdown

clean:  ## remove the environment and the demo's warehouse
	rm -rf $(VENV) warehouse
