# make demo: generate, install and run a project · make test: each promise once · make test-all: everything, as CI does · make test-further: further cases too, as CI does weekly · make soak: try faults at random · make clients: try real clients · make bench: measure the figures · make gpu: try and measure on a GPU · make wheel: build the package · make site: build the documentation · make walk: try what a newcomer does, and write the start page · make reference: write the pages of parameters and commands · make pictures: make those of the README
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
TEMPLATE := {{cookiecutter.project_slug}}
# Not `.`: a cache in the template folder would be copied into projects.
OWN := cookiecutter_dvc_finetune hooks tests bench website
DEMO := demo/my-fine-tune
GIT := git -c user.name=demo -c user.email=demo@example.com

.PHONY: demo test test-all test-further soak clients bench gpu lock wheel site walk reference pictures clean

# Existing files are kept: a second `make demo` finds everything up to date.
demo: $(DEMO)/.venv/ready
	cd $(DEMO) && (git rev-parse -q --verify HEAD >/dev/null || ($(GIT) add . && $(GIT) commit -qm "Start"))
	cd $(DEMO) && PATH="$(CURDIR)/$(DEMO)/.venv/bin:$$PATH" dvc repro
	@cd $(DEMO) && PATH="$(CURDIR)/$(DEMO)/.venv/bin:$$PATH" finetune show
	@echo
	@echo "The report:  $(DEMO)/reports/report.html"
	@echo "The plots:   cd $(DEMO) && .venv/bin/dvc plots show --open"
	@echo "Next:        cd $(DEMO) && . .venv/bin/activate && git add . && git commit -m 'First fine-tune'"
	@echo "             or start with your own data: finetune init FILE && dvc repro"

$(DEMO)/.venv/ready: .venv/ready
	test -d $(DEMO) || $(BIN)/cookiecutter . --no-input --output-dir demo
	$(MAKE) -C $(DEMO) setup

# Three tiers; each runs the tests of the one before it, too. The expression also chooses among the tests of a project.
test: MARKED := not slow and not further
test-all: MARKED := not further
test-further: MARKED :=
test test-all test-further: .venv/ready
	$(BIN)/ruff check --no-cache $(OWN) && $(BIN)/ruff format --no-cache --check $(OWN)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=10 -m '$(MARKED)'

# A thousand random schedules of faults, kills and clocks against the protocol that never pays twice.
soak: $(DEMO)/.venv/ready
	$(MAKE) -C $(DEMO) soak

# OpenAI's SDKs, LiteLLM, LangChain and others, unmodified, against `finetune serve`. CLIENTS=llm tries only that one.
clients: $(DEMO)/.venv/ready
	$(BIN)/python tests/clients/run.py $(CLIENTS)

bench: demo
	$(DEMO)/.venv/bin/python bench/pipeline.py
	$(DEMO)/.venv/bin/python bench/processes.py
	$(DEMO)/.venv/bin/python bench/answering.py
	$(DEMO)/.venv/bin/python bench/generating.py
	$(DEMO)/.venv/bin/python bench/rate_limits.py
	$(DEMO)/.venv/bin/python bench/checking.py
	$(DEMO)/.venv/bin/python bench/large_files.py
	$(DEMO)/.venv/bin/python bench/engine_lists.py
	$(DEMO)/.venv/bin/python bench/load.py
	$(DEMO)/.venv/bin/python -m pip install --quiet trl -c $(DEMO)/constraints.txt -c $(DEMO)/constraints-engine.txt
	$(DEMO)/.venv/bin/python bench/training.py

# On a machine with a GPU: the tests that need one, and training beside TRL's SFTTrainer. TRL is no requirement of a project.
gpu: $(DEMO)/.venv/ready
	$(DEMO)/.venv/bin/python bench/gpu.py --check
	$(DEMO)/.venv/bin/python -m pip install --quiet trl -c $(DEMO)/constraints.txt -c $(DEMO)/constraints-engine.txt
	cd $(DEMO) && .venv/bin/python -m pytest -q -m gpu
	$(DEMO)/.venv/bin/python bench/gpu.py

# Pin exact versions for the generated project, for every system and Python.
lock: .venv/ready
	rm -rf build && $(BIN)/cookiecutter . --no-input --output-dir build >/dev/null
	$(BIN)/python tests/lock.py build/my-fine-tune '$(TEMPLATE)'
	rm -rf build

# The template as a package, in dist/.
wheel: .venv/ready
	$(BIN)/uv build --quiet --clear --out-dir dist

# The documentation, in build/website/site. Its tools are in an environment of their own.
site:
	$(PYTHON) -m venv build/website-tools
	build/website-tools/bin/python -m pip --disable-pip-version-check --quiet install cookiecutter==2.7.1 mkdocs-material==9.8.2
	NO_MKDOCS_2_WARNING=1 build/website-tools/bin/python -B website/build.py

# What a newcomer does, in an empty folder with an empty HOME; its output is docs/start.md. It takes some minutes.
walk:
	$(PYTHON) -B website/walk.py

# docs/params.md and docs/commands.md, by the demo's environment and from today's code.
reference: $(DEMO)/.venv/ready
	rm -rf build/reference && $(BIN)/cookiecutter . --no-input --output-dir build/reference >/dev/null
	cd build/reference/my-fine-tune && PYTHONPATH=. $(CURDIR)/$(DEMO)/.venv/bin/python -B tests/reference.py
	cp build/reference/my-fine-tune/docs/params.md build/reference/my-fine-tune/docs/commands.md '$(TEMPLATE)/docs'
	rm -rf build/reference

# The report needs chromium or google-chrome.
pictures: demo
	$(DEMO)/.venv/bin/python -B website/pictures.py

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip --disable-pip-version-check --quiet install $$($(PYTHON) tests/requirements.py)
	touch $@

clean:
	rm -rf .venv build demo dist
