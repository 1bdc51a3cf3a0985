# Everything is installed below .venv/: nothing on the machine is changed. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Python 3.11 or 3.12 (server/pyproject.toml says why).
PYTHON ?= python3
BIN := .venv/bin
MODEL := model_repository/isnet/1/model.onnx
TINY := tests/model_repository/tiny/1/model.onnx
LOCKS := locks/client.txt locks/server.txt server/cutstream_server/segmentation/embedded/requirements.txt
# A folder with evaluation data, for `make eval`.
DATA ?= ../shared/evaldata

.PHONY: help docs setup demo test bench eval eval-3d peers soak fuzz lint fmt lock audit proto serve clean

help: ## Lists the targets.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

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

docs: .venv/.installed ## Writes docs/options.md and the dashboards from their sources.
	$(BIN)/python docs/options_table.py
	$(BIN)/python -m deploy.grafana.source

.venv/.tools: | .venv/bin/python
	$(BIN)/python -m venv .venv/tools
	.venv/tools/bin/pip install --quiet uv==0.13.9 pip-audit==2.10.1
	touch $@

lock: .venv/.installed .venv/.tools ## Writes locks/ anew; UPGRADE=1 takes the newest versions.
	locks/generate $(if $(UPGRADE),--upgrade)
	$(BIN)/python docs/licences_table.py

# --strict: a package that cannot be looked up, as behind a mirror of the index, fails instead of passing for safe.
audit: .venv/.tools ## Looks all locked packages up among the known vulnerabilities (needs pypi.org).
	for lock in $(LOCKS); do .venv/tools/bin/pip-audit --strict --disable-pip --require-hashes -r $$lock; done

proto: .venv/.installed ## Generates the stubs from protos/.
	protos/generate

bench: setup ## Measures what the service and its client cost: out/bench/.
	$(BIN)/python -m benchmarks.performance.stages
	$(BIN)/python -m benchmarks.bulk.transfer
	$(BIN)/python -m benchmarks.performance.telemetry

eval: setup ## Measures quality against the first pipeline and rembg: out/eval/. SCENES=40 gives a first answer.
	$(BIN)/python -m benchmarks.quality.evaluate --data $(DATA) $(if $(SCENES),--scenes $(SCENES))

eval-3d: setup ## Measures the 3D models that cutouts lead to: out/reconstruction/. SHAPES=2 VIEWS=6 give a first answer.
	$(BIN)/python -m benchmarks.reconstruction.evaluate $(if $(wildcard $(DATA)),--data $(DATA)) \
	  $(if $(SHAPES),--shapes $(SHAPES)) $(if $(VIEWS),--views $(VIEWS)) $(if $(DOWNSTREAM),--downstream '$(DOWNSTREAM)')

peers: setup ## Installs rembg into .venv/peers, for `make eval` to compare with.
	$(BIN)/python -m benchmarks.quality.peers

soak fuzz:
	@echo "make $@ comes with issue 8 (robustness)." >&2; exit 1

clean: ## Removes everything that was made, the built model too.
	rm -rf .venv out model_repository/*/[0-9]* tests/model_repository/*/[0-9]*
