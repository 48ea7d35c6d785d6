# The front door. Every target makes .venv from the lock files on first use.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   ?= fixtures/i386-minix-pae-smp2
PYTEST ?= -n auto --dist worksteal
FUZZ_SECONDS ?= 60
FUZZ_SEED    ?= 1
PREFIX       ?= /usr/local
DEPENDENCIES ?= -r requirements.lock
KERNELS      ?=
KERNEL_SECONDS ?= 290

.PHONY: demo test lint bench fuzz bounds random readme docs golden test-kernel test-kernel-small lock \
	dist release install uninstall clean
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

bounds: $(VENV)/.dev  ## the whole test suite, with loops that refuse an index beyond an array
	NUMBA_BOUNDSCHECK=1 $(BIN)/python -m pytest $(PYTEST)

random: $(VENV)/.dev  ## the property tests with new examples each time
	$(BIN)/python -m pytest --hypothesis-profile=random $$(grep -rl @given tests)

readme: $(VENV)/.dev  ## run the commands of README and docs/, write down what they print
	$(BIN)/python -m tests.readme

docs: $(VENV)/.dev  ## the pages of docs/ and the reference as a site, in build/docs/html
	$(BIN)/python -m tests.docsite

golden: $(VENV)/.dev  ## what the commands show, as files: renew them, then read the difference
	HMTRACE_RENEW_GOLDEN=1 $(BIN)/python -m pytest -q $(filter-out -k%,$(PYTEST)) tests/hmtrace/test_golden.py \
		tests/hmtrace/test_golden_commands.py
	git diff --stat tests/hmtrace/golden

test-kernel: $(VENV)/.dev  ## Debian's kernels under qemu with the recorder; KERNELS="--only arm"
	$(BIN)/python -m tests.kernel $(KERNELS)

test-kernel-small: $(VENV)/.dev  ## one i386 and one armhf kernel, within five minutes
	$(BIN)/python -m tests.kernel --small --seconds $(KERNEL_SECONDS) $(KERNELS)

dist: $(VENV)/.runtime  ## wheel and sdist in dist/; the network is not needed
	rm -rf dist
	$(BIN)/python -m hatchling build

release: $(VENV)/.dev  ## dist, if nothing stands in the way of a release
	$(BIN)/python -m tests.release
	$(MAKE) dist

# The program, its libraries and its Python stand in a folder of their own: Debian's Python is not
# pip's to change (PEP 668), and Debian has not all of them. DEPENDENCIES may be given as options
# for pip, "--no-index --find-links wheels -r requirements.lock" where there is no network.
HOUSE  = $(PREFIX)/lib/hmtrace
SHARED = man/man1/hmtrace.1 man/man1/hmtrace-*.1 doc/hmtrace/CHANGELOG.md zsh/site-functions/_hmtrace \
	bash-completion/completions/hmtrace fish/vendor_completions.d/hmtrace.fish
BUILT  = build/install

install: $(VENV)/.runtime  ## into PREFIX, manual pages and completions too; DESTDIR for packagers
	rm -rf $(BUILT)
	$(BIN)/python -m hatchling build -t wheel -d $(BUILT)
	$(PYTHON) -m venv --without-pip --clear "$(DESTDIR)$(HOUSE)"
	$(call PIP_OF,"$(DESTDIR)$(HOUSE)/bin/python") install --no-compile \
		$(if $(DEPENDENCIES),$(DEPENDENCIES) $(BUILT)/*.whl,--no-deps $(BUILT)/*.whl)
	find "$(DESTDIR)$(HOUSE)/bin" -type f -delete
	printf '%s\n' '#!$(HOUSE)/bin/python' 'from hmtrace.__main__ import main' 'main()' \
		>"$(DESTDIR)$(HOUSE)/bin/hmtrace"
	chmod 755 "$(DESTDIR)$(HOUSE)/bin/hmtrace"
	sed -i '/^command/d' "$(DESTDIR)$(HOUSE)/pyvenv.cfg"
	"$(DESTDIR)$(HOUSE)/bin/python" -m compileall -qq -j 0 -x '/tests?/' -s "$(DESTDIR)" "$(DESTDIR)$(HOUSE)/lib" || true
	install -d "$(DESTDIR)$(PREFIX)/bin"
	ln -sf ../lib/hmtrace/bin/hmtrace "$(DESTDIR)$(PREFIX)/bin/hmtrace"
	cd "$(DESTDIR)$(HOUSE)/share" && for file in $(SHARED); do \
		install -D -m 644 $$file "$(abspath $(DESTDIR)$(PREFIX))/share/$$file"; done

uninstall:  ## what install put there
	cd "$(DESTDIR)$(PREFIX)/share" && rm -f $(SHARED)
	rm -f "$(DESTDIR)$(PREFIX)/bin/hmtrace"
	rm -rf "$(DESTDIR)$(HOUSE)"

lock:  ## renew the lock files from pyproject.toml (needs uv)
	uv pip compile -q --universal --python-version 3.11 --extra build pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --extra build --extra cluster --extra dev --extra docs pyproject.toml -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A pip of the system's that can install elsewhere (22.3) saves the venv one of its own, which takes
# as long as all the rest of it.
PIP_OF = $(if $(shell test -e $(BIN)/pip && echo own),$(BIN)/python,$(PYTHON)) -m pip --python $(1) $(QUIET)
QUIET  = --disable-pip-version-check -q
INSTALL = $(call PIP_OF,$(BIN)/python) install

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
