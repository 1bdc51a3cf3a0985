# Everything is installed below .venv/: nothing on the machine is changed. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Python 3.11 or 3.12 (server/pyproject.toml says why).
PYTHON ?= python3
BIN := .venv/bin
MODEL := model_repository/isnet/1/model.onnx
INT8 = $(wildcard model_repository/isnet_int8/1/model.xml)
TINY := tests/model_repository/tiny/1/model.onnx
LOCKS := locks/client.txt locks/server.txt server/cutstream_server/segmentation/embedded/requirements.txt
# A folder with evaluation data, for `make eval`.
DATA ?= ../shared/evaldata

.PHONY: help docs setup demo test bench capacity int8 eval eval-3d peers soak fuzz lint fmt lock audit proto serve clean

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

int8: setup ## Makes isnet_int8, twice as fast where the processor has no bfloat16. Some minutes.
	$(BIN)/cutstream-server model build --precision int8

bench: setup ## Measures engine, Triton, service and peers: out/bench/report.md. 20 minutes; `make peers int8` first.
	$(BIN)/python -m benchmarks.performance.stages
	$(BIN)/python -m benchmarks.bulk.transfer --images 600
	$(BIN)/python -m benchmarks.performance.telemetry --rounds 20
	$(BIN)/python -m benchmarks.performance.transport
	$(BIN)/python -m benchmarks.performance.engine
	$(BIN)/python -m benchmarks.performance.masks --data $(DATA)
	$(BIN)/python -m benchmarks.performance.service
	$(BIN)/python -m benchmarks.performance.service --model isnet --images 6 --windows 1 4 16
	$(if $(INT8),$(BIN)/python -m benchmarks.performance.service --model isnet_int8 --images 6 --windows 1 4 16)
	$(BIN)/python -m benchmarks.performance.comparison
	$(BIN)/python -m benchmarks.performance.report

capacity: setup ## Measures 1, 2 and 3 servers, shows the simulation beside them, and the plan for many: out/bench/.
	$(BIN)/python -m benchmarks.capacity.measure
	$(BIN)/python -m benchmarks.capacity.compare
	$(BIN)/python -m benchmarks.capacity.plan

eval: setup ## Measures quality against the first pipeline and rembg: out/eval/. SCENES=30 gives a first answer.
	$(BIN)/python -m benchmarks.quality.evaluate --data $(DATA) $(if $(SCENES),--scenes $(SCENES))

eval-3d: setup ## Measures the 3D models that cutouts lead to: out/reconstruction/. SHAPES=2 VIEWS=6 give a first answer.
	$(BIN)/python -m benchmarks.reconstruction.evaluate $(if $(wildcard $(DATA)),--data $(DATA)) \
	  $(if $(SHAPES),--shapes $(SHAPES)) $(if $(VIEWS),--views $(VIEWS)) $(if $(DOWNSTREAM),--downstream '$(DOWNSTREAM)')

peers: setup ## Installs rembg into .venv/peers, for `make eval` to compare with.
	$(BIN)/python -m benchmarks.quality.peers

soak: setup ## Sends thousands of images while clients, Triton and the server fail: out/robustness/. Half an hour and more.
	$(BIN)/python -m benchmarks.robustness.soak $(if $(IMAGES),--images $(IMAGES))
	$(BIN)/python -m benchmarks.robustness.faults

fuzz: setup ## Sends bombs, damaged images and damaged requests: out/robustness/. SEED=n draws others; half an hour.
	$(BIN)/python -m benchmarks.robustness.isolation
	$(BIN)/python -m benchmarks.robustness.bombs
	$(BIN)/python -m benchmarks.robustness.fuzz $(if $(SEED),--seed $(SEED)) $(if $(IMAGES),--images $(IMAGES))

clean: ## Removes everything that was made, the built model too.
	rm -rf .venv out model_repository/*/[0-9]* tests/model_repository/*/[0-9]*
