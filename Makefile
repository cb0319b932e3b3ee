# The same commands as .ci/run, in the environment that is active now.

.PHONY: check fix format lint types contracts test slow coverage

check: format lint types contracts test

fix:
	ruff check --fix
	ruff format

format:
	ruff format --check

lint:
	ruff check

types:
	mypy

contracts:
	lint-imports

test:
	pytest

slow:
	pytest -m "slow or fault"

# Lines and branches of the product under the default run; fails below 90 % of lines.
coverage:
	pytest --cov --cov-report=json --cov-report=term:skip-covered
	python -m tools.covered
