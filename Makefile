# Weir's commands. `make` lists them.

SHELL := /bin/bash
CARGO ?= cargo
export WEIR_CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/weir
# The agent's build finds bpf-linker on PATH; nft and ip live in sbin.
export PATH := $(WEIR_CACHE)/bin:$(PATH):/usr/sbin:/sbin
# Seconds that the demo's live view runs.
export DEMO_SECONDS ?= 30

AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo -E env PATH="$$PATH")

.DEFAULT_GOAL := help
.PHONY: help demo test bench build check lint

help: ## List these commands
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Install what is missing, build, and show the agent on real traffic in a lab of namespaces
	@echo "demo: client, router and three nodes in network namespaces, for $(DEMO_SECONDS) s"
	@scripts/setup.sh demo
	@$(CARGO) build --locked --workspace --bins
	@$(AS_ROOT) target/debug/weir-demo

test: ## Install what is missing, and run every test
	@echo "test: all suites; eBPF and namespaces need root"
	@scripts/setup.sh test
	@scripts/test.sh

bench: ## Measure the agent, as ratios within one run
	@echo "bench: release build, then the measurements; other load on this machine widens their error"
	@scripts/setup.sh build
	@$(CARGO) build --locked --release -p weir-agent -p weir-bench --bins
	@$(AS_ROOT) target/release/weir-bench

build: ## Build everything that is shipped (release)
	@echo "build: weir-agent, weirctl and vyos-sync into target/release"
	@scripts/setup.sh build
	@$(CARGO) build --locked --release -p weir-agent -p vyos-sync --bins

check: ## Type-check everything, tests included
	@echo "check: every crate and its tests"
	@scripts/setup.sh build
	@$(CARGO) check --locked --workspace --all-targets

lint: ## Check the format, and run clippy with warnings denied
	@echo "lint: rustfmt and clippy on the workspace and on the datapath"
	@scripts/setup.sh lint
	@$(CARGO) fmt --all --check
	@$(CARGO) fmt --manifest-path ebpf/Cargo.toml --check
	@$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@$(CARGO) clippy --locked --manifest-path ebpf/Cargo.toml --target-dir target/ebpf-host --all-targets -- -D warnings
