# One command each. Everything but git, make, a C compiler, Python and cargo is set up by setup.sh.
SHELL := /bin/bash
BIN := .venv/bin

# Seconds for each fuzz target.
FUZZ_S ?= 600

# Two processes, a file of tests in one of them.
PYTEST ?= -n 2 --dist loadfile

.PHONY: setup demo test test-plain test-docker test-vm check bench fuzz nightly clean

setup:
	@./setup.sh

# A plain user can rarely write a cgroup; the weaker wall is then named, as an operator would name it.
demo: setup
	@flags=; \
	if $(BIN)/dativo doctor | grep -q '^missing *cgroup '; then \
	    flags='--cgroup degraded'; \
	    echo "No cgroup can be written here, so this demo accepts a weaker wall: $$flags" >&2; \
	fi; \
	$(BIN)/dativo plugin add airbyte:source-faker==7.2.1 $$flags && $(BIN)/dativo run demo.yaml $$flags

test: setup
	$(BIN)/pytest --durations=25 $(PYTEST)
	cd rust-plugins && cargo test --release --workspace --quiet

# The same as a plain user, for root: whatever makes walls, starts processes or hands out files; nightly all of it.
PLAIN := tests/unit tests/sandbox
ifdef DATIVO_NIGHTLY
PLAIN += tests/integration tests/faults tests/contract tests/conformance
else
PLAIN += $(foreach name,cli jail kill_and_resume missing_walls permission secrets standalone,tests/integration/test_$(name).py)
endif
test-plain: setup
	tests/plain_user.sh $(PLAIN)

# In and through a Docker Engine of its own; needs root, dockerd and docker (Debian: docker.io).
test-docker: setup
	DATIVO_NIGHTLY=1 $(BIN)/pytest tests/docker

# Debian 12 under systemd and cgroups of version 2 alone, in a virtual machine; needs root. Half an hour where there is no KVM.
test-vm: setup
	tests/vm/run.sh

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

# What is found beyond the committed corpus is kept in rust-plugins/fuzz/found, of the reader of events in tests/fuzz/found.
fuzz: setup
	$(BIN)/python -m tests.fuzz.event_reader $(FUZZ_S)
	test -x .tools/cargo/bin/cargo-fuzz || cargo install --quiet --locked --root .tools/cargo cargo-fuzz
	cd rust-plugins && for target in framing envelope decode batch relay dns opening orders footer; do \
	    mkdir -p fuzz/found/$$target && \
	    RUSTC_BOOTSTRAP=1 PATH="$$PWD/../.tools/cargo/bin:$$PATH" cargo fuzz run $$target --fuzz-dir fuzz \
	        fuzz/found/$$target fuzz/corpus/$$target -- -max_total_time=$(FUZZ_S) -rss_limit_mb=2048 || exit 1; \
	done

nightly: setup fuzz
	DATIVO_NIGHTLY=1 $(BIN)/pytest
	@if [ "$$(id -u)" = 0 ]; then DATIVO_NIGHTLY=1 $(MAKE) test-plain; fi
	@if [ "$$(id -u)" = 0 ]; then tests/vm/run.sh; else echo 'left out, since it needs root: make test-vm' >&2; fi
	$(BIN)/python -m bench.run

clean:
	rm -rf .venv .tools lake rust-plugins/target rust-plugins/native/python/dativo/native/*.so
