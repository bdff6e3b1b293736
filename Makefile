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
BOOK_SOURCES := _config.yml _toc.yml $(call sources,book notebooks transformer_lessons) \
                $(addprefix tools/,book_extension.py page_finish.py glossary_links.py repository.py search_texts.py)
ALL_SOURCES  := $(BOOK_SOURCES) Makefile README.md pyproject.toml $(wildcard conftest.py) \
                $(call sources,tests tools benchmarks)

.PHONY: help install book pdf links test faults lint size notebooks lesson bench bench-bpe bench-training \
        bench-decoding bench-smollm bench-growth bench-main bench-litgpt train train-quick python-small personas rewards scaling generate \
        chat demo clean

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile
	@echo "  make demo       watch the 2,656-parameter model learn in the terminal"
	@echo "  make pdf        print the book, the whole of it, into one PDF (a few minutes)"
	@echo "  make links      list what the book links to outside itself"
	@echo "  make chat       talk with the model that ships"
	@echo "  make personas   train a pirate and a terse answerer beside SmolLM2 (ten minutes)"
	@echo "  make notebooks  write the listings and run every notebook again"
	@echo "  make lesson NAME=a_name  begin a new lesson: a notebook, an exercise, and its test"
	@echo "  make size       lines per room of the package, beside their budgets"
	@echo "  make bench      measure the package beside its peers (about an hour)"
	@echo "  make faults     kill, fill and damage what training writes, thousands of times"
	@echo "  make train      train a GPT on Python's own documentation (half an hour on two quiet cores)"
	@echo "  make train-quick  the same in about two minutes: the loss falls from 11.6 to about 6.4"
	@echo "  make rewards    let the model that ships learn from rewards, in several ways (lesson 23)"
	@echo "  make scaling    train forty tiny models, for a law of their losses (lesson 16)"
	@echo "  make generate   let the newest run write"

install: $(VENV)/installed

# torch comes first: a package that depends on it would otherwise bring its newest GPU build.
$(VENV)/installed: requirements.txt pyproject.toml
	@echo "Setting up $(VENV): this takes some minutes, and more than 2 GB on the disk."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet -r requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -c "from transformer_lessons.support.assets import ASSETS, fetch; [fetch(name) for name in ASSETS]"
	@touch $@

book: $(BOOK)
	@echo "The book: file://$(CURDIR)/$(BOOK)"

# Sphinx sees by itself which pages and docstrings have changed, but not styles, scripts, pictures or
# its own extensions. Where one of these is newer than the book, all of it is built.
$(BOOK): $(VENV)/installed $(BOOK_SOURCES)
	$(BIN)/jupyter-book build . -W -n --keep-going --quiet \
	  $(if $(filter-out notebooks/%.ipynb %.md transformer_lessons/%,$?),--all)
	@test -f $@ && touch $@

pdf: $(BOOK)
	$(BIN)/python tools/make_pdf.py

links: $(BOOK)
	@$(BIN)/python tools/page_links.py

test: _build/tests-passed
	@echo "All tests passed ($$(cat $<)). The book: file://$(CURDIR)/$(BOOK)"

_build/tests-passed: $(BOOK) $(ALL_SOURCES)
	@rm -f $@
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --no-error-summary
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --junitxml=_build/tests.xml
	@date "+%Y-%m-%d %H:%M; nothing has changed since" > $@

# What depends on luck, tried far more often than in the suite: faults, and random inputs.
faults: $(VENV)/installed
	FAULTS=full OMP_NUM_THREADS=1 $(BIN)/pytest -s tests/faults tests/training/test_distributed.py
	FAULTS=full OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m hypothesis tests

lint: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

size: $(VENV)/installed
	@$(BIN)/python tools/size.py

notebooks: $(VENV)/installed
	$(BIN)/python tools/run_notebooks.py
	$(BIN)/python tools/publish.py

lesson: $(VENV)/installed
	@$(BIN)/python tools/new_lesson.py $(NAME)

