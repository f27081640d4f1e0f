# Needs Python >= 3.11 and make. Everything is installed into $(VENV), made on first use.
#
#   make run PORT=9000                               serve on another port
#   make test PYTHON=python3.13 VENV=.venv313        test on another Python
#   REQUIRE=browser make test                        fail, not skip, without Chromium, node or tsc
#   make test JOBS=0                                 in one process, as a debugger needs it
#   make plain ARGS=tests                            all tests with every way to be fast turned off
#   make explore EXAMPLES=100                        a hundred times the examples, all of them new
#   make bench ARGS=--quick                          a look at the speed, rather than a result
#   make soak ARGS="--minutes 60 --seed 1"           an hour of chaos, beginning with this seed
#   make soak ARGS="--engine redis-server"           two servers on a Redis that fails as well
#   make hostile ARGS="--server plain pings headers" what two of the clients cost plain uvicorn
#   make fuzz ARGS="websocket --minutes 60"          an hour of one target; `make fuzz ARGS=--help`
#   make mutants ARGS="--sample 100 --seed 1"        a hundred mutants, always the same ones
#   make mutants ARGS=asgi_notify/layers/hub.py:83   those of one line; a file or folder will do

PYTHON ?= python3
VENV ?= .venv
BENCH ?= .venv-bench
HOST ?= 127.0.0.1
PORT ?= 8000
# Processes that share the tests: more than there are cores, since most of a test is waiting.
JOBS ?= 4

BIN := $(VENV)/bin
SHARED := -n "$(JOBS)" --dist worksteal
# The tests that let hypothesis make up what happens.
EXPLORED = $(shell grep -rl --include='test_*.py' '^from hypothesis' tests)
# Every setting that turns off a way to be fast, and the tests that meet one of these ways.
PLAIN := $(foreach way,STEPPING GATHERING SYNC_LANE DIRECT GC_TUNING,ASGI_NOTIFY_$(way)=0)
FAST := tests/consumers tests/test_app.py tests/test_sync.py tests/test_uvicorn.py

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test lint types format quick slow plain explore soak hostile fuzz mutants bench screenshot clean

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# The tests start hundreds of processes; without bytecode each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(VENV)/.server ## serve the default application at http://HOST:PORT/
	exec "$(BIN)/python" -m asgi_notify serve --host "$(HOST)" --port "$(PORT)"

test: lint types ## check style and types, then run every test, with coverage
	"$(BIN)/python" -m pytest --cov $(SHARED)

lint: $(VENV)/.dev ## check style and formatting
	"$(BIN)/python" -m ruff check .
	"$(BIN)/python" -m ruff format --check .

types: $(VENV)/.dev ## check types
	"$(BIN)/python" -m mypy

format: $(VENV)/.dev ## put imports and layout in order
	"$(BIN)/python" -m ruff check --select I --fix .
	"$(BIN)/python" -m ruff format .

quick: $(VENV)/.dev ## run the tests that take no seconds each, and no browser
	EXAMPLES="$(or $(EXAMPLES),0.3)" "$(BIN)/python" -m pytest -q -m "not slow and not browser" $(SHARED)

slow: $(VENV)/.dev ## run only the tests that take seconds
	"$(BIN)/python" -m pytest -m slow $(SHARED)

plain: $(VENV)/.dev ## run what depends on the ways to be fast with all of them turned off
	$(PLAIN) EXAMPLES="$(or $(EXAMPLES),0.3)" "$(BIN)/python" -m pytest -q -m "not slow and not browser" $(SHARED) $(or $(ARGS),$(FAST))

explore: $(VENV)/.dev ## run the property tests for an hour, with many times the examples and new ones
	EXAMPLES="$(or $(EXAMPLES),20)" "$(BIN)/python" -m pytest --timeout 7200 $(SHARED) $(EXPLORED)

soak: $(VENV)/.dev ## cut connections and kill servers for minutes, and see that nothing is lost
	"$(BIN)/python" -m tests.chaos $(ARGS)

hostile: $(VENV)/.dev ## let hostile clients loose on a server for minutes, and see what each costs it
	"$(BIN)/python" -m tests.hostile $(ARGS)

fuzz: $(VENV)/.fuzz ## feed whatever clients send with inputs that reach new code, for ten minutes
	"$(BIN)/python" -m tests.fuzz $(ARGS)

mutants: $(VENV)/.dev ## change one small thing in the code at a time, for hours, and see that a test fails
	"$(BIN)/python" -m tests.mutants $(ARGS)

bench: $(BENCH)/.bench ## measure the speed beside that of peers, in some twenty minutes
	"$(BENCH)/bin/python" -m benchmarks $(ARGS)

screenshot: $(VENV)/.dev ## drive the demo page in a browser, and renew the README's picture
	SCREENSHOT=docs/images/demo.png REQUIRE=browser "$(BIN)/python" -m pytest -m browser -k picture

clean: ## remove the environment and everything that was generated
	rm -rf "$(VENV)" "$(BENCH)" build dist htmlcov .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is as new as the pyproject.toml it was installed from.
$(VENV)/.server: pyproject.toml $(VENV)/pyvenv.cfg
	@echo "Installing asgi_notify and its server into $(VENV) ..."
	@"$(BIN)/python" -m pip install --quiet --editable '.[server]'
	@touch "$@"

$(VENV)/.dev: pyproject.toml $(VENV)/pyvenv.cfg
	@echo "Installing asgi_notify and all that its tests need into $(VENV) ..."
	@"$(BIN)/python" -m pip install --quiet --editable '.[dev]'
	@touch "$(VENV)/.server" "$@"

$(VENV)/.fuzz: $(VENV)/.dev
	@"$(BIN)/python" -m pip install --quiet --editable '.[fuzz]'
	@touch "$@"

# The peers are kept out of the environment that the tests run in.
$(BENCH)/.bench: pyproject.toml $(BENCH)/pyvenv.cfg
	@echo "Installing asgi_notify and its peers into $(BENCH) ..."
	@"$(BENCH)/bin/python" -m pip install --quiet --editable '.[bench]'
	@touch "$@"

# Remade where its Python is gone; newer than the stamps where its Python was upgraded.
$(VENV)/pyvenv.cfg $(BENCH)/pyvenv.cfg: %/pyvenv.cfg: %/bin/python
	@touch "$@"

$(BIN)/python $(BENCH)/bin/python:
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "No '$(PYTHON)' here. Install Python 3.11 or newer, or name one: make PYTHON=python3.13" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "'$(PYTHON)' is $$("$(PYTHON)" --version 2>&1), and asgi_notify needs Python 3.11 or newer." >&2; \
		echo "Install one, or name one that you have: make PYTHON=python3.13" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@"$(PYTHON)" -m venv "$(@:/bin/python=)"
