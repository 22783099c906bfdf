# The front door. `make run` and `make test` install what they need.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PROFILE ?= ci
TARGET := $(or $(CARGO_TARGET_DIR),target)
STATE ?= $(CURDIR)/.neuvector
CARGO_TEST := cargo test --locked --profile $(PROFILE) --workspace
UNIT := --lib --bins --test '[!h]*'
HOST := --test 'host_*'

# Debian packages: to build (compilers for BPF and gRPC); for the demo and the tests (runtime, network, browser).
PACKAGES_BUILD := clang llvm gcc libc6-dev make pkg-config protobuf-compiler libprotobuf-dev cmake libelf-dev zlib1g-dev
PACKAGES_TEST := containerd runc libdevmapper1.02.1 containernetworking-plugins iproute2 ethtool iptables busybox-static iperf3 curl jq chromium qemu-system-x86 xz-utils libndpi-bin tshark redis-server postgresql

.PHONY: help setup setup-build setup-test setup-nri setup-ui build build-unit build-host run demo test test-unit test-host test-kernel test-cluster test-ui bench fuzz lint release openapi clean

help: ## what there is to do
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

setup: setup-build setup-test ## install the Debian packages and npm modules that are missing

# Some packages of the tests start daemons (redis-server, postgresql), so what only builds and runs takes none of them.
setup-build: setup-ui
	@$(call install,$(PACKAGES_BUILD))

setup-test:
	@$(call install,$(PACKAGES_TEST))

