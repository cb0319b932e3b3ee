# The same commands as .ci/run, in the environment that is active now.

.PHONY: check fix format lint types contracts test slow

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
