# Each target sets up what it needs; Python 3.11 or newer, make, bash and git are enough.
# PYTHON=python3.12 chooses the interpreter of a new environment. ARGS="..." is handed on where a target says so.

SHELL := bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory
export PYTHON

BIN := .venv/bin
CODE := controller manifests tests
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile $(ARGS)
COMPILE_WITHIN := $(COMPILE) --constraint requirements/dev.txt

# $(call step,sentence,command): says what is checked and how long it took; the command's own words only if it fails.
define step
@printf '%s: ' '$(1)'; log=$$(mktemp); trap 'rm -f "$$log"' EXIT; TIMEFORMAT=%1R; \
if seconds=$$({ time { $(2); } >"$$log" 2>&1; } 2>&1); then echo "fine ($$seconds s)"; \
else echo "failed ($$seconds s)"; cat "$$log"; exit 1; fi
endef

.PHONY: help
help: ## say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## the whole story on this machine, no AWS account needed (ARGS go to editctl demo)
	@requirements/setup.sh .venv run
	@$(BIN)/editctl demo $(ARGS)

.PHONY: local
local: ## an AWS endpoint on this machine, until Ctrl-C (ARGS go to editctl local)
	@requirements/setup.sh .venv run
	@$(BIN)/editctl local $(ARGS)

.PHONY: test
test: lint types engines ## everything CI checks: style, imports, types, all tests (ARGS go to pytest)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

.PHONY: bench
bench: setup ## what it costs and how fast it is (ARGS: quiet, latency, storm, boot, and their flags)
	@$(BIN)/python -m tests.bench $(ARGS)

.PHONY: lint
lint: setup ## style and import contracts
	$(call step,Style,$(BIN)/ruff check --quiet .)
	$(call step,Layout (make fmt mends it),$(BIN)/ruff format --check .)
	$(call step,Import contracts,$(BIN)/lint-imports --no-logo)

.PHONY: types
types: setup ## types, strictly
	$(call step,Types,$(BIN)/mypy)

.PHONY: fmt
fmt: setup ## rewrite the code in the house's style
	@$(BIN)/ruff check --quiet --fix-only . && $(BIN)/ruff format .

# The oldest supported Python resolves the pins, so that they hold for every newer one.
.PHONY: lock
lock: setup ## renew requirements/*.txt from pyproject.toml and *.in (ARGS=--upgrade for newer versions)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo "error: .venv is not of Python 3.11, with which the pins are made"; \
		echo "  run: make clean lock PYTHON=python3.11"; exit 1; }
	$(call step,All there is (dev.txt),$(COMPILE) --extra kubernetes --extra local -o requirements/dev.txt pyproject.toml requirements/dev.in)
	$(call step,What an image needs (runtime.txt),$(COMPILE_WITHIN) --extra kubernetes -o requirements/runtime.txt pyproject.toml)
	$(call step,What the demo needs (local.txt),$(COMPILE_WITHIN) --extra local -o requirements/local.txt pyproject.toml)
	$(call step,What installs the package (build.txt),$(COMPILE_WITHIN) -o requirements/build.txt requirements/build.in)
	$(call step,The second DynamoDB (ministack.txt),$(COMPILE) -o requirements/ministack.txt requirements/ministack.in)
	$(call step,What writes the templates (cdk.txt),$(COMPILE) -o requirements/cdk.txt requirements/cdk.in)

.PHONY: ministack
ministack: engines ## a second DynamoDB engine, in an environment of its own
	@echo "Start it with: BIND_HOST=127.0.0.1 GATEWAY_PORT=4570 .venv-ministack/bin/ministack"

# Without them a part of the tests would be skipped. The control plane takes minutes: a person is not made to wait for it,
# and told that it is missing; on CI its tests must run.
.PHONY: engines
engines: $(if $(CI),control-plane)
	@requirements/setup.sh .venv-ministack ministack
	@requirements/setup.sh .venv-cdk cdk

.PHONY: control-plane
control-plane: setup ## kube-apiserver, etcd and kubectl for the tests on Kubernetes (Go, 7 min once)
	@$(BIN)/python -m tests.kubernetes.controlplane

# The library unpacks itself once; beside its environment it is found again, and leaves with it.
.PHONY: synth
synth: engines ## rewrite the CloudFormation templates (ARGS="-c key=value" writes those of your own into cdk.out)
	@JSII_RUNTIME_PACKAGE_CACHE_ROOT=$(CURDIR)/.venv-cdk/.jsii .venv-cdk/bin/python -m manifests.aws.synth $(ARGS)

.PHONY: images
images: setup ## build the images by docker or podman (ARGS=--debian needs no image registry)
	@PYTHON=$(BIN)/python manifests/docker/build $(ARGS)

.PHONY: release
release: setup ## the wheel and its bill of materials, in dist
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@$(BIN)/python -m manifests.sbom dist/editctl.cdx.json

.PHONY: clean
clean: ## remove the environments and what tools left behind
	@rm -rf .venv .venv-cdk .venv-ministack .venv.building .venv-cdk.building .venv-ministack.building cdk.out build dist htmlcov .coverage* *.egg-info \
		.hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find $(CODE) -type d -name __pycache__ -prune -exec rm -rf {} +

.PHONY: setup
setup:
	@requirements/setup.sh .venv dev
