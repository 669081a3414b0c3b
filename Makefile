# One command each, on a machine with only python3 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= jaxinv-out

.PHONY: audit test lint types docs check clean

audit: $(VENV)/.demo  ## the main job on the embedded photographs; report in $(OUT)
	$(BIN)/jaxinv audit --out $(OUT)

test: $(VENV)/.test  ## all tests; real data sets where JAXINV_DATA points to them
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.dev  ## into site/; asks the network for nothing
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: lint types docs test

# A stamp per set of extras; a changed pyproject.toml installs again.
$(VENV)/.demo: EXTRAS = demo
$(VENV)/.test: EXTRAS = test
$(VENV)/.dev: EXTRAS = dev
$(VENV)/.%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) site build *.egg-info
