# make run     start the broker            make test     lint, types, tests
# make interop tests with real clients     make docs     regenerate what is generated
# make test-compiled  the tests of what a broker does, with the core compiled, in a virtual environment of its own
# make fuzz    look for inputs that break something: TIME=60 seconds for each target, or for TARGET=packets
# make simulate  twenty clients that are cut off all the time: SEEDS=10000 runs from seed FIRST=0 on, over all cores
# make model   the broker beside a naive model of it, with new examples, for TIME=60 seconds
# make bench   measure the broker beside others (AMQTT=amqtt), in its parts, and as the work grows: most of an hour
# make mutate  break the core in SAMPLE=500 small ways, drawn with SEED=1, and see whether the tests notice
#
# PYTHON=python3.13 chooses the interpreter of a new .venv; ARGS='--port 0' goes to "trio-broker run".

PYTHON ?= python3
ARGS ?=
TIME ?= 60
AMQTT ?= amqtt
TARGET ?=
SEEDS ?= 10000
FIRST ?= 0
SAMPLE ?= 500
SEED ?= 1
VENV := .venv
BIN := $(VENV)/bin
METADATA := setup.cfg pyproject.toml
COMPILED := .venv-compiled
# Without what tests interpreted code alone.
TESTS_COMPILED := $(addprefix tests/,test_compiled.py test_fuzz_corpora.py conformance mqttcore trio_broker) \
    $(addprefix --ignore tests/,mqttcore/authenticators trio_broker/resources trio_broker/tokens)

.PHONY: run test test-compiled interop fuzz simulate model bench mutate docs clean
.DELETE_ON_ERROR:

run: $(VENV)/.installed-broker
	$(BIN)/trio-broker run $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='trio_broker/*'
	$(BIN)/coverage report --include='mqttcore/*' --fail-under=100

# Beside the installed core, not beside its sources, which Python would take instead.
test-compiled: $(COMPILED)/.installed
	rm -rf $(COMPILED)/checkout
	mkdir $(COMPILED)/checkout
	cp -R docs fuzz tests setup.cfg $(COMPILED)/checkout
	cd $(COMPILED)/checkout && MQTTCORE_COMPILE=1 ../bin/python -m pytest -n auto $(TESTS_COMPILED)

interop: $(VENV)/.installed-test
	tests/interop/install
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m interop tests/interop

fuzz: $(VENV)/.installed-fuzz
	$(BIN)/python -m fuzz --time $(TIME) $(TARGET)

simulate: $(VENV)/.installed-test
	$(BIN)/python -m tests.mqttcore.simulation $(SEEDS) --first $(FIRST)

model: $(VENV)/.installed-test
	$(BIN)/python -m tests.mqttcore.broker.long_model $(TIME)

bench: $(VENV)/.installed-bench
	$(BIN)/python -m bench run --amqtt '$(AMQTT)'
	$(BIN)/python -m bench micro
	$(BIN)/python -m bench grow

mutate: $(VENV)/.installed-mutation
	$(BIN)/python -m tests.mutation $(SAMPLE) --seed $(SEED)

docs: $(VENV)/.installed-test
	$(BIN)/python docs/generate_states.py
	$(BIN)/python docs/generate_conformance.py

clean:
	rm -rf $(VENV) $(COMPILED) .interop .fuzz .bench mutants build dist *.egg-info .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(COMPILED)/.installed: setup.py $(METADATA) $(shell find mqttcore trio_broker -name '*.py')
	$(PYTHON) -m venv $(COMPILED)
	rm -rf build
	MQTTCORE_COMPILE=1 $(COMPILED)/bin/python -m pip install --quiet --disable-pip-version-check '.[test]'
	touch $@

# Editable installs, so that an edit is what runs next; the stamps keep repeated runs from installing again.
$(VENV)/.installed-%: $(METADATA) | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@
