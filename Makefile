# The front door. Every target makes .venv from the lock files on first use.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   ?= fixtures/i386-minix-pae-smp2
PYTEST ?= -n auto --dist worksteal
FUZZ_SECONDS ?= 60
FUZZ_SEED    ?= 1
KERNELS      ?=
KERNEL_SECONDS ?= 290

.PHONY: demo test lint bench fuzz random readme docs test-kernel test-kernel-small lock clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.runtime  ## the main job on a real capture
	$(BIN)/hmtrace report $(DEMO)
	$(BIN)/hmtrace validate $(DEMO)

test: $(VENV)/.dev  ## the whole test suite and the doctests, on all cores; PYTEST="..." for a part
	$(BIN)/python -m pytest $(PYTEST)

lint: $(VENV)/.dev  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev  ## speed as ratios, beside the peers that are installed
	$(BIN)/python -m tests.benchmarks

fuzz: $(VENV)/.dev  ## damaged and invented inputs for every reader; keeps findings in .fuzz/
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED)

random: $(VENV)/.dev  ## the property tests with new examples each time
	$(BIN)/python -m pytest --hypothesis-profile=random $$(grep -rl @given tests)

readme: $(VENV)/.dev  ## run the commands of README and docs/, write down what they print
	$(BIN)/python -m tests.readme

docs: $(VENV)/.dev  ## the pages of docs/ and the reference as a site, in build/docs/html
	$(BIN)/python -m tests.site

test-kernel: $(VENV)/.dev  ## Debian's kernels under qemu with the recorder; KERNELS="--only arm"
	$(BIN)/python -m tests.kernel $(KERNELS)

test-kernel-small: $(VENV)/.dev  ## one i386 and one armhf kernel, within five minutes
	$(BIN)/python -m tests.kernel --small --seconds $(KERNEL_SECONDS) $(KERNELS)

lock:  ## renew the lock files from pyproject.toml (needs uv)
	uv pip compile -q --universal --python-version 3.11 --extra build pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --extra build --extra cluster --extra dev --extra docs pyproject.toml -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A pip of the system's that can install elsewhere (22.3) saves the venv one of its own, which takes
# as long as all the rest of it.
PIP = $(if $(shell test -e $(BIN)/pip && echo own),$(BIN)/python -m pip,$(PYTHON) -m pip --python $(BIN)/python)
INSTALL = $(PIP) --disable-pip-version-check install -q

$(VENV)/bin/python:
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)

# pip would compile what it installs on one core, and numba's tests with it.
$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(INSTALL) --no-compile -r requirements.lock
	$(INSTALL) --no-compile --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib collectors hmtrace replay || true
	touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	$(INSTALL) -r requirements-dev.lock
	touch $@
