# Every target sets up what it needs and is quick when there is nothing to do.

PYTHON ?= python3
ARGS ?=
SOAK ?= 50
SOAK_ARGS ?=
CANARIES ?= 50
FUZZ_SECONDS ?= 60
HOLD_ARGS ?=
CLUSTER_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
BENCH := $(VENV)/.bench
INTEROP := tests/interop
NODE_MODULES := $(INTEROP)/node_modules/.installed
SOURCES := $(wildcard broker protocol tests examples bench fuzz tools hatch_build.py)
# flake8-async takes files alone. Left out: ASYNC114 wants each function with a task_status listed by name;
# ASYNC109: ack timeouts are protocol data; ASYNC122: trio has mended it in 0.27, older ones are not admitted;
# ASYNC910 to 913: public functions are checkpoints, inner ones on the way of every event must not pay for one.
ASYNC_LEFT_OUT := ASYNC109,ASYNC114,ASYNC122,ASYNC910,ASYNC911,ASYNC912,ASYNC913
# In tests and benchmarks also: 102, 103, 111, 112, 123 and 128 keep cancellation whole in programs that live on,
# a test ends with its loop; 124: handlers and tests are coroutines whether they wait or not; 401 is about style.
TEST_ASYNC_LEFT_OUT := $(ASYNC_LEFT_OUT),ASYNC102,ASYNC103,ASYNC111,ASYNC112,ASYNC123,ASYNC124,ASYNC128,ASYNC401
MODULES = $(shell find $(SOURCES) -name node_modules -prune -o -name '*.py' -print)
JUNIT := build/junit.xml

# The least share of branches that the tests must reach, in percent.
COVERAGE ?= 95
PROTOCOL_COVERAGE ?= 100

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test check lint coverage interop-soak soak-virtual websocket-cases hostile fuzz conformance \
    conformance-peers conformance-clients conformance-mutants bench hold cluster fix wheel clean distclean setup system bundle
.DELETE_ON_ERROR:

help:
	@echo 'make demo    run the chat demo on http://127.0.0.1:3000 (ARGS="--port 4000" for another port)'
	@echo 'make test    run every test (ARGS="-k name" for some)'
	@echo 'make check   all that a change must pass: format, lint, types, layers, tests, coverage'
	@echo 'make interop-soak  send ten thousand events through the upgrade, $(SOAK) times (SOAK=200 for more)'
	@echo 'make soak-virtual  run a hundred clients for a day of virtual time, twice (SOAK_ARGS="--hours 1" for less)'
	@echo 'make websocket-cases  run every WebSocket case in its long form, and print verdicts and times'
	@echo 'make hostile every hostile input while $(CANARIES) clients talk (CANARIES=100 for more)'
	@echo 'make fuzz    feed each parser odd input, $(FUZZ_SECONDS) s each (FUZZ_SECONDS=3600 for longer)'
	@echo 'make conformance  judge this broker with the conformance kit, served in four ways'
	@echo 'make conformance-peers, -clients, -mutants  judge other servers; clients; the kit itself'
	@echo 'make bench   measure and print the comparison table'
	@echo 'make hold    measure that it holds, and write the table of docs/reliability.md: 50 minutes'
	@echo '             (HOLD_ARGS="--figures idle --minutes-idle 1" for some of it)'
	@echo 'make cluster measure several nodes over Redis, beside Node, and write the table of docs/scaling.md: 8 minutes'
	@echo '             (CLUSTER_ARGS="--figures killed --short" for some of it)'
	@echo 'make fix     format the code and mend what the linter can mend'
	@echo 'make wheel   build the wheel into dist/'
	@echo 'make clean   remove what was built; make distclean also the environments'

demo: $(RUNTIME) bundle
	@$(BIN)/python -m broker demo $(ARGS)

test: setup
	@$(BIN)/python -m pytest $(ARGS)

check: lint coverage

lint: $(DEV)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	@$(BIN)/flake8-async --disable=$(ASYNC_LEFT_OUT) $(filter-out tests/% bench/% examples/conformance/%,$(MODULES))
	@$(BIN)/flake8-async --disable=$(TEST_ASYNC_LEFT_OUT) $(filter tests/% bench/% examples/conformance/%,$(MODULES))
	$(BIN)/mypy
	$(BIN)/lint-imports

