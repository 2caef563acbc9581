# Everything runs in one virtual environment: .venv here, or the directory STREAM_ENSEMBLE_VENV names.
# It is made anew when the dependencies in pyproject.toml change, and at no other time.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := $(abspath $(or $(STREAM_ENSEMBLE_VENV),.venv))
BIN := $(VENV)/bin
PYTHON := $(shell for python in python3.11 python3 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
DEPENDENCIES := import hashlib, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	keys = "requires-python", "dependencies", "optional-dependencies", "scripts"; \
	print(hashlib.sha256(repr([project[key] for key in keys]).encode()).hexdigest()[:16])
ifneq ($(PYTHON),)
STAMP := $(VENV)/.installed-$(shell $(PYTHON) -c '$(DEPENDENCIES)')
else
STAMP := no-python
endif

# The sources of this clone come first, so that clones may share an environment.
export PYTHONPATH := $(CURDIR)
export PATH := $(BIN):$(PATH)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(STAMP) ## the environment with everything installed (STREAM_ENSEMBLE_VENV=DIR puts it elsewhere)

$(VENV)/.installed-%:
	@echo "installing into $(VENV) (the first time on a machine downloads some GB; later ones take seconds)"
	@.ci/install $(PYTHON) $(VENV)
	@touch $@

.PHONY: no-python
no-python:
	@echo "Python 3.11 is needed, as python3.11 or python3; it was not found" >&2; exit 1

# The compiled kernels of this clone, made anew when they change. Without a C compiler all works as well, slower.
KERNELS := stream_ensemble/compiled/.built-$(shell cat stream_ensemble/compiled/*.pyx | cksum | cut -d ' ' -f 1)
READY := $(STAMP) $(KERNELS)

$(KERNELS): $(STAMP)
	@python setup.py --quiet build_ext --inplace
	@rm -f stream_ensemble/compiled/.built-*; touch $@

# A machine that cannot get Kafka's jars can still use a Kafka elsewhere, so this may fail.
SERVERS := $(STAMP:$(VENV)/.installed-%=$(VENV)/.servers-%)
$(VENV)/.servers-%: $(VENV)/.installed-%
	@python -m stream_ensemble.embedded && touch $@ || true

.PHONY: format
format: $(READY) ## lay out the code and repair what ruff can
	ruff format .
	ruff check --fix .

.PHONY: check
check: $(READY) ## layout, lint, types and the direction of imports
	ruff format --check .
	ruff check .
	mypy
	lint-imports

.PHONY: test
test: check $(SERVERS) ## check, then every test, on a real Kafka and Redis (KAFKA_BOOTSTRAP, REDIS_URL: on yours)
	@.ci/test

.PHONY: test-again
test-again: $(READY) $(SERVERS) ## only what failed in the last run
	@.ci/test again

.PHONY: test-fast
test-fast: $(READY) ## the tests that need no server
	pytest -m 'not real' tests/unit tests/property tests/contract tests/simulation

.PHONY: test-integration
test-integration: $(READY) $(SERVERS) ## the tests on real servers only
	pytest -m real

# SEEDS=N schedules on JOBS cores from seed FIRST on, or one of them again: SEED=n (WHOLE=1: unshrunk).
SEEDS ?= 1000

.PHONY: simulate
simulate: $(READY) ## SEEDS=N random schedules of both workers on a simulated Kafka and Redis; SEED=n replays one
	@python -m tests.simulation $(if $(SEED),--seed $(SEED) $(if $(WHOLE),--whole),--seeds $(SEEDS) $(if $(FIRST),--first $(FIRST)) $(if $(JOBS),--jobs $(JOBS)))

# From seed SEED on, or from a new one each time.
MINUTES ?= 10

.PHONY: fuzz
fuzz: $(READY) ## MINUTES=N of nearly right bytes for every decoder, and of arguments for the scripts in a real Redis
	@python -m tests.fuzz --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

# A third of the runs has three brokers unless MODE says; SPACED=all or SPACED=kill-fuser,stop-broker: faults one by one.
MODE ?=
SPACED ?=
# Answers are in transactions in every fourth seed unless DELIVERY says: fenced or transactions.
DELIVERY ?=

.PHONY: chaos
chaos: $(STAMP) $(SERVERS) ## SEEDS=N runs of real workers, Kafka and Redis under faults; SEED=n, MODE=one|three brokers, DELIVERY=fenced|transactions
	@python -m tests.chaos $(if $(SEED),--seed $(SEED),--seeds $(if $(filter-out file,$(origin SEEDS)),$(SEEDS),3) $(if $(FIRST),--first $(FIRST))) $(if $(MODE),--mode $(MODE)) $(if $(DELIVERY),--delivery $(DELIVERY)) $(if $(SPACED),--spaced $(SPACED))

.PHONY: bench
bench: $(READY) $(SERVERS) ## measure (BENCH_ARGS="throughput | columnar | latency | workers | open | start | segments | labels | label_latency | credit | all ...")
	python -m benchmarks $(BENCH_ARGS)

# Class probabilities and labels, as `stream-ensemble backtest` reads them.
STREAM ?=

.PHONY: replay
replay: $(READY) $(SERVERS) ## STREAM=FILE.npz through the whole system under faults, beside its backtest (RATE=N requests a second)
	@[ -n "$(STREAM)" ] || { echo "name a recorded stream: make replay STREAM=FILE.npz" >&2; exit 2; }
	@python -m tests.replay '$(STREAM)' $(if $(RATE),--rate $(RATE))

# Where the recorded streams are: letter.npz, weather.npz, bike.npz.
STREAMS ?=

.PHONY: bench-learning
bench-learning: $(READY) ## losses of the learned weights beside their bars (STREAMS=DIR)
	@[ -n "$(STREAMS)" ] || { echo "name the folder of the recorded streams: make bench-learning STREAMS=DIR" >&2; exit 2; }
	python -m benchmarks.learning --streams $(STREAMS)

.PHONY: demo
demo: $(READY) $(SERVERS) ## the whole job on five real models, 90 s at most (DEMO_ARGS="--out DIR --seed N")
	@stream-ensemble demo $(DEMO_ARGS)

.PHONY: clean
clean: ## remove what the commands above made here, the environment included
	rm -rf .venv build dist *.egg-info stream_ensemble/compiled/{*.c,*.so,.built-*} .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
