# Everything on a fresh machine, with one command each:
#   make book   the environment, the book built from its stored outputs, and where to open it
#   make test   the environment, the book, and every test, notebooks included
# Both are done in seconds when nothing has changed since. `make -B test` does it all again.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
BOOK   := _build/html/index.html
SHELL  := /bin/bash
.DELETE_ON_ERROR:

PRUNED  := -name __pycache__ -o -name .ipynb_checkpoints
sources  = $(shell find $(1) \( $(PRUNED) \) -prune -o -type f -print 2>/dev/null)
BOOK_SOURCES := _config.yml _toc.yml $(call sources,book notebooks)
ALL_SOURCES  := $(BOOK_SOURCES) Makefile README.md pyproject.toml \
                $(call sources,transformer_lessons tests tools)

.PHONY: help install book test lint notebooks train train-quick generate demo clean

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile
	@echo "  make demo       watch the 2,656-parameter model learn in the terminal"
	@echo "  make notebooks  write the listings and run every notebook again"
	@echo "  make train      train on Python's own documentation (about two minutes)"

install: $(VENV)/installed

# torch comes first: a package that depends on it would otherwise bring its newest GPU build.
$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet -r requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -c "from transformer_lessons.assets import fetch; fetch('cl100k_base')"
	@touch $@

book: $(BOOK)
	@echo "The book: file://$(CURDIR)/$(BOOK)"

$(BOOK): $(VENV)/installed $(BOOK_SOURCES)
	$(BIN)/jupyter-book build . -W -n --keep-going --quiet
	@test -f $@ && touch $@

test: _build/tests-passed
	@echo "All tests passed ($$(cat $<)). The book: file://$(CURDIR)/$(BOOK)"

_build/tests-passed: $(BOOK) $(ALL_SOURCES)
	@rm -f $@
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --junitxml=_build/tests.xml
	@date "+%Y-%m-%d %H:%M; nothing has changed since" > $@

lint: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

notebooks: $(VENV)/installed
	$(BIN)/python tools/notebooks.py
	$(BIN)/python tools/publish.py

demo: $(VENV)/installed
	$(BIN)/python -m transformer_lessons demo

train: $(VENV)/installed
	$(BIN)/python -m transformer_lessons train --preset bytes-1m --corpus --out runs/documentation

train-quick: $(VENV)/installed
	$(BIN)/python -m transformer_lessons train --preset bytes-1m --corpus --training.steps 50 --out runs/quick

generate: $(VENV)/installed
	$(BIN)/python -m transformer_lessons generate runs/documentation --prompt "The "

clean:
	rm -rf _build $(VENV)
