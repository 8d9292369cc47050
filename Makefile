# Everything works as root on a Debian 12 or 13 with nothing prepared; deploy/setup.sh installs what is missing.
BIN := .venv/bin
PYTEST_ARGS ?=
BENCH_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test fuzz test-kernels test-kubernetes bench-kubernetes lint format bench train eval-privacy clean root

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

setup: ## packages, a Python >= 3.12, .venv/bin/stockade
	@deploy/setup.sh

demo: root ## a governed pip install on the real PyPI, what is refused around it, and the audit of it all
	@deploy/setup.sh --tests
	@$(BIN)/python tests/e2e/demo.py

test: root ## lint, types, then every test; skips are printed with their reasons (PYTEST_ARGS: more for pytest)
	@deploy/setup.sh --tests
	@$(MAKE) --no-print-directory lint
	@$(BIN)/pytest $(PYTEST_ARGS)

test-kernels: root ## the tests on Debian's 6.1 and 6.12 under emulation, with BPF LSM and without; writes docs/kernels.md (hours)
	@deploy/setup.sh --kernels
	@STOCKADE_VM=all $(BIN)/pytest -o faulthandler_timeout=0 tests/vm $(PYTEST_ARGS)
	@$(BIN)/python tests/vm/table.py --here

test-kubernetes: root ## the tests on a real one-node cluster, which is built before (minutes, once)
	@deploy/setup.sh --tests
	@STOCKADE_KUBERNETES=1 $(BIN)/pytest tests/kubernetes $(PYTEST_ARGS)

bench-kubernetes: root ## what 50 pods on one node cost, on the cluster of the tests (PODS=N for another number)
	@deploy/setup.sh --tests
	@$(BIN)/python tests/bench/pods.py $${PODS:-50}

fuzz: root ## mutate tests/golden/corpus for STOCKADE_FUZZ minutes per target (default 5); every `make test` does some seconds of it
	@deploy/setup.sh --tests
	@STOCKADE_FUZZ=$${STOCKADE_FUZZ:-5} $(BIN)/pytest tests/fuzz $(PYTEST_ARGS)

lint: ## ruff and mypy --strict
	@deploy/setup.sh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/e2e/*.py tests/bench/*.py

format: ## rewrite the Python code as ruff formats it
	@deploy/setup.sh
	$(BIN)/ruff format .

bench: root ## what Stockade costs beside the same work without it (BENCH_ARGS="-o out.json" keeps the numbers)
	@deploy/setup.sh --bench
	@$(BIN)/python tests/bench/bench.py $(BENCH_ARGS)

train: ## the model of the privacy router anew, in an environment of its own (TRAIN_MINUTES, default 240; it goes on where it was stopped)
	@agent/training/setup.sh train
	@cd agent && last=training/out/model/last.pt; nice training/.venv/bin/python -u -m training.train --minutes $${TRAIN_MINUTES:-240} \
	  --out training/out/model $$([ ! -e $$last ] || echo --from $$last --resume)
	@cd agent && training/.venv/bin/python -m training.export training/out/model/best.pt stockade/privacy/model

eval-privacy: ## how well it finds, per category, and Presidio on the same held-out texts in the same run; latency
	@deploy/setup.sh
	@agent/training/setup.sh presidio
	@cd agent && ../$(BIN)/python -m training.evaluation make training/out/eval
	@cd agent && training/.venv-presidio/bin/python -m training.evaluation.presidio training/out/eval 2>training/out/presidio.log || { tail -n 5 training/out/presidio.log >&2; exit 1; }
	@cd agent && ../$(BIN)/python -m training.evaluation report training/out/eval

clean: ## remove the venv and every cache
	rm -rf .venv .vm build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis agent/*.egg-info
	find agent tests policies bpf -name __pycache__ -type d -prune -exec rm -rf {} +

root:
	@[ "$$(id -u)" = 0 ] || { echo "make: this loads BPF and makes namespaces on the live kernel: run it as root (sudo make ...)" >&2; exit 1; }
