# make help        these lines
# make lab         open JupyterLab on chapter 0          make lab ARGS="--no-browser --port 8899"
# make test        the linter, the type checker, every test and every notebook
# make test-full   the same and the slow tests
# make test-browser   chapter 1 in a real JupyterLab, the site and its playground, in headless Chromium
# make notebooks   rebuild notebooks/ and solutions/*.ipynb from solutions/*.py     make notebooks ARGS=01_gan
# make grade       points and feedback for a folder of students' notebooks           make grade SUBMISSIONS=submitted
# make site        the course as a site in build/site, which needs no network to be read
# make gallery     redraw the pictures of the README from the committed weights
# make gpu         every path of a CUDA GPU tried in ten minutes, with a report     make gpu ARGS=--dry-run
# make pretrained  retrain data/pretrained from its seeds (about four hours)        make pretrained ARGS=gan
# make install     makes .venv and installs, no more
# make lock        requirements.lock: every package of requirements.txt and what it needs, with hashes (needs uv)
# make clean       remove the virtual environment
# set on the command line only: a VENV in the environment is somebody else's
VENV   = .venv
PYTHON ?= python3
PY     := "$(VENV)/bin/python"
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
# made by this Makefile and by nothing else: only an environment with this mark is ever cleared or removed
MARK   := .made-by-minigen-make
RANGE  := (3, 10) <= sys.version_info[:2] <= (3, 13)

ifneq ($(words $(VENV)),1)
$(error VENV must be one path without spaces; it is '$(VENV)')
endif

.PHONY: help lab test test-full test-browser notebooks grade site gallery gpu pretrained install lock clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

lab: $(VENV)/.ready
	$(PY) -m jupyterlab $(AS_ROOT) $(ARGS) notebooks/00_start_here.ipynb

test: $(VENV)/.ready-to-test
	$(PY) tools/run_tests.py

test-full: $(VENV)/.ready-to-test
	$(PY) tools/run_tests.py --slow

test-browser: $(VENV)/.ready-to-test
	$(PY) -m pytest -q tests/browser

notebooks: $(VENV)/.ready
	$(PY) tools/build_notebooks.py $(ARGS)

grade: $(VENV)/.ready
	@test -n "$(SUBMISSIONS)" || { echo "Name the folder: make grade SUBMISSIONS=submitted"; exit 2; }
	$(PY) tools/grade.py $(ARGS) "$(SUBMISSIONS)"

site: $(VENV)/.ready-for-site
	$(PY) tools/site/make.py $(ARGS) build/site

gallery: $(VENV)/.ready
	$(PY) tools/gallery.py

gpu: $(VENV)/.ready
	$(PY) tools/gpu_check.py $(ARGS)

pretrained: $(VENV)/.ready
	$(PY) tools/pretrain.py $(ARGS)

install: $(VENV)/.ready

# one file for Linux, macOS and Windows and Python 3.10 to 3.13; what it pins stays until ARGS=--upgrade
lock:
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv"; exit 2; }
	uv pip compile -q --universal --python-version 3.10 --generate-hashes --no-emit-package minigen --no-annotate \
	  --no-emit-index-url --custom-compile-command "make lock" -o requirements.lock $(ARGS) requirements.txt

clean:
	@if [ -f "$(VENV)/$(MARK)" ]; then rm -rf -- "$(VENV)"; \
	elif [ -e "$(VENV)" ] || [ -L "$(VENV)" ]; then \
	  echo "'$(VENV)' was not made by this Makefile, so it is left as it is; remove it yourself if you mean to."; exit 2; \
	else echo "There is no '$(VENV)' to remove."; fi

# a stamp is written only when the installation went through, so an interrupted one is taken up again
$(VENV)/.ready: requirements.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(not $(RANGE))' || \
	  { echo "The course needs Python 3.10 to 3.13; name one: make lab PYTHON=python3.12"; exit 2; }
	@$(PY) -c 'import sys, pip; sys.exit(not $(RANGE))' 2>/dev/null || { \
	  if { [ -e "$(VENV)" ] || [ -L "$(VENV)" ]; } && [ ! -f "$(VENV)/$(MARK)" ]; then \
	    echo "'$(VENV)' is no environment of Python 3.10 to 3.13 and was not made by this Makefile: name another, make lab VENV=PATH"; \
	    exit 2; fi; \
	  rm -rf -- "$(VENV)" && mkdir -p -- "$(VENV)" && touch "$(VENV)/$(MARK)" && "$(PYTHON)" -m venv "$(VENV)"; }
	$(PY) -m pip install -q -r requirements.txt
	touch $@

# what the site and its playground are built with
SITE_NEEDS := tools/site/requirements.txt tools/site/playground/requirements.txt

$(VENV)/.ready-to-test: $(VENV)/.ready requirements-test.txt $(SITE_NEEDS)
	$(PY) -m pip install -q -r requirements-test.txt
	touch $@

$(VENV)/.ready-for-site: $(VENV)/.ready $(SITE_NEEDS)
	$(PY) -m pip install -q $(SITE_NEEDS:%=-r %)
	touch $@
