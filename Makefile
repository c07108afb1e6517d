# Two commands for a fresh machine: `make quickstart` and `make test`. Each
# makes its environment, outside the clone, once for each set of pins.
PYTHON ?= python3
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/speechbrain-ext
KEY := $(shell $(PYTHON) -c "import hashlib, sys; h = hashlib.sha256(sys.version.encode()); [h.update(open(f, 'rb').read()) for f in ('setup.py', 'constraints.txt')]; print(h.hexdigest()[:16])")
$(if $(KEY),,$(error $(PYTHON) does not run: give one with PYTHON=...))
VENV := $(CACHE)/$(KEY)
READY := $(VENV)/ready
# The clone is found through PYTHONPATH: clones with the same pins share one
# environment, so none may be installed in it.
RUN := PYTHONPATH="$(CURDIR)" "$(VENV)/bin/python"

.PHONY: quickstart test check docs environment

quickstart: $(READY)
	$(RUN) recipes/run_rounds.py hparams/plans/quickstart.yaml $(ARGS)

# The files in their order, whose last ones, of units, are quick; reordered, the
# files of few and long tests would come last, one core idle meanwhile.
test: check
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore=tests/consistency $(ARGS)

check: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy speechbrain_ext recipes
	OMP_NUM_THREADS=1 $(RUN) -m pytest --quiet -n 2 tests/consistency

# A warning, such as a link to nowhere, is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict
	@echo "open site/index.html"

environment: $(READY)
	@echo "$(VENV)"

# No prerequisites: the name of the folder is a hash of the pins.
$(READY):
	rm -rf "$(VENV)"
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('the pinned versions need Python 3.11 or later; give one with PYTHON=...')"
	@echo "installing into $(VENV): about 6.5 GB, once for these pins"
	$(PYTHON) -m venv "$(VENV)"
	"$(VENV)/bin/python" -m pip install --quiet --constraint constraints.txt ".[dev,docs]"
	"$(VENV)/bin/python" -m pip install --constraint constraints.txt ".[dev]"
	"$(VENV)/bin/python" -m pip uninstall --quiet --yes speechbrain-ext
	touch "$(READY)"
