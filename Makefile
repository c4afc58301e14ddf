# Each target does all of its own set-up in .venv; nothing else on the machine is touched.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-others test-clusters check docs dist bench matrix mysql clean

demo: .venv/demo
	@$(BIN)/python examples/demo.py
	@$(BIN)/python examples/tenants.py

# Each test on servers runs over every fourth driver, or with every fourth of its parameters (tests/selection.py).
test: .venv/test
	$(BIN)/python -m tests --parameters=some

# The same tests over the drivers and with the parameters that `make test` leaves out.
test-others: .venv/test
	$(BIN)/python -m tests --parameters=others

# Real clusters of several machines' programs, which fail over while all drivers write; those not installed are skipped.
test-clusters: .venv/test
	$(BIN)/python -m tests tests/clusters

check: .venv/check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy examples/*.py examples/drivers/*.py
	$(BIN)/vulture
	$(BIN)/python -m pytest -q tests/test_architecture.py

# Oldest and newest version of each driver and framework, each Python that is here: all cells, or those that are named,
# as in make matrix CELL="oldest-psycopg newest-pg8000-3.13"; make matrix ARGS=--list names them.
matrix: .venv/matrix
	$(BIN)/nox $(if $(CELL),--session $(CELL)) $(ARGS)

# The documentation site, in site/: warnings, dead links among them, are errors.
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Wheel and sdist, their metadata checked; the wheel is installed elsewhere, and tried there.
dist: .venv/dist
	@rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	@rm -rf .venv/installed && $(PYTHON) -m venv .venv/installed
	.venv/installed/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	cd .venv/installed && bin/python -P ../../tests/installed.py

# A real MySQL for the tests, where Debian's packages can be had; without it they are skipped.
mysql:
	@sh servers/fetch_mysql.sh .venv/mysql

bench: .venv/bench
	$(BIN)/python -m benchmarks

.venv/%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip  # that of Python 3.11 finds no set of packages
	@echo "installing what '$*' needs into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@case '$*' in test|check|bench) $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[mysqlclient]' \
		>/dev/null 2>&1 || echo "mysqlclient cannot be built here (libmariadb-dev, pkg-config, gcc): it is left out";; esac
	@touch $@

clean:
	rm -rf site dist .venv .pytest_cache .mypy_cache .ruff_cache
