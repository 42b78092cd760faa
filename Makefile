# One command each. Everything but git, make, a C compiler, Python and cargo is set up by setup.sh.
SHELL := /bin/bash
BIN := .venv/bin

.PHONY: setup demo test check bench nightly clean

setup:
	@./setup.sh

demo: setup
	@$(BIN)/dativo plugin add airbyte:source-faker==7.2.1
	@$(BIN)/dativo run demo.yaml

test: setup
	$(BIN)/pytest
	cd rust-plugins && cargo test --release --workspace --quiet

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	cd rust-plugins && cargo fmt --all --check
	cd rust-plugins && cargo clippy --release --workspace --all-targets --quiet -- -D warnings

bench: setup
	$(BIN)/python -m bench.run

nightly: setup
	DATIVO_NIGHTLY=1 $(BIN)/pytest
	$(BIN)/python -m bench.run

clean:
	rm -rf .venv .tools lake rust-plugins/target
