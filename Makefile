# hal0's words. `make run` and `make test` work on a bare Debian or Ubuntu with python3 and make.

.PHONY: run test soak bench check images lock clean

# Bytecode is kept, whatever the caller does for itself: without it every start compiles hal0 anew, a second of work.
unexport PYTHONDONTWRITEBYTECODE

run:     ## start hal0 and ask it something
	@etc/bootstrap.sh run
	@exec .venv/bin/hal0ctl up

test:    ## everything, podman and the real engine included
	@etc/bootstrap.sh test
	@.venv/bin/python -m pytest

soak:    ## the same at the full figures
	@etc/bootstrap.sh test
	@HAL0_SOAK=1 .venv/bin/python -m pytest

bench:   ## hal0 against direct and against nginx; how long engines take to load
	@etc/bootstrap.sh test
	@.venv/bin/python -m tests.bench

check:   ## format, lint, types, layers
	@etc/bootstrap.sh test
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

images:  ## build the images that can be built here, through the running hal0
	@etc/bootstrap.sh run
	@.venv/bin/hal0ctl image build

lock:    ## renew etc/*.lock from pyproject.toml
	@etc/lock.sh

clean:   ## remove what was made here; the state of hal0 stays
	@rm -rf .venv .cache build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
