# Weir's commands. `make` lists them.

SHELL := /bin/bash
CARGO ?= cargo
export WEIR_CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/weir
# The agent's build finds bpf-linker on PATH; nft and ip live in sbin.
export PATH := $(WEIR_CACHE)/bin:$(PATH):/usr/sbin:/sbin
# Seconds that the demo's live view runs.
export DEMO_SECONDS ?= 30
# Seconds for each fuzz target.
FUZZ_SECONDS ?= 60
# And as long as `make dashboards` shows it.
DASHBOARDS_SECONDS ?= 600

AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo -E env PATH="$$PATH")

.DEFAULT_GOAL := help
.PHONY: help demo dashboards test bench soak build check lint fuzz kernels images

help: ## List these commands
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Install what is missing, build, and show router and agents on real traffic in a lab of namespaces
	@echo "demo: client, router and three nodes in network namespaces, for $(DEMO_SECONDS) s"
	@scripts/setup.sh demo
	@$(CARGO) build --locked --workspace --bins
	@$(AS_ROOT) target/debug/weir-demo

dashboards: ## Show the demo's own data in Prometheus, and in Grafana where it is installed
	@echo "dashboards: the demo, with Prometheus on loopback"
	@scripts/setup.sh dashboards
	@$(CARGO) build --locked --workspace --bins
	@$(AS_ROOT) env DEMO_SECONDS=$(DASHBOARDS_SECONDS) scripts/dashboards.sh

test: ## Install what is missing, and run every test
	@echo "test: all suites; eBPF and namespaces need root"
	@scripts/setup.sh test
	@scripts/test.sh

fuzz: ## Fuzz every parser of foreign bytes for FUZZ_SECONDS each (a short run is part of make test)
	@echo "fuzz: libFuzzer, $(FUZZ_SECONDS) s for each target"
	@scripts/setup.sh fuzz
	@scripts/fuzz.sh $(FUZZ_SECONDS)

bench: ## Measure the agent and vyos-sync, as ratios within one run
	@echo "bench: release build, then the measurements; other load on this machine widens their error"
	@scripts/setup.sh bench
	@$(CARGO) build --locked --release --workspace --bins
	@$(AS_ROOT) target/release/weir-bench

kernels: ## Run the agent on other kernels, in emulated virtual machines
	@echo "kernels: builds, then boots Debian's kernels in QEMU; downloads about 100 MB the first time"
	@scripts/setup.sh kernels
	@$(CARGO) build --locked -p weir-agent -p weir-netns -p weir-kernels --bins
	@scripts/kernels.sh

soak: ## Hold a BFD session of 3 x 100 ms for 10 minutes while all CPUs are busy
	@echo "soak: 10 minutes (SOAK_SECONDS); make test runs the same for 20 s"
	@scripts/setup.sh test
	@$(CARGO) build --locked -p weir-agent --bins
	@SOAK_SECONDS=$${SOAK_SECONDS:-600} scripts/test.sh -p weir-netns --test bfd_soak

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

images: ## Build static programs and container images of them on scratch
	@echo "images: weir-agent and vyos-sync"
	@scripts/setup.sh images
	@scripts/images.sh
