# make demo   the whole reproduction on embedded data, eleven minutes on two cores
# make test   the test suite
# make bench  speed and memory, beside plain loops, the machine's ceilings and targets
# make help   everything else

VENV := .venv
# The first interpreter that will do; choose another with `make demo PYTHON=/path/to/python3.11`.
PYTHON ?= $(shell for p in python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# Programs started by a recipe find the environment's `python`, as after activating it.
ACTIVATE = PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

# An environment is stamped with the checksum of what it was built from: nothing is installed twice.
checksum = $(firstword $(shell cat $(1) | cksum))
RUN_STAMP := $(VENV)/.run-$(call checksum,requirements.txt)
LINK_STAMP := $(VENV)/.packages-$(call checksum,requirements.txt pyproject.toml)
TEST_STAMP := $(VENV)/.test-$(call checksum,requirements.txt requirements-test.txt)

.DEFAULT_GOAL := help
.PHONY: demo demo-distilbert demo-squad test fuzz bench bench-gpu walkthrough picture check lint format clean help $(VENV)

demo: $(LINK_STAMP)  ## run reproduction.sh with the demo profile; results in runs/demo/results/report
	@$(ACTIVATE) bash reproduction.sh --profile demo

demo-distilbert: $(LINK_STAMP)  ## the same with DistilBERT; results in runs/demo/results/distilbert
	@$(ACTIVATE) bash distilbert/reproduction.sh --profile demo

demo-squad: $(LINK_STAMP)  ## the same with Dynamic-TinyBERT; results in runs/demo/results/squad
	@$(ACTIVATE) bash dynamic_tinybert/reproduction.sh --profile demo

# One worker per core of a small machine; the libraries' own threads would only get in their way.
test: $(TEST_STAMP) $(LINK_STAMP)  ## run the whole test suite
	@$(ACTIVATE) OMP_NUM_THREADS=1 python -m pytest -q -n 2 --dist worksteal

bench: $(TEST_STAMP) $(LINK_STAMP)  ## measure speed and memory; results in docs/benchmarks.md
	@$(ACTIVATE) python -m benchmarks

bench-gpu: $(TEST_STAMP) $(LINK_STAMP)  ## the same on a CUDA GPU; results in docs/benchmarks-gpu.md
	@$(ACTIVATE) python -m benchmarks --gpu

fuzz: $(TEST_STAMP) $(LINK_STAMP)  ## give every reader of outside files 2,000 mutated inputs
	@$(ACTIVATE) OMP_NUM_THREADS=1 FUZZ_EXAMPLES=2000 python -m pytest -q -n 2 tests/fuzz

walkthrough: $(TEST_STAMP) $(LINK_STAMP)  ## after make demo: follow one example through it; docs/walkthrough.md
	@$(ACTIVATE) OMP_NUM_THREADS=1 python -m demo.walkthrough --run runs/demo --output docs/walkthrough.md

picture:  ## after make demo: the README's picture; docs/demo.png
	cp runs/demo/results/report/scores.png docs/demo.png

lint: $(TEST_STAMP)  ## check style and formatting
	@$(ACTIVATE) ruff check .
	@$(ACTIVATE) ruff format --check .

check: lint test  ## lint and test

format: $(TEST_STAMP)  ## rewrite the files in the project's format
	@$(ACTIVATE) ruff check --fix .
	@$(ACTIVATE) ruff format .

$(VENV): $(LINK_STAMP)  ## build the Python environment from the exact pins

$(RUN_STAMP):
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; make demo PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "building $(VENV) with $$($(PYTHON) --version) from requirements.txt"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(VENV)/bin/python -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

# The packages become importable from any folder.
$(LINK_STAMP): $(RUN_STAMP)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(TEST_STAMP): $(RUN_STAMP)
	@echo "adding requirements-test.txt to $(VENV)"
	@$(VENV)/bin/python -m pip install --disable-pip-version-check -r requirements-test.txt
	@touch $@

clean:  ## delete the demo's files (the environment stays)
	rm -rf runs/demo

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z$$().A-Z_-]+:.*## / { sub(/\$$\(VENV\)/, "$(VENV)", $$1); printf "make %-15s %s\n", $$1, $$2 }' Makefile
