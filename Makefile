# The two commands of the README, and what they are made of.
.PHONY: setup demo test lint check bench bench-detect bench-report bench-view calibration lock

setup:  ## Python environment, Docker engine, base image; nothing to do when they are there
	@./sandbox/setup

demo: setup  ## Play the demo plan in real containers, detect, and write its report
	@.venv/bin/honne run demo
	@.venv/bin/honne detect demo
	@.venv/bin/honne report demo

test: lint  ## Every test, the ones that need containers and a browser included
	@./sandbox/setup tests
	@.venv/bin/pytest

lint: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

check: setup  ## Put every environment through its checks in real boxes
	@.venv/bin/honne check

bench: setup  ## The engine, the harness on it, and others' ways of doing the same, side by side on this machine
	@.venv/bin/python -m benchmarks.engine

bench-detect: setup  ## A million readings through every detector, beside the published formula in plain Python
	@.venv/bin/python -m benchmarks.detect

bench-report: setup  ## Records of 100,000 episodes through `honne report`
	@.venv/bin/python -m benchmarks.report

bench-view: setup  ## Every kind of page of `honne view` over 100,000 episodes
	@.venv/bin/python -m benchmarks.view

calibration: setup  ## The error rates that reports print: again after any change to a detector or a statistic
	@.venv/bin/honne calibrate -o detectors/report/calibration.json

lock:  ## Write requirements.lock anew from pyproject.toml, with hashes and without an index's address
	@.venv/bin/uv pip compile pyproject.toml --extra dev --generate-hashes --no-emit-index-url \
		--python-version 3.11 --upgrade --quiet -o requirements.lock
