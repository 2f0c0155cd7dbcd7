# Everything runs through .venv, which is built from requirements.lock once, and again only when that file or
# pyproject.toml changes or the folder has moved. Paths are relative and tools are started with `python -m`, so that the
# project may lie in a folder with a space in its name.

# Cores for the demo, processes for the tests.
CORES ?= all
WORKERS ?= 2

# The interpreter that .venv is made from: python3 if it is new enough, else the newest of those that are.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# Published studies, each with a config in a full and in a small size, in the order of docs/studies.md.
STUDIES ?= theta theta_unsorted theta_exchangeable theta_simulated tajimas_d tajimas_d_unsorted \
	recombination_rate recombination_rate_tetraploid hotspot hotspot_centre introgression sweep three_epoch

# A folder that may have files that studies read; what it has not is downloaded (resources/get.py).
DATA ?= ../shared/data

# Where pip also looks for torch. PyPI's torch for Linux brings its CUDA libraries (several GB), which a machine
# without a GPU does not need; the smaller CPU build has its own index:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
# The lock names torch's release but none of its CUDA libraries: torch itself asks for exact versions of those, where
# it uses any. So dependencies must be followed here (no --no-deps), and both builds fit the one lock.
TORCH_INDEX ?=

# `make lock LOCK_FLAGS=--upgrade` moves every package to its newest release.
LOCK_FLAGS ?=

VENV := .venv/bin/python
RUN := $(VENV) -m

# Marks .venv as complete. popdl is installed as a link to this folder, so the mark of another folder does not count.
INSTALLED := .venv/installed-$(shell pwd | cksum | cut -d ' ' -f 1)

.DEFAULT_GOAL := help
.PHONY: help demo studies test lint test-conda test-slurm test-torch benchmark soak docs lock clean

help:
	@echo 'make demo         run the default study and say where its report is (CORES=N limits the cores)'
	@echo 'make studies      run the published studies in their small sizes, and write docs/studies.md (an hour or two; full sizes are planned, not run)'
	@echo 'make test         lint and test, the end-to-end run included (WORKERS=N test processes)'
	@echo 'make lint         the static checks of `make test` alone'
	@echo 'make test-conda   run the test study through `snakemake --use-conda` with a stand-in for conda'
	@echo 'make test-slurm   run the test study on a SLURM of one node that fails (needs Debian packages slurm-wlm and munge)'
	@echo 'make test-torch   test networks, training and models with another torch, TORCH=2.6.0 unless told'
	@echo 'make benchmark    measure speed; one JSON object per line, and a table beside dnadna'
	@echo 'make soak         kill, fill, flip and hide things under a small study, and write docs/reliability.md (an hour)'
	@echo 'make docs         rewrite the config schema and docs/config_reference.md from the code'
	@echo 'make lock         resolve requirements.lock again from pyproject.toml'
	@echo 'make clean        remove .venv and caches; results stay'
	@echo
	@echo 'Needs Python 3.11 or newer (PYTHON=path chooses one).'
	@echo 'On Linux without a GPU, TORCH_INDEX=https://download.pytorch.org/whl/cpu saves several GB.'

$(INSTALLED): requirements.lock pyproject.toml
	@test -n '$(PYTHON)' || { echo 'popdl needs Python 3.11 or newer, and found none. Install one, or name it: make PYTHON=/path/to/python3' >&2; exit 2; }
	@test -x .venv/bin/python || '$(PYTHON)' -m venv --clear .venv
	@echo 'Installing what requirements.lock names into .venv: some minutes, once.'
	@$(RUN) pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url '$(TORCH_INDEX)') --requirement requirements.lock
	@$(RUN) pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm -f .venv/installed* && touch $(INSTALLED)

demo: $(INSTALLED)
	$(RUN) snakemake --cores $(CORES)
	@echo 'The report is results/demo/report.html'

studies: $(INSTALLED)
	@$(VENV) resources/get.py $(if $(wildcard $(DATA)),--from '$(DATA)')
	@for study in $(STUDIES); do $(RUN) snakemake --cores $(CORES) --configfile config/$${study}_small.yaml || exit 1; done
	@for study in $(STUDIES); do \
		$(RUN) snakemake plan --cores $(CORES) --configfile config/$$study.yaml || exit 1; \
		$(RUN) snakemake --cores $(CORES) --configfile config/$$study.yaml --dry-run --forceall --quiet rules > results/$$study/dry_run.txt || exit 1; \
	done
	$(RUN) popdl.report.studies $(STUDIES:%=config/%_small.yaml) $(STUDIES:%=config/%.yaml)

lint: $(INSTALLED)
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) snakefmt --check Snakefile workflow/rules
	$(RUN) snakemake --lint

# One file of tests stays in one process, so that what its tests share is made once.
test: lint
	OMP_NUM_THREADS=1 $(RUN) pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test-conda: $(INSTALLED)
	$(RUN) pytest --verbose tests/conda/run_with_conda.py

test-slurm: $(INSTALLED)
	$(RUN) pytest --verbose tests/slurm/run_on_slurm.py

# A torch that is not the lock's comes with its own sympy.
TORCH ?= 2.6.0
test-torch:
	'$(PYTHON)' -m venv --clear build/torch-$(TORCH)
	grep -vE '^(torch|sympy)==' requirements.lock > build/torch-$(TORCH)/requirements.txt
	build/torch-$(TORCH)/bin/python -m pip install --quiet --disable-pip-version-check torch==$(TORCH) --requirement build/torch-$(TORCH)/requirements.txt
	build/torch-$(TORCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	OMP_NUM_THREADS=1 build/torch-$(TORCH)/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile \
		tests/test_model.py tests/test_networks.py tests/test_spidna.py tests/test_heads.py tests/test_losses.py \
		tests/test_optimization.py tests/test_training.py tests/test_transforms.py tests/test_prediction.py

benchmark: $(INSTALLED)
	@$(VENV) benchmarks/_all.py

soak: $(INSTALLED)
	$(VENV) benchmarks/soak.py --write

docs: $(INSTALLED)
	$(RUN) popdl.config.schema

lock:
	'$(PYTHON)' -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	build/lock/bin/python -m uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --fork-strategy fewest \
		--constraints envs/constraints.txt --no-annotate --custom-compile-command 'make lock' --quiet --output-file requirements.lock $(LOCK_FLAGS)
	grep -vE '^(nvidia-|cuda-|triton)' requirements.lock > build/requirements.lock
	mv build/requirements.lock requirements.lock

clean:
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis
