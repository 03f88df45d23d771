# Two commands on a machine with only Python >= 3.11, make and a network for packages:
#   make study   set up and run the embedded study; ends with the path of the report
#   make test    set up and run all tests
# A third shows the page that animates what you bring: make serve
PYTHON ?= python3
STUDY ?= inputs/demo.yaml
UV := $(or $(shell command -v uv),.uv/bin/uv)
export UV_PYTHON_DOWNLOADS := never
# Kernels and workers are many short processes: without compiled files each compiles its imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: study test serve setup lint types colab audit fuzz kills load clean

study: .venv/ready
	.venv/bin/studykit run $(STUDY)

# Other programs take part in hundreds of tests (browsers, a proxy, workers that are killed). What fails
# once and then passes is listed as RERUN; what fails twice has failed.
test: .venv/ready
	.venv/bin/python -m pytest tests notebooks --nbval-lax --numprocesses auto --dist loadfile \
	  --reruns 1 -rfER

serve: .venv/ready
	.venv/bin/studykit serve

setup: .venv/ready

# uv makes the environment that uv.lock describes; where it is not installed, it comes from PyPI.
.venv/ready: pyproject.toml uv.lock $(filter .uv/bin/uv,$(UV))
	$(UV) sync --frozen --python $(PYTHON) --extra fomm
	touch $@

.uv/bin/uv:
	$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and 'studykit needs Python 3.11 to 3.13: name one with make PYTHON=...')"
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet uv

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# Are the modules whose names `import studykit` offers typed, and free of type errors?
types: .venv/ready
	.venv/bin/mypy

# Does the install cell for Colab fit what Colab has installed? (needs a network)
colab: .venv/ready
	for version in 3.12 3.13; do \
	  $(UV) pip compile pyproject.toml --extra fomm --constraint colab-constraints.txt \
	    --python-version $$version --quiet --output-file /dev/null || exit 1; \
	  echo "Colab on Python $$version: resolved"; \
	done

# Is there a known vulnerability in what uv.lock names? (needs a network, for the database)
audit: $(filter .uv/bin/uv,$(UV))
	$(UV) export --frozen --quiet --all-extras --all-groups --no-emit-project --no-hashes \
	  --output-file .audit.txt
	$(UV) tool run pip-audit --disable-pip --no-deps --strict --requirement .audit.txt; \
	  status=$$?; rm -f .audit.txt; exit $$status

# For a night: random damage to what people hand in, and kill -9 at random moments.
fuzz: .venv/ready
	.venv/bin/python -m tests.attacks.fuzz --cases 2000

kills: .venv/ready
	.venv/bin/python -m tests.attacks.kills

# 500 raters at once on the real server, for five minutes.
load: .venv/ready
	.venv/bin/python -m tests.load.raters

clean:
	rm -rf .venv .uv dist .mypy_cache .pytest_cache .ruff_cache
