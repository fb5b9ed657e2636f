# The two commands of the README, and what developers run. Everything is installed into .venv from this folder's files.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
ARGS ?=

.PHONY: demo test quick test-machines check format bench bench-full results real site audit clean

demo: $(VENV)/base
	@$(BIN)/suffice demo $(ARGS)

# Whatever CI runs. With ARGS, those tests alone.
test: check
	@$(BIN)/python -m pytest -n 2 $(ARGS)
	@$(if $(ARGS),,$(BIN)/python tests/machines.py --others)

# What a change of a reward or a rule needs, in a minute or so
quick: $(VENV)/dev
	@$(BIN)/python -m pytest -n 2 -q -m "not slow" $(ARGS)

# The numeric part with every set of instructions that this processor has, and as others would round
test-machines: $(VENV)/dev
	@$(BIN)/python tests/machines.py $(ARGS)

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Several methods with several seeds, compared; what is done stands, so that an interrupted one goes on.
bench: $(VENV)/base
	@$(BIN)/suffice bench quick $(ARGS)

bench-full: $(VENV)/base
	@$(BIN)/suffice bench full $(ARGS)

# The rows of arithmetic in the README: two recipes, three seeds each (a quarter of an hour on one core), the base stopped early on
# the same problems, and all of them compared.
results: $(VENV)/base
	$(BIN)/suffice bench lab --out runs/bench-lab
	$(BIN)/suffice eval lab/arithmetic --task arithmetic --problems 1000 --samples 4 --temperature 1 --top-p 1 \
		--max-thought-tokens 256 --max-answer-tokens 8 --baselines --budgets 24,32,40,48,56,64,96,128 --out runs/lab-base
	$(BIN)/suffice compare runs/lab-base runs/bench-lab/runs/lab-*-seed-*/evaluations/step-000100 --json \
		--out runs/comparison.html > runs/comparison.json
	$(BIN)/python -m benchmarks.readme runs/bench-lab/bench.json runs/comparison.json

# A real language model from overthinking to shorter, on this machine, in hours: MODEL is a hub id or a folder of an
# instruct model that does not think, DATA files of worked problems (benchmarks/think.py), OTHER one of problems that are
# evaluated only. The same command goes on.
real: $(VENV)/dev
	@$(BIN)/python -m benchmarks.real_training $(MODEL) $(foreach file,$(DATA),--data $(file)) $(if $(OTHER),--other $(OTHER)) \
		--out runs/real $(ARGS)

# The documentation as a site, in site/
site: $(VENV)/dev
	$(BIN)/python -m mkdocs build --strict

# Known weaknesses of the pinned versions. It asks a service on the network, and fails where that cannot be reached.
audit: $(VENV)/audit/bin/pip-audit
	$< --strict --no-deps --disable-pip --requirement constraints.txt

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "suffice needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/audit/bin/pip-audit: $(VENV)/bin/python
	@$(BIN)/python -m venv $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1

$(VENV)/base: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing suffice into $(VENV): a minute or two the first time"
	@$(PIP) --editable .
	@touch $@

$(VENV)/dev: $(VENV)/base
	@echo "Installing what the tests need"
	@$(PIP) --editable '.[dev]'
	@touch $@