# The figures are of use from a quiet machine only. A part: make bench NAME=training, and so on;
# NAME=main measures the main tables (training S and M, decoding S) in about a quarter of an hour.
# LitGPT has an environment of its own, for it needs other versions; without it, its rows are empty.
bench: $(addprefix bench-,$(or $(NAME),bpe training decoding smollm growth))

bench-bpe: $(VENV)/installed
	$(BIN)/pip install --quiet --no-deps -r benchmarks/requirements.txt
	$(BIN)/python -m benchmarks.bpe_run

bench-training: $(VENV)/installed bench-litgpt
	$(BIN)/python -m benchmarks.training_run
	$(BIN)/python -m benchmarks.training_plot

bench-decoding: $(VENV)/installed bench-litgpt
	$(BIN)/python -m benchmarks.decoding_run

bench-main: $(VENV)/installed bench-litgpt
	$(BIN)/python -m benchmarks.training_run training-machine training-S-compiled-bf16 training-M-compiled-bf16
	$(BIN)/python -m benchmarks.training_plot
	$(BIN)/python -m benchmarks.decoding_run decoding-machine decoding-S-1 decoding-S-8

bench-growth: $(VENV)/installed
	$(BIN)/python -m benchmarks.growth_run

bench-smollm: $(VENV)/installed
	$(BIN)/python -m benchmarks.smollm_run

bench-litgpt:
	test -x _build/litgpt/bin/python || { $(PYTHON) -m venv _build/litgpt.new && \
	  _build/litgpt.new/bin/pip install --quiet torch==2.13.0 && \
	  _build/litgpt.new/bin/pip install --quiet -r benchmarks/requirements-litgpt.txt && \
	  mv _build/litgpt.new _build/litgpt; } || echo "LitGPT can't be installed here: left out."

demo: $(VENV)/installed
	$(BIN)/python -m transformer_lessons demo

# The educational GPT: 6 layers, 256 numbers per token, the 100,277 tokens of cl100k_base. It makes
# an update after each batch of 1,024 tokens; without the option, after 16 of them, as on a GPU.
GPT := $(BIN)/python -m transformer_lessons train --preset gpt --corpus --training.grad-accum-steps 1
train: $(VENV)/installed
	$(GPT) --training.steps 600 --out runs/gpt

train-quick: $(VENV)/installed
	$(GPT) --training.steps 80 --training.warmup-steps 10 --out runs/gpt-quick

# From the newest run; without any, from the model that ships.
generate: $(VENV)/installed
	$(BIN)/python -m transformer_lessons generate --prompt "The " \
	  $$(ls -td runs/*/config.json 2>/dev/null | head -n 1 | xargs -r dirname)

# The model that ships with the package: a bit over an hour on one quiet core.
SMALL := runs/python-small
TL    := $(BIN)/python -m transformer_lessons
python-small: $(VENV)/installed
	$(TL) prepare --corpus sources --out $(SMALL)/data
	$(TL) tokenizer train $(SMALL)/data/train.jsonl --vocab-size 4096 --out $(SMALL)/tokenizer.json
	$(BIN)/python tools/python_text.py $(SMALL)/data
	$(TL) train --preset python-small --text $(SMALL)/data/text.jsonl \
	  --held-out $(SMALL)/data/validation.jsonl --tokenizer $(SMALL)/tokenizer.json \
	  --training.eval-every 1000 --training.save-every 1000 --out $(SMALL)/run
	$(BIN)/python tools/ship_python_small.py $(SMALL)

# Two personas beside SmolLM2, and all its weights for comparison: under 10 minutes on two quiet cores.
personas: $(VENV)/installed
	$(BIN)/python -c "from transformer_lessons.support.assets import fetch; fetch('smollm2-135m')"
	$(BIN)/python tools/ship_personas.py runs/personas
	$(BIN)/python tools/page_chat.py

# Lesson 23's long runs: from samples that a parser judges. They go on where they were interrupted.
rewards: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python tools/rewards.py runs/rewards

# Lesson 16's long runs: about half an hour on two quiet cores. They go on where they were interrupted.
SCALING := runs/scaling
scaling: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python tools/scaling.py $(SCALING)

chat: $(VENV)/installed
	@$(BIN)/python -m transformer_lessons chat

clean:
	rm -rf _build $(VENV)