# The reports come after pytest's own closing line, so the last line repeats its counts.
coverage: setup
	@rm -f $(JUNIT) .coverage .coverage.*
	$(BIN)/python -m coverage run -m pytest --junit-xml=$(JUNIT) $(ARGS)
	@$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered --show-missing --fail-under=$(COVERAGE)
	$(BIN)/python -m coverage report --include='protocol/*' --show-missing --fail-under=$(PROTOCOL_COVERAGE)
	@$(BIN)/python tools/closing_line.py $(JUNIT)

interop-soak: setup
	@BROKER_SOAK=$(SOAK) $(BIN)/python -m pytest tests/interop/test_javascript.py -k ten_thousand $(ARGS)

soak-virtual: $(DEV)
	@$(BIN)/python -m tests.testing.soak --twice $(SOAK_ARGS)

websocket-cases: setup
	@BROKER_WEBSOCKET_CASES=full $(BIN)/python -m pytest tests/websocket -q $(ARGS)

hostile: setup
	@BROKER_CANARIES=$(CANARIES) $(BIN)/python -m pytest tests/hostile $(ARGS)

# atheris has wheels for some versions of Python only; without it good input is mutilated at random.
fuzz: $(DEV)
	-@$(PIP) --only-binary :all: atheris 2>/dev/null
	@$(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS) $(ARGS)

# Reports as JSON, JUnit XML and pages go to build/conformance/.
conformance: setup
	@$(BIN)/python -m tests.conformance.run ours $(ARGS)

conformance-peers: setup
	@$(BIN)/python -m tests.conformance.run peers $(ARGS)

conformance-clients: setup
	@$(BIN)/python -m tests.conformance.run clients $(ARGS)

conformance-mutants: setup
	@$(BIN)/python -m tests.conformance.run mutants $(ARGS)

bench: $(BENCH)
	@$(BIN)/python -m bench.run $(ARGS)
	@$(BIN)/python -m bench.client_throughput

hold: $(BENCH) setup
	-@$(PIP) --only-binary :all: atheris 2>/dev/null
	@$(BIN)/python -m bench.hold --write-docs $(HOLD_ARGS)

cluster: setup
	@$(BIN)/python -m bench.cluster --write-docs $(CLUSTER_ARGS)

fix: $(DEV)
	-$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

wheel: $(DEV) bundle
	$(BIN)/python -m build --wheel

clean:
	rm -rf build dist htmlcov artifacts .coverage .coverage.* .hypothesis .mypy_cache .ruff_cache .pytest_cache \
	    .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(INTEROP)/node_modules

# -- what the targets need ------------------------------------------------------

setup: $(DEV) $(NODE_MODULES) system bundle

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("$(PYTHON) is Python " + \
	    sys.version.split()[0] + "; 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@echo 'setting up $(VENV)'
	@sh tools/system_packages.sh --venv $(PYTHON)
	@$(PYTHON) -m venv --clear $(VENV)

$(RUNTIME): pyproject.toml | $(BIN)/python
	@$(PIP) --editable .
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	@$(PIP) --editable '.[dev]'
	@touch $@ $(RUNTIME)

$(BENCH): pyproject.toml $(DEV)
	@$(PIP) --editable '.[dev,bench]'
	@touch $@

# Tests that need these packages skip themselves when they are not there.
$(NODE_MODULES): $(INTEROP)/package.json $(INTEROP)/package-lock.json
	@if command -v npm >/dev/null; then \
	    npm ci --prefix $(INTEROP) --no-audit --no-fund --silent && touch $@ \
	        || { echo 'npm ci failed: the tests and benchmarks that need Node.js are skipped'; rm -f $@; }; \
	else \
	    echo 'npm is not installed: the tests and benchmarks that need Node.js are skipped'; \
	fi

system:
	@sh tools/system_packages.sh chromium redis-server nginx

# Exit code 3: the bundle cannot be had here, which the tool has said; the tests of it skip themselves.
bundle: $(RUNTIME)
	@if [ -f tools/fetch_client.py ]; then $(BIN)/python tools/fetch_client.py || [ $$? -eq 3 ]; fi
