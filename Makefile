# Requires make and Python >= 3.11 with venv. Everything else is installed from requirements/*.txt with hashes.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP_INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r

.PHONY: run bench prove poolers topologies test check lint lint-openapi types contracts generate docs audit lock clean

run: .venv/run-installed
	@exec .venv/bin/python -m kataven.dev

# Without npm, tests that need Node.js are skipped, and `make test` reports this. `.ci/run` sets NODE_TESTS=yes.
NODE_TESTS ?= $(if $(shell command -v npm),yes,no)
PROVIDER = tools/oidc/node_modules/.package-lock.json

test: .venv/test-installed $(if $(filter yes,$(NODE_TESTS)),$(PROVIDER))
	@test $(NODE_TESTS) = yes || echo "no npm: sign-in at an independent OpenID Connect provider is not tested"
	.venv/bin/python -m pytest -n 2 --dist loadscope -m "not pgbouncer$(if $(filter yes,$(NODE_TESTS)),, and not node)"

# The product behind PgBouncer in transaction and in session mode, and without it. Needs PgBouncer (Debian's `pgbouncer`);
# without it, the tests are skipped, unless PGBOUNCER_TESTS=yes. About a minute.
poolers: .venv/test-installed
	.venv/bin/python -m pytest -m pgbouncer tests/test_poolers.py

check: lint types contracts test

# Request benchmarks: ratios within one run, with minimum values. Run it on an idle machine. About three minutes.
bench: .venv/test-installed
	.venv/bin/python -m bench.request

# The product on real Redis and PostgreSQL deployments, with a failure in each. Requires their Debian packages, and names
# those that are missing. About 15 minutes. ROWS="redis-killed postgres-sync-paused" runs some rows only.
topologies: .venv/test-installed
	.venv/bin/python -m topologies $(addprefix --only ,$(ROWS)) $(TOPOLOGIES_OPTIONS)

# Every state of the models of the revocation protocol, and a counterexample for each rule taken out. Needs SPIN and a C
# compiler (`apt-get install spin gcc`), up to 4 GB of memory, and some minutes of one core.
prove: | .venv/bin/python
	.venv/bin/python -m proof

lint: .venv/test-installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# Requires Node.js with npm, so it is not part of `make check`. Uses the linters' recommended rules without exceptions.
lint-openapi: tools/openapi/node_modules/.package-lock.json .venv/run-installed
	@.venv/bin/python tools/openapi/print_document.py > tools/openapi/openapi.json
	@cd tools/openapi && REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true npx --no redocly lint openapi.json
	@cd tools/openapi && npx --no spectral lint --fail-severity warn openapi.json

tools/%/node_modules/.package-lock.json: tools/%/package-lock.json
	@cd tools/$* && npm ci --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

types: .venv/test-installed
	.venv/bin/mypy

contracts: .venv/test-installed
	.venv/bin/lint-imports

# Writes the SDK's models and fields and the MCP server's inputs from the OpenAPI document. `make test` checks that they
# are current.
generate: .venv/test-installed
	@.venv/bin/python -m tools.generate_client

docs: .venv/docs-installed
	@rm -rf site
	@.venv/bin/python -m sphinx -W --keep-going -q -E -d .venv/doctrees -c tools/docs docs site
	@echo "site/index.html"

# Known vulnerabilities in the production dependencies, from the package index's database. Fails if the database can't be
# reached.
audit: .venv/audit-installed
	.venv/bin/pip-audit --strict --require-hashes --disable-pip -r requirements/production.txt

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "make: Python >= 3.11 with venv not found; install it, or set its path: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "creating .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv

.venv/run-installed: requirements/run.txt | .venv/bin/python
	@echo "installing the runtime dependencies (once, about 20 s)"
	@$(PIP_INSTALL) requirements/run.txt
	@touch $@

.venv/test-installed: requirements/test.txt .venv/run-installed
	@echo "installing the test dependencies (once)"
	@$(PIP_INSTALL) requirements/test.txt
	@touch $@

.venv/docs-installed: requirements/docs.txt .venv/run-installed
	@echo "installing the documentation dependencies (once)"
	@$(PIP_INSTALL) requirements/docs.txt
	@touch $@

.venv/audit-installed: requirements/audit.txt .venv/run-installed
	@echo "installing the audit dependencies (once)"
	@$(PIP_INSTALL) requirements/audit.txt
	@touch $@

# Resolves again within the ranges of pyproject.toml. Universal: one lock for every platform and Python >= 3.11.
lock: .venv/run-installed
	@.venv/bin/python -m pip install --quiet uv
	.venv/bin/uv pip compile -q pyproject.toml --upgrade --extra dev --universal --generate-hashes --no-header --python-version 3.11 -o requirements/run.txt
	.venv/bin/uv pip compile -q pyproject.toml --universal --generate-hashes --no-header --python-version 3.11 -c requirements/run.txt -o requirements/production.txt
	.venv/bin/uv pip compile -q pyproject.toml --upgrade --extra dev --extra test --universal --generate-hashes --no-header --python-version 3.11 -c requirements/run.txt -o requirements/test.txt
	.venv/bin/uv pip compile -q requirements/docs.in --upgrade --universal --generate-hashes --no-header --python-version 3.11 -c requirements/test.txt -o requirements/docs.txt
	.venv/bin/uv pip compile -q requirements/audit.in --upgrade --universal --generate-hashes --no-header --python-version 3.11 -c requirements/test.txt -o requirements/audit.txt

clean:
	rm -rf site tools/*/node_modules tools/openapi/openapi.json .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
