# Everything a person needs: `make run` shows the whole path, `make test` proves it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .stamps
SOURCES := $(shell find src -name '*.py')

.PHONY: setup run demo test check test-peers test-turns test-crash test-faults lock clean

setup: $(STAMPS)/package

# Locked dependencies, by hash.
$(STAMPS)/packages: requirements.lock
	@echo "treadle: making the environment in $(VENV) (first time only) ..."
	@mkdir -p $(STAMPS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "treadle: Python 3.11 or newer is needed; say which with PYTHON=..."; exit 1; }
	@echo "treadle: installing locked packages ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

# What the tests and checks need on top.
$(STAMPS)/dev: requirements-dev.lock $(STAMPS)/packages
	@echo "treadle: installing what the tests need ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# The package itself, editable, with its byte code made now rather than at the first start.
$(STAMPS)/package: $(STAMPS)/packages pyproject.toml $(SOURCES)
	@test -x $(BIN)/treadle -a $(STAMPS)/editable -nt pyproject.toml || { \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . \
		&& touch $(STAMPS)/editable; }
	@$(BIN)/python -m compileall -q src
	@touch $@

run: setup
	@$(BIN)/treadle demo --serve

demo: setup
	@$(BIN)/treadle demo

test: setup $(STAMPS)/dev
	@$(BIN)/python -m pytest -n 2

check: setup $(STAMPS)/dev
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/pyright
	$(BIN)/pyright -p tests
	$(BIN)/lint-imports

# Drives third-party clients against our server, and releases of codex by our runner; installs them
# into environments of their own.
test-peers: setup $(STAMPS)/dev $(STAMPS)/peers-npm
	@test -x .peers/bin/python || $(PYTHON) -m venv .peers
	@.peers/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-peers.lock
	@.peers/bin/python -m pytest -q -rs -c tests/peers/pytest.ini tests/peers
	@TREADLE_TEST_PEERS=1 $(BIN)/python -m pytest -n 2 -rs tests/fleet/test_backends.py

# Lives of a thread at random: turns, steers, interrupts, a queue, kills.
EXAMPLES ?= 200
test-turns: setup $(STAMPS)/dev
	@TREADLE_TEST_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest --timeout 0 tests/interaction/test_turn_machine.py

$(STAMPS)/peers-npm: tests/peers/npm/package-lock.json
	@mkdir -p .peers/npm && cp tests/peers/npm/package.json tests/peers/npm/package-lock.json .peers/npm
	@if command -v npm >/dev/null; then npm ci --prefix .peers/npm --ignore-scripts --no-audit --no-fund --silent; \
		else echo "treadle: npm is not here; the tests of its packages are skipped"; fi
	@touch $@

# Kills of the app-server at its write boundaries; what clients heard of must be there afterwards.
# FROM is the first schedule: `make test-crash SCHEDULES=1 FROM=17` repeats the seventeenth.
SCHEDULES ?= 500
FROM ?= 1
test-crash: setup $(STAMPS)/dev
	@PYTHONPATH=tests:src $(BIN)/python -m crash.programme --schedules $(SCHEDULES) --seed $(FROM) --jobs 2

# Faults at length: every fault point, then load with faults by a schedule, which SEED repeats.
SEED ?=
EVENTS ?= 1000000
FAULTS ?= 200
DATABASE ?= postgres
SESSIONS ?= 4
TURNS ?= 20
test-faults: setup $(STAMPS)/dev
	@TREADLE_TEST_FAULTS=all $(BIN)/python -m pytest -n 2 --dist worksteal tests/faults
	@PYTHONPATH=tests:src $(BIN)/python -m faults.programme --events $(EVENTS) --faults $(FAULTS) \
		--database $(DATABASE) --sessions $(SESSIONS) --turns $(TURNS) $(if $(SEED),--seed $(SEED))

# Resolve the lock files anew; needs uv and npm.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-annotate --no-emit-index-url --no-emit-find-links
lock:
	$(LOCK) pyproject.toml --group build -o requirements.lock
	$(LOCK) pyproject.toml --group build --group dev -o requirements-dev.lock
	$(LOCK) tests/peers/requirements.in -o requirements-peers.lock
	cd tests/peers/npm && npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund --silent

clean:
	rm -rf $(VENV) .peers $(STAMPS) data
