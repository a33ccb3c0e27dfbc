# make conformance   builds what is missing, starts the embedded lab, runs the suites, prints the report's path
# make test          the project's own checks and tests, the embedded lab included
# make detection     puts every fault of the catalogue into the embedded lab, and scores what the suites say of it
# make cloud-faults  has every call to the embedded lab's cloud fail in every way, one at a time
# make course        builds five groups' projects on the embedded lab, and grades them by one command
# make audit         secrets in the sources, packages that are not locked, known faults of those that are (internet)
# make endurance     kills runs at random moments and sweeps (KILLS=200); the same run night after night (NIGHTS=50); hours
# make kubernetes-tests the embedded cluster and its suite, healthy and broken on purpose
# make browser-tests the reports looked at in headless Chromium
# LAB=cloud          the same on somebody's OpenStack (labs/cloud.toml), without root and without the embedded lab
LAB ?= box
KILLS ?= 200
NIGHTS ?= 50
PYTEST_ARGS ?=
PYTHON := .venv/bin/python
PACKAGES := mmdebstrap qemu-system-x86 qemu-utils e2fsprogs cpio kmod iproute2 iptables iputils-ping \
            zstd lz4 curl openssh-client util-linux nodejs python3-venv
# real peers of the project's own tests: SSH servers, a packet filter
TEST_PACKAGES := openssh-server dropbear-bin nftables busybox openssl

.PHONY: setup conformance test lint audit unit lab-tests kubernetes-tests peers detection cloud-faults course \
        endurance endurance-kill endurance-nights browser-tests bench clean
.DELETE_ON_ERROR:

setup: .venv/.done
ifeq ($(LAB),box)
	@provision/box/prepare.sh $(PACKAGES)
endif

.venv/.done: requirements.lock pyproject.toml
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { [ "$$(id -u)" = 0 ] && apt-get -q update >/dev/null; \
	  DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends python3-venv >/dev/null; } || \
	  { echo 'labproof: Python has no venv module; install it (Debian: apt install python3-venv)' >&2; exit 1; }
	@python3 -m venv .venv
	@.venv/bin/pip install -q --disable-pip-version-check -r requirements.lock
	@touch $@

conformance: setup
	@trap '$(PYTHON) -m provision lab down >/dev/null' EXIT; \
	if [ "$(LAB)" = box ]; then $(PYTHON) -m provision lab up; fi && \
	$(PYTHON) -m pytest suites --lab $(LAB) $(PYTEST_ARGS)

test: lint unit lab-tests

lint: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

# known faults of the packages that are locked, asked of PyPI: needs the internet, so not a part of `test`; whether a secret
# stands in a source, and whether each package is a locked one, `test` looks at too (tests/test_sources.py)
audit: setup
	@$(PYTHON) -m pytest tests/test_sources.py -q
	@test -x .audit/bin/pip-audit || { python3 -m venv .audit && .audit/bin/pip install -q --disable-pip-version-check pip-audit==2.10.1; }
	@.audit/bin/pip-audit --strict --requirement requirements.lock --no-deps --disable-pip

peers:
	@provision/box/prepare.sh $(TEST_PACKAGES)

unit: setup peers
	@$(PYTHON) -m pytest tests -m 'not box and not kubernetes' -q

lab-tests: setup peers
	@trap '$(PYTHON) -m provision lab down >/dev/null' EXIT; $(PYTHON) -m pytest tests -m 'box and not course and not cloud_faults and not kubernetes' --durations=40

kubernetes-tests: setup peers
	@trap '$(PYTHON) -m provision lab down >/dev/null' EXIT; $(PYTHON) -m pytest tests -m kubernetes --durations=20

detection: setup
	@trap '$(PYTHON) -m provision lab down >/dev/null' EXIT; $(PYTHON) -m tests.faults $(FAULTS)

# each kind of fault on each call that provisioning and removal make, by a proxy before the embedded lab's cloud
cloud-faults: setup
	@trap '$(PYTHON) -m provision lab down >/dev/null' EXIT; $(PYTHON) -m pytest tests -m cloud_faults -v $(PYTEST_ARGS)

course: setup peers
	@trap '$(PYTHON) -m provision lab down >/dev/null' EXIT; $(PYTHON) -m pytest tests -m course

endurance: endurance-kill endurance-nights

endurance-kill: setup
	@trap '$(PYTHON) -m provision lab down >/dev/null' EXIT; $(PYTHON) -m tests.endurance kill --kills $(KILLS)

endurance-nights: setup
	@trap '$(PYTHON) -m provision lab down >/dev/null' EXIT; $(PYTHON) -m tests.endurance nights --nights $(NIGHTS)

# the reports in headless Chromium: accessibility, load time, keyboard, pictures of them
browser-tests: .venv/.done
	@tests/browser/run reports/out/browser

bench: setup
	@$(PYTHON) -m bench

clean:
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m provision lab down; fi
	@rm -rf .venv .audit reports/out .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/labproof" "$${XDG_STATE_HOME:-$$HOME/.local/state}/labproof"
