# `make` lists the targets. Everything runs in .venv, which `make setup` builds from the package registry alone.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EDGE_VENV := .venv-edge
EDGE_STAMP := $(EDGE_VENV)/.installed
GPU_VENV := .venv-gpu
GPU_STAMP := $(GPU_VENV)/.installed
SUPPLY_VENV := .venv-supply
SUPPLY_STAMP := $(SUPPLY_VENV)/.installed
BOUNDS_VENV := .venv-bounds

# Writes the generated code below folder $(1). The path mapping makes its imports `from spillover.common.wire.pb import ...`.
protoc = $(BIN)/python -m grpc_tools.protoc -Ispillover/common/wire/pb=proto --python_out=$(1) --grpc_python_out=$(1) \
  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --mypy_out=quiet:$(1) \
  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --mypy_grpc_out=quiet:$(1) proto/*.proto
# Pins and hashes what the extras $(2) need, for every platform of [tool.uv], into $(1).txt. Pins that are there stay.
lock = $(SUPPLY_VENV)/bin/uv pip compile pyproject.toml $(2) --quiet --universal --python-version 3.11 --generate-hashes \
  --custom-compile-command 'make requirements' $(if $(UPGRADE),--upgrade) --output-file deploy/requirements/$(1).txt
# Models and labelled pictures for tests and benchmarks; what needs them is left out where they are absent.
export SPILLOVER_SHARED ?= $(abspath ../shared)
# Labelled pictures for `make bench-split`: a folder with labels.csv, as `spillover lab evaluate` takes it.
SPLIT_DATA ?= $(SPILLOVER_SHARED)/data/imagenet-sample

.DEFAULT_GOAL := help
.PHONY: help setup demo test check check-proto proto docs requirements sbom audit check-bounds arm64 bench-edge bench-cameras bench-page path bench-rate bench-policy bench-link bench-split bench-video bench-inter bench-cloud bench-disk bench-decode bench-lag bench-heat bench-against loadtest bench-gpu oip-peers install-test chaos soak attack clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | column -t -s '|'

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else "Spillover needs Python 3.11, 3.12 or 3.13; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[edge,cloud,otel,update,fleet,lab,models,dev]'
	@touch $@

# What a Pi has: the extra `edge` and nothing else. It also proves that the edge needs nothing else.
$(EDGE_STAMP): pyproject.toml | $(STAMP)
	$(PYTHON) -m venv $(EDGE_VENV)
	$(EDGE_VENV)/bin/python -m pip install --quiet -e '.[edge]'
	@touch $@

# onnxruntime and onnxruntime-gpu own the same files, so the one goes before the other comes.
$(GPU_STAMP): pyproject.toml
	$(PYTHON) -m venv $(GPU_VENV)
	$(GPU_VENV)/bin/python -m pip install --quiet -e '.[cloud,lab]'
	$(GPU_VENV)/bin/python -m pip uninstall --quiet --yes onnxruntime
	$(GPU_VENV)/bin/python -m pip install --quiet 'onnxruntime-gpu[cuda,cudnn]>=1.23'
	@touch $@

# Tools that look at what is installed, apart from it.
$(SUPPLY_STAMP): pyproject.toml
	$(PYTHON) -m venv $(SUPPLY_VENV)
	$(SUPPLY_VENV)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(SUPPLY_VENV)/bin/python -m pip install --quiet --group supply
	@touch $@

setup: $(STAMP) ## install everything into .venv

demo: $(STAMP) ## edge and cloud as two processes on real pictures, three modes, one table (PAIR=detection)
	$(BIN)/spillover lab demo $(if $(PAIR),--pair $(PAIR)) $(if $(DEMO_SOURCE),--source '$(DEMO_SOURCE)')

test: check ## lint, types, borders, generated code, then every test
	$(BIN)/python -m pytest

check: $(STAMP) check-proto ## ruff, mypy --strict, import-linter, generated code up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

proto: $(STAMP) ## write common/wire/pb from proto/
	$(call protoc,.)

docs: $(STAMP) ## write the generated pages of docs/reference and the list of folders in ARCHITECTURE.md
	$(BIN)/python -m tests.support.reference

check-proto: $(STAMP)
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call protoc,"$$fresh") \
	  && diff -r --exclude=__pycache__ --exclude=__init__.py "$$fresh/spillover/common/wire/pb" common/wire/pb \
	  || { echo 'common/wire/pb is not what proto/ gives: run `make proto` and commit the result' >&2; exit 1; }

requirements: $(SUPPLY_STAMP) ## pin and hash what each extra needs, into deploy/requirements (UPGRADE=1: newest versions)
	$(call lock,edge,--extra edge)
	$(call lock,edge-mqtt,--extra edge --extra mqtt)
	$(call lock,edge-mqtt-video,--extra edge --extra mqtt --extra video)
	$(call lock,cloud,--extra cloud)
	$(call lock,cloud-video,--extra cloud --extra video)
	$(call lock,cloud-gpu,--extra cloud-gpu)
	$(call lock,envoy,--extra envoy)
	$(call lock,fleet,--extra cloud --extra fleet)
	$(call lock,otel,--extra otel)
	$(call lock,lab,--extra lab)
	$(call lock,update,--extra edge --extra update)

sbom: $(SUPPLY_STAMP) ## what an installation holds, as CycloneDX, from the pinned requirements (EXTRA=cloud)
	rm -rf out/sbom/env && mkdir -p out/sbom
	$(PYTHON) -m venv --without-pip out/sbom/env
	$(SUPPLY_VENV)/bin/python -m pip --python out/sbom/env/bin/python install --quiet --require-hashes \
	  -r deploy/requirements/$(or $(EXTRA),cloud).txt
	$(SUPPLY_VENV)/bin/cyclonedx-py environment out/sbom/env --pyproject pyproject.toml --output-reproducible \
	  --output-file out/sbom/$(or $(EXTRA),cloud).cdx.json
	@echo 'out/sbom/$(or $(EXTRA),cloud).cdx.json'

audit: $(SUPPLY_STAMP) ## bandit, then known vulnerabilities of the pinned requirements; fails when nobody could be asked
	$(SUPPLY_VENV)/bin/bandit --quiet --configfile pyproject.toml --recursive cloud common edge lab
	$(SUPPLY_VENV)/bin/python -m tests.support.audit $(SUPPLY_VENV)/bin/pip-audit deploy/requirements/*.txt

check-bounds: $(SUPPLY_STAMP) ## unit tests with the lowest version of everything that pyproject.toml allows
	mkdir -p out && rm -f out/bounds.txt
	$(SUPPLY_VENV)/bin/uv pip compile pyproject.toml --extra edge --extra cloud --extra mqtt --extra lab --extra dev \
	  --resolution lowest-direct --python-version 3.11 --no-python-downloads --quiet --output-file out/bounds.txt
	$(PYTHON) -m venv --clear $(BOUNDS_VENV)
	$(BOUNDS_VENV)/bin/python -m pip install --quiet -r out/bounds.txt
	$(BOUNDS_VENV)/bin/python -m pip install --quiet --no-deps -e .
	$(BOUNDS_VENV)/bin/python -m pytest -q tests/unit/common tests/unit/edge tests/unit/cloud

arm64: $(STAMP) ## wheel and wheels in an aarch64 root, emulated: answers, offload, spool, unit tests; skips without QEMU
	$(BIN)/python -m tests.arm64

bench-edge: $(STAMP) $(EDGE_STAMP) ## what the pipeline costs over a bare loop of the same model, its memory, tracking, a camera at 30 frames/s (MEMORY=1, TRACKING=1: that alone; DETECTOR=folder)
	$(BIN)/python -m benchmarks edge --python $(EDGE_VENV)/bin/python $(if $(MEMORY),--memory) $(if $(TRACKING),--tracking) $(if $(DETECTOR),--detector $(DETECTOR))
	$(if $(MEMORY)$(TRACKING),,$(BIN)/python -m benchmarks rate --part camera)

bench-rate: $(STAMP) ## a frame rate that follows the scene: what the model looks at, what is lost; a camera at 30 frames/s; goals
	$(BIN)/python -m benchmarks rate

bench-cameras: $(STAMP) $(EDGE_STAMP) ## four cameras in one daemon beside one: memory, frames a second, fair turns
	$(BIN)/python -m benchmarks cameras --python $(EDGE_VENV)/bin/python

bench-page: $(STAMP) ## what the live view takes of an edge's memory: idle, a viewer, a hundred; loopback, and TLS with a token
	$(BIN)/python -m tests.support.live_view_memory

path: $(STAMP) ## the files of edge/ that an offloaded frame runs through, traced in a running daemon
	$(BIN)/spillover lab prepare
	$(BIN)/python -m benchmarks path

bench-policy: $(STAMP) ## what policies are worth: gap closed, budget, risk, links (pictures in SPILLOVER_SHARED)
	$(BIN)/python -m benchmarks policy --out out/bench-policy

bench-link: $(STAMP) ## how much of a link the edge uses and what is back in time, beside one who knows the link
	$(BIN)/python -m benchmarks link --out out/bench-link

loadtest: $(STAMP) ## edge_only, cloud_only and hybrid side by side, a fleet of 1000, one report (10 minutes)
	$(BIN)/spillover lab loadtest -c $(or $(LOAD),examples/load.yaml) --out out/loadtest

bench-split: $(STAMP) ## split inference beside JPEG: bytes, accuracy, latency over links (SPLIT_DATA=labelled pictures)
	$(BIN)/spillover lab prepare
	$(BIN)/python -m benchmarks split --data '$(SPLIT_DATA)'

bench-video: $(STAMP) ## boxes of the cloud carried from frame to frame: F1 and streaming accuracy over bytes (WHOLE=1: every share, a plot)
	$(BIN)/python -m benchmarks video --out out/bench-video $(if $(WHOLE),--whole)

bench-inter: $(STAMP) ## what a frame takes as JPEG, video and features, and what the answers keep; tracks, CPU, lost calls, the wire
	$(BIN)/python -m benchmarks inter --out out/bench-inter

bench-cloud: $(STAMP) ## the cloud server against Triton and MLServer: same networks, same client (needs h2load)
	$(BIN)/python -m benchmarks cloud

bench-disk: $(STAMP) ## a month at 10 frames/s on the disk beside its bounds, both divided by SCALE=100
	$(BIN)/python -m benchmarks disk --scale $(or $(SCALE),100)

bench-decode: $(STAMP) ## how long one caller's pictures take while another floods the server; what streams of video cost (CLIP=video)
	$(BIN)/python -m benchmarks decode
	$(BIN)/python -m benchmarks decode-streams --clip '$(or $(CLIP),$(SPILLOVER_SHARED)/video/vtest.avi)'

bench-lag: $(STAMP) ## lag of the server's event loop under hostile requests
	$(BIN)/python -m benchmarks loop-lag

bench-heat: $(STAMP) ## the ladder on simulated devices in the heat: time above 80 °C, frames, changes, a plot
	$(BIN)/python -m benchmarks heat

bench-against: $(STAMP) ## the server against that of an older commit (OLD=COMMIT): CPU time a request (needs h2load)
	@test -n '$(OLD)' || { echo 'say which commit: make bench-against OLD=COMMIT' >&2; exit 2; }
	$(BIN)/python -m benchmarks against '$(OLD)'

bench-gpu: $(STAMP) ## the same on a CUDA host, copies to the device and back included; skips without one
	@if nvidia-smi -L > /dev/null 2>&1; then $(MAKE) $(GPU_STAMP) && $(GPU_VENV)/bin/python -m benchmarks cloud --device cuda \
	    --out out/bench-gpu/bench-gpu.json; \
	  else $(BIN)/python -m benchmarks cloud --device cuda; fi

oip-peers: $(STAMP) ## install Triton and MLServer beside this project, so that tests use them as clouds
	$(BIN)/python -m benchmarks.cloud.peers

install-test: $(STAMP) ## deploy/install-edge.sh in a bare Debian (needs root, mmdebstrap and the network)
	SPILLOVER_REQUIRE=mmdebstrap $(BIN)/python -m pytest tests/e2e/test_install_edge.py

chaos: $(STAMP) ## break link, cloud, disk, clock and edge; CYCLES=1000 ONLY=edge_killed for the long run
	$(BIN)/python -m tests.chaos.run --cycles $(or $(CYCLES),30) $(if $(ONLY),--only $(ONLY))
	$(if $(ONLY),,$(BIN)/python -m tests.chaos.promises)

soak: $(STAMP) ## MINUTES=30 of ordinary trouble, with a viewer who comes and goes: a verdict, and a plot of memory, rate, spool, breaker
	$(BIN)/python -m tests.chaos.soak --minutes $(or $(MINUTES),10) --out out/soak

attack: $(STAMP) ## what strangers and weak devices may try, against a real server; ONLY=name, SHORT=1, FRONT=envoy
	$(BIN)/python -m tests.attack $(if $(ONLY),--only $(ONLY)) $(if $(SHORT),--short) $(if $(FRONT),--front $(FRONT))

clean: ## remove what the other targets made (the model cache stays)
	rm -rf $(VENV) $(EDGE_VENV) $(GPU_VENV) $(SUPPLY_VENV) $(BOUNDS_VENV) out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
