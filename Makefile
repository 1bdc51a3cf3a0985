# Everything is installed below .venv/: nothing on the machine is changed. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Python 3.11 or 3.12 (server/pyproject.toml says why).
PYTHON ?= python3
BIN := .venv/bin
MODEL := model_repository/isnet/1/model.onnx
TINY := tests/model_repository/tiny/1/model.onnx
# A folder with evaluation data, for `make eval`.
DATA ?= ../shared/evaldata

.PHONY: help docs setup demo test bench eval soak fuzz lint fmt proto serve clean

help: ## Lists the targets.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: .venv/.installed .venv/.triton $(MODEL) $(TINY) ## Makes .venv, the embedded Triton and the model; nothing to do the second time.

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python requirements-dev.txt client/pyproject.toml server/pyproject.toml
	@echo "== Installing client, server and tools into .venv"
	$(BIN)/python -m pip install --progress-bar on -r requirements-dev.txt
	$(BIN)/python -m pip check
	touch $@

.venv/.triton: .venv/.installed server/cutstream_server/segmentation/embedded/environment.py
	@echo "== Making the embedded Triton's environment"
	$(BIN)/cutstream-server triton setup
	touch $@

$(MODEL): | .venv/.installed
	@echo "== Building the model (set MODEL_SOURCE=FILE to use a file that you have)"
	$(BIN)/cutstream-server model build $(if $(MODEL_SOURCE),--source $(MODEL_SOURCE)) --photo $$($(BIN)/python -m examples.photos coffee)

$(TINY): tests/model_repository/make_tiny.py | .venv/.installed
	$(BIN)/python $<

demo: setup ## Cuts out a real photo through client, gRPC, server and Triton; IMAGE=path takes yours.
	$(BIN)/python -m examples.demo $(IMAGE)

test: setup ## Runs all tests.
	$(BIN)/python -m pytest $(TESTS)

serve: setup ## Starts the service on 127.0.0.1:50051.
	$(BIN)/cutstream-server serve

lint: .venv/.installed ## Checks style, types and the API definition.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy client/cutstream server/cutstream_server
	protos/generate --lint

fmt: .venv/.installed ## Formats the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.installed ## Writes docs/options.md from the code.
	$(BIN)/python docs/options_table.py

proto: .venv/.installed ## Generates the stubs from protos/.
	protos/generate

bench: setup ## Measures what the service and its client cost: out/bench/.
	$(BIN)/python -m benchmarks.performance.stages
	$(BIN)/python -m benchmarks.bulk.transfer

eval:
	@echo "make eval comes with issue 6 (quality)." >&2; exit 1

soak fuzz:
	@echo "make $@ comes with issue 8 (robustness)." >&2; exit 1

clean: ## Removes everything that was made, the built model too.
	rm -rf .venv out model_repository/*/[0-9]* tests/model_repository/*/[0-9]*
