# Two commands matter: `make up` starts the suite with the example release, `make test` proves it.
.DEFAULT_GOAL := help
SHELL := /bin/bash

.PHONY: help
help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  \033[1mmake %-14s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: tools
tools: ## Install what is missing beside Rust
	@scripts/install-tools

.PHONY: build
build: ## Build the command line, the suite and the example
	@cargo build --package cdflow-cli --package storefront

.PHONY: up
up: tools build ## Start the suite and carry storefront v1.0.0 to production
	@examples/storefront/demo up

.PHONY: good-release
good-release: ## Publish storefront v1.1.0, a good release
	@examples/storefront/demo release v1.1.0

.PHONY: bad-release
bad-release: ## Publish storefront v1.2.0, whose fault shows only in production
	@examples/storefront/demo release v1.2.0

.PHONY: down
down: ## Stop the suite, the example and its router; what they stored stays
	@examples/storefront/demo down

.PHONY: clean-demo
clean-demo: down ## Stop everything and forget the example's state
	@rm -rf .cdflow

.PHONY: test
test: ## Install what the tests need, and run them all
	@scripts/install-tools test
	@cargo build --workspace --all-targets
	@cargo test --workspace

.PHONY: lint
lint: ## Formatting, clippy, dependencies, documentation
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets -- -D warnings
	@scripts/check-dependencies
	@RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

.PHONY: bench
bench: ## Measure the whole path beside the bare write path
	@scripts/install-tools
	@cargo run --release --package cdflow-loadtest
