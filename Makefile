# Carryover. `make help` lists the targets; each builds .venv from requirements.lock if it is missing or outdated.

PYTHON   ?= python3
VENV     := .venv
BIN      := $(VENV)/bin
READY    := $(VENV)/.ready
DOCS     := .venv-docs

# A package `carryover` in .venv is another project's, or this one under its old name: it would run instead of ours.
NAMESAKE := $(basename $(notdir $(wildcard $(VENV)/lib/python*/site-packages/carryover-[0-9]*.dist-info)))

# Empty variables use the defaults of carryover.
METHOD   ?= meat
STREAM   ?=
BACKBONE ?=
ORDER    ?=
SEEDS    ?= 0
JOBS     ?= 1
OPTIONS  ?=
SELECTION ?=
DEVICE   ?=

OBJECTIVE ?= supervised
KIND     ?= gradient

TYPED = $(foreach option,$(OPTIONS),-o '$(option)')
CELLS = --method '$(METHOD)' --seed '$(SEEDS)' \
        $(if $(STREAM),--stream '$(STREAM)') $(if $(BACKBONE),--backbone '$(BACKBONE)') \
        $(if $(ORDER),--order '$(ORDER)') \
        $(if $(SELECTION),--selection '$(SELECTION)') $(if $(DEVICE),--device '$(DEVICE)') $(TYPED)

.DEFAULT_GOAL := help
.PHONY: help new check bench plan report reference status ls pretrain test test-slow lint format perf docs lock clean

help: ## Show this list
	@echo 'Carryover: what a vision model carries over from one task to the next.'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'
	@echo
	@echo '  METHOD= STREAM= BACKBONE= ORDER=1993,1994 SEEDS=0,1,2 JOBS= DEVICE= SELECTION= OPTIONS="lr=0.1 epochs=3" choose what runs;'
	@echo "  now: $(METHOD)$(if $(STREAM), on $(STREAM))$(if $(BACKBONE), with $(BACKBONE)), seed $(SEEDS)."

bench: $(READY) ## Run METHOD on STREAM with BACKBONE and show the table
	@$(BIN)/carryover run $(CELLS) --jobs '$(JOBS)'

plan: $(READY) ## Show what `make bench` would do, and how long it takes
	@$(BIN)/carryover plan $(CELLS)

report: $(READY) ## Show all records as tables
	@$(BIN)/carryover report

status: $(READY) ## Count the records; list running, failed and interrupted cells
	@$(BIN)/carryover status

ls: $(READY) ## List methods, streams and backbones
	@$(BIN)/carryover ls

reference: $(READY) ## Run the cells in results/reference/cells, JOBS at a time, and put the records beside it
	grep -v '^#' results/reference/cells | xargs -L 1 $(BIN)/carryover run --results .reference --jobs '$(JOBS)'; \
	  ended=$$?; cd .reference && find records -name '*.json' -exec grep -l '"status": *"ok"' {} + | \
	  tar cf - -T - | tar xf - -C ../results/reference && exit $$ended

new: $(READY) ## Write a new METHOD that already runs (KIND=gradient, frozen, episodic, replay, distillation, penalty)
	@$(BIN)/carryover new method '$(METHOD)' --kind '$(KIND)'

check: $(READY) ## Test every promise of METHOD on tiny streams and backbones
	@$(BIN)/carryover check '$(METHOD)' $(TYPED)

pretrain: $(READY) ## Pretrain BACKBONE on the images of SOURCE (OBJECTIVE=supervised, mae or simclr)
	@$(BIN)/carryover pretrain '$(BACKBONE)' --source '$(SOURCE)' --objective '$(OBJECTIVE)' $(TYPED)

test: $(READY) ## Run the tests; they need no network, GPU or data
	$(BIN)/python -m pytest -n auto -m 'not slow'

test-slow: $(READY) ## Run the slow tests: kills, real processes, real data if CARRYOVER_DATA is set
	$(BIN)/python -m pytest -n auto -m slow

lint: $(READY) ## Run ruff, mypy, and the check of imports between packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## Format the code with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

perf: $(READY) ## Measure the promised speed
	$(BIN)/python tests/perf

docs: $(READY) $(DOCS)/.ready ## Build the site, site/index.html, which needs no network
	$(BIN)/python docs/catalogue
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet --strict
	@echo 'built site/index.html; open it as a file, or serve it'

lock: ## Pin every dependency again (needs uv)
	uv pip compile pyproject.toml --all-extras --group dev --universal --generate-hashes \
	  --no-emit-index-url --no-header --python-version 3.11 --upgrade -o requirements.lock
	uv pip compile --group pyproject.toml:docs --universal --generate-hashes \
	  --no-emit-index-url --no-header --python-version 3.11 --upgrade -o requirements-docs.lock

clean: ## Remove the environment and the caches of tools
	rm -rf $(VENV) $(DOCS) site docs/generated .mypy_cache .ruff_cache .import_linter_cache .pytest_cache

ifneq ($(NAMESAKE),)
.PHONY: $(READY)
endif
$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo 'Carryover needs Python 3.11 or newer; set PYTHON=...' >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Carryover needs Python 3.11 or newer, and $(PYTHON) is older; set PYTHON=..." >&2; exit 2; }
	@echo 'Setting up $(VENV) from requirements.lock (once; several gigabytes with PyTorch)'
	@$(if $(NAMESAKE),echo 'Removing $(NAMESAKE) from $(VENV): Carryover is the package carryover-bench')
	@if command -v uv >/dev/null; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
	  VIRTUAL_ENV=$(VENV) uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock && \
	  VIRTUAL_ENV=$(VENV) uv pip install --quiet --no-deps --editable .; \
	else \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
	  $(if $(NAMESAKE),$(BIN)/python -m pip uninstall --quiet --yes carryover &&) \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .; \
	fi
	@touch $(READY)

$(DOCS)/.ready: requirements-docs.lock
	@echo 'Setting up $(DOCS) from requirements-docs.lock (once)'
	@if command -v uv >/dev/null; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(DOCS) && \
	  VIRTUAL_ENV=$(DOCS) uv pip sync --quiet --require-hashes requirements-docs.lock; \
	else \
	  $(PYTHON) -m venv $(DOCS) && \
	  $(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	    -r requirements-docs.lock; \
	fi
	@touch $@