define install
missing=$$(for p in $(1); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
if [ -z "$$missing" ]; then echo "$@: every Debian package is here"; \
elif [ "$$(id -u)" != 0 ]; then echo "$@: as root, run: apt-get install -y --no-install-recommends" $$missing >&2; exit 1; \
else echo "$@: installing" $$missing; apt-get update -q; DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; fi
endef

# Docker Engine and an image registry for tests, unpacked only: the installed packages start daemons, and Docker's changes
# the machine's firewall.
DOCKER := $(TARGET)/docker
DOCKER_PACKAGES := docker.io docker-registry

$(DOCKER)/usr/bin/docker-registry:
	@echo "setup: unpacking $(DOCKER_PACKAGES) into $(DOCKER)"
	rm -rf $(DOCKER) $(DOCKER).part && mkdir -p $(DOCKER).part
	cd $(DOCKER).part && { apt-get download -q $(DOCKER_PACKAGES) || { apt-get update -q && apt-get download -q $(DOCKER_PACKAGES); }; }
	cd $(DOCKER).part && for package in *.deb; do dpkg -x $$package . || exit 1; done && rm *.deb
	mv $(DOCKER).part $(DOCKER)

# A containerd with NRI for a test, unpacked only: Debian 12's is from before NRI, Debian 13's runs on both.
NRI_CONTAINERD := $(TARGET)/containerd

setup-nri: $(NRI_CONTAINERD)/usr/bin/containerd

$(NRI_CONTAINERD)/usr/bin/containerd:
	@echo "setup: unpacking Debian 13's containerd into $(NRI_CONTAINERD)"
	rm -rf $(NRI_CONTAINERD) $(NRI_CONTAINERD).part && mkdir -p $(NRI_CONTAINERD).part/{lists,archives}/partial
	cd $(NRI_CONTAINERD).part && echo 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main' >sources.list
	cd $(NRI_CONTAINERD).part && apt="apt-get -q -o Dir::Etc::sourcelist=$$PWD/sources.list -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists=$$PWD/lists -o Dir::Cache::archives=$$PWD/archives -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root" \
		&& $$apt update && $$apt download containerd/trixie
	cd $(NRI_CONTAINERD).part && dpkg -x containerd_*.deb . && rm -r *.deb lists archives sources.list
	mv $(NRI_CONTAINERD).part $(NRI_CONTAINERD)

setup-ui: ui/node_modules/.installed

ui/node_modules/.installed: ui/package.json ui/package-lock.json
	@echo "setup: installing the console's npm modules"
	cd ui && npm ci --no-audit --no-fund
	@touch $@

ui/dist/index.html: ui/node_modules/.installed $(shell find ui/src ui/public ui/index.html ui/vite.config.ts -type f 2>/dev/null)
	cd ui && npm run build
	@touch $@

build: setup-build ui/dist/index.html ## build the product (profile ci)
	cargo build --locked --profile $(PROFILE) --workspace --bins --exclude nv-attacker
	@# The intruder of tests and demo runs in any image, so it is linked statically.
	cargo rustc --locked --profile $(PROFILE) --package nv-attacker -- -C target-feature=+crt-static

run: build ## build and protect this machine; state in .neuvector
	@exec $(TARGET)/$(PROFILE)/neuvector run --state-dir $(STATE)

demo: build setup-test ## three containers, learned, protected, attacked; KEEP=1 keeps them running
	@$(TARGET)/$(PROFILE)/nv-demo --neuvector $(TARGET)/$(PROFILE)/neuvector $(if $(KEEP),--keep)

test: setup ui/dist/index.html test-unit test-host test-kernel test-cluster test-ui ## run every test

test-unit: setup-build ui/dist/index.html ## everything that needs no kernel, runtime or browser
	$(CARGO_TEST) $(UNIT)
	cd ui && npm test

test-host: build-host ## root, BPF, containerd, Docker, a registry: this machine's kernel and runtime
	@test "$$(id -u)" = 0 || { echo "test-host: needs root" >&2; exit 1; }
	$(CARGO_TEST) $(HOST) -- --test-threads 1

# The same without running them, for whoever has something else to do meanwhile.
build-unit: setup-build ui/dist/index.html
	$(CARGO_TEST) $(UNIT) --no-run

build-host: build setup-test setup-nri $(DOCKER)/usr/bin/docker-registry
	$(CARGO_TEST) $(HOST) --no-run

test-kernel: build setup-test ## Debian's newest 6.1, 6.12 and 5.10 kernels in virtual machines
	@# Of the whole workspace, so that nothing is built again with other features; those of crates/io run in the guests.
	$(CARGO_TEST) $(HOST) --no-run --message-format json \
		| $(TARGET)/$(PROFILE)/nv-guests --cache $(TARGET)/guests --enforcer $(TARGET)/$(PROFILE)/enforcer $(if $(ONLY),--only "$(ONLY)")

test-cluster: ## several controllers: comes with high availability
	@echo "test-cluster: no test yet"

test-ui: build setup-test ## the console in a browser, against a running neuvector
	cd tests/ui && npm ci --no-audit --no-fund && NV_BINARY=$(abspath $(TARGET)/$(PROFILE)/neuvector) npm test

bench: setup ui/dist/index.html ## the promised numbers, as ratios in one run (release build)
	cargo build --locked --release --workspace --bins --exclude nv-attacker
	cargo rustc --locked --release --package nv-attacker -- -C target-feature=+crt-static
	@# The harness only starts things and waits; what is measured is the release build.
	NV_BINARY=$(abspath $(TARGET)/release/neuvector) cargo bench --locked --profile $(PROFILE) --package nv-benches
	$(TARGET)/release/nv-guests --cache $(TARGET)/guests --cost $(TARGET)/release/nv-cost
	cargo bench --locked --package nv-policy --package nv-store --package nv-capture --package nv-dpi --package nv-sensor --package nv-seclang
	@# NV_FEEDS=DIR takes feeds from a folder; without it they are made.
	cargo bench --locked --package nv-role-scanner

# What cargo-fuzz sets, so that it need not be installed: counters of edges for libFuzzer.
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 $(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)
FUZZ_HOST = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ_SECONDS ?= 600
FUZZ_RUNS ?= 5000000
FUZZ_BYTES ?= 1024

fuzz: ## fuzz targets, each for FUZZ_SECONDS (600) or FUZZ_RUNS (5,000,000) inputs of FUZZ_BYTES (1,024) at most; ONLY=name runs one; needs a nightly compiler
	RUSTFLAGS="$(FUZZ_FLAGS)" cargo +nightly build --release --manifest-path fuzz/Cargo.toml --target $(FUZZ_HOST) --target-dir $(TARGET)/fuzz
	for target in $(or $(ONLY),$(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))); do \
		mkdir -p $(TARGET)/corpus/$$target; \
		$(TARGET)/fuzz/$(FUZZ_HOST)/release/$$target -max_total_time=$(FUZZ_SECONDS) -runs=$(FUZZ_RUNS) -max_len=$(FUZZ_BYTES) -reload=0 -print_final_stats=1 $(TARGET)/corpus/$$target; \
	done

lint: setup-build ui/dist/index.html ## format, clippy, layers, documentation, generated files
	cargo fmt --all --check
	@# With the profile of the build, of whose build scripts and macros it then makes use.
	cargo clippy --locked --profile $(PROFILE) --workspace --all-targets -- -D warnings
	cargo xtask tidy
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --profile $(PROFILE) --workspace --no-deps --quiet
	cd ui && npm run lint

openapi: ## write openapi/openapi.json from the handlers
	NV_WRITE_OPENAPI=1 cargo test --locked --package nv-role-api --test openapi

release: setup-build ui/dist/index.html ## optimised binaries
	cargo build --locked --release --bins

clean: ## remove what was built
	rm -rf target ui/dist ui/node_modules tests/ui/node_modules
