# make lab         open JupyterLab on chapter 0          make lab ARGS="--no-browser --port 8899"
# make test        everything CI runs
# make test-full   the same and the slow tests
# make test-browser   chapter 1 in a real JupyterLab, in headless Chromium
# make notebooks   rebuild notebooks/ and solutions/*.ipynb from solutions/*.py     make notebooks ARGS=01_gan
# make pretrained  retrain data/pretrained from its seeds (about four hours)        make pretrained ARGS=gan
# make clean       remove the virtual environment
VENV   ?= .venv
PYTHON ?= python3
PY     := $(VENV)/bin/python
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: lab test test-full test-browser notebooks pretrained clean

lab: $(VENV)/.ready
	$(VENV)/bin/jupyter lab $(AS_ROOT) $(ARGS) notebooks/00_start_here.ipynb

test: $(VENV)/.ready-to-test
	$(PY) tools/run_tests.py

test-full: $(VENV)/.ready-to-test
	$(PY) tools/run_tests.py --slow

test-browser: $(VENV)/.ready-to-test
	$(PY) -m pytest -q tests/browser

notebooks: $(VENV)/.ready
	$(PY) tools/build_notebooks.py $(ARGS)

pretrained: $(VENV)/.ready
	$(PY) tools/pretrain.py $(ARGS)

clean:
	rm -rf $(VENV)

# a stamp is written only when the installation went through, so an interrupted one is taken up again
$(VENV)/.ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "The course needs Python 3.10 to 3.13; name one: make lab PYTHON=python3.12"; exit 2; }
	@$(PY) -c 'import sys, pip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || \
	  $(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install -q -r requirements.txt
	touch $@

$(VENV)/.ready-to-test: $(VENV)/.ready requirements-test.txt
	$(PY) -m pip install -q -r requirements-test.txt
	touch $@
