# `make help` lists what there is. Everything runs in a virtual environment of its own, .venv.
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := -p mrnn.data -p mrnn.extract -p mrnn.train -p mrnn.evaluate

.PHONY: help setup demo test lint types bench soak memory ptb wheel clean

help:           ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: .venv/ready  ## virtual environment with everything (about 5 GB; two or three minutes on a fast line)

.venv/ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--editable '.[timm,tensorboard,analysis,java,parquet,web,dev]'
	touch $@

demo: setup     ## the whole pipeline in minutes; DATASET=flickr8k ROOT=folder for your own data
	PATH="$(CURDIR)/$(BIN):$$PATH" sh jobs/demo.sh

test: setup     ## all tests; those on real data run where MRNN_DATA names its folder
	$(BIN)/python -m pytest

lint: setup     ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup    ## static types
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/mypy benchmarks/*.py

bench: setup    ## speed, as ratios measured side by side
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

soak: setup     ## kill extraction and merging, and training of each task, 300 times at random points (some minutes)
	$(BIN)/python -m tests.soak --kills 300

memory: setup   ## extract 100,000 pictures and see that memory stays flat (some minutes)
	$(BIN)/python tests/flat_memory.py

ptb: setup      ## compare the PTB tokeniser with the Java original, on the captions below MRNN_DATA and odd strings
	$(BIN)/python tests/compare_ptb.py

wheel: setup    ## build the wheel and run the commands from it, outside the checkout
	sh .ci/check_wheel

clean:          ## remove what the other targets made
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
