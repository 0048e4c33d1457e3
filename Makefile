# Needs make and a Python >= 3.11 with venv; everything else comes from requirements/*.txt, hash by hash.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP_INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r

.PHONY: run bench prove test check lint lint-openapi types contracts docs audit lock clean

run: .venv/run-installed
	@exec .venv/bin/python -m kataven.dev

# Where there is no npm, tests that need Node.js are left out, and `make test` says so. `.ci/run` sets NODE_TESTS=yes.
NODE_TESTS ?= $(if $(shell command -v npm),yes,no)
PROVIDER = tools/oidc/node_modules/.package-lock.json

test: .venv/test-installed $(if $(filter yes,$(NODE_TESTS)),$(PROVIDER))
	@test $(NODE_TESTS) = yes || echo "no npm: sign-in at an independent OpenID Connect provider is not tested"
	.venv/bin/python -m pytest -n 2 --dist loadscope $(if $(filter yes,$(NODE_TESTS)),,-m "not node")

check: lint types contracts test

# What a request costs, as ratios in one run, with floors: on a machine with nothing else to do. About three minutes.
bench: .venv/test-installed
	.venv/bin/python -m bench.request

# Every state of the models of the revocation protocol, and a counterexample for each rule taken out. Needs SPIN and a C
# compiler (`apt-get install spin gcc`), up to 4 GB of memory, and some minutes of one core.
prove: | .venv/bin/python
	.venv/bin/python -m proof

lint: .venv/test-installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# Needs Node.js with npm, and so is no part of `make check`. The linters' recommended rules, and nothing excused.
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

docs: .venv/docs-installed
	@rm -rf site
	@.venv/bin/python -m sphinx -W --keep-going -q -E -d .venv/doctrees -c tools/docs docs site
	@echo "site/index.html"

# Known vulnerabilities in what production installs, by the package index's own database. Where that can't be reached it
# fails, since nothing was found out.
audit: .venv/audit-installed
	.venv/bin/pip-audit --strict --require-hashes --disable-pip -r requirements/production.txt

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "make: no Python >= 3.11 with venv found; install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "creating .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv

.venv/run-installed: requirements/run.txt | .venv/bin/python
	@echo "installing what the product needs (once, about 20 s)"
	@$(PIP_INSTALL) requirements/run.txt
	@touch $@

.venv/test-installed: requirements/test.txt .venv/run-installed
	@echo "installing what the tests need (once)"
	@$(PIP_INSTALL) requirements/test.txt
	@touch $@

.venv/docs-installed: requirements/docs.txt .venv/run-installed
	@echo "installing what the documentation needs (once)"
	@$(PIP_INSTALL) requirements/docs.txt
	@touch $@

.venv/audit-installed: requirements/audit.txt .venv/run-installed
	@echo "installing what the audit needs (once)"
	@$(PIP_INSTALL) requirements/audit.txt
	@touch $@

# Re-resolve within pyproject.toml's ranges. Universal: one lock for every platform and Python >= 3.11.
lock: .venv/run-installed
	@.venv/bin/python -m pip install --quiet uv
	.venv/bin/uv pip compile -q pyproject.toml --upgrade --extra dev --universal --generate-hashes --no-header --python-version 3.11 -o requirements/run.txt
	.venv/bin/uv pip compile -q pyproject.toml --universal --generate-hashes --no-header --python-version 3.11 -c requirements/run.txt -o requirements/production.txt
	.venv/bin/uv pip compile -q pyproject.toml --upgrade --extra dev --extra test --universal --generate-hashes --no-header --python-version 3.11 -c requirements/run.txt -o requirements/test.txt
	.venv/bin/uv pip compile -q requirements/docs.in --upgrade --universal --generate-hashes --no-header --python-version 3.11 -c requirements/test.txt -o requirements/docs.txt
	.venv/bin/uv pip compile -q requirements/audit.in --upgrade --universal --generate-hashes --no-header --python-version 3.11 -c requirements/test.txt -o requirements/audit.txt

clean:
	rm -rf site tools/*/node_modules tools/openapi/openapi.json .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
