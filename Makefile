# Everything a user or developer runs. Each target says what it does and can be repeated.
NODE := node_modules/node/bin/node --no-warnings
DATA_DIR ?= $(or $(GANTRY_DATA_DIR),/var/lib/gantry)
export GANTRY_DATA_DIR := $(DATA_DIR)
export NODE_COMPILE_CACHE := $(CURDIR)/node_modules/.cache/node-compile

# Fast tests need nothing but Node; system tests run real etcd, containerd and nftables; e2e tests
# whole clusters under real kubectl.
TESTS := $(NODE) e2e/run-tests.ts
FAST := git ls-files -co --exclude-standard '*.test.ts' ':!:*.system.test.ts'
SYSTEM := git ls-files -co --exclude-standard '*.system.test.ts'
BENCH := store apiserver apiserver-scale scheduler hollow-cluster service-rules pod-start microvm microvm-pods microvm-cluster full-node cluster
E2E := git ls-files -co --exclude-standard '*.e2e.ts'

.PHONY: help setup up down clean demo demo-load test check bench format

help:
	@echo 'make demo       install what is missing, start a cluster, run the demo on it'
	@echo 'make demo-load  drive the demo for 90 s and watch it scale'
	@echo 'make up         start a cluster on this machine; make down stops it, make clean removes its data'
	@echo 'make test       all tests that this machine can run'
	@echo 'make check      types, lint, format and fast tests'
	@echo 'make bench      speed and memory, side by side with the raw floor'

setup:
	@./setup.sh

up: setup
	@./gantry up

down: setup
	@./gantry down

clean: setup
	@./gantry down --remove-data

demo: setup
	@$(NODE) manifests/demo/demo.ts

demo-load: setup
	@$(NODE) manifests/demo/load.ts

check: setup
	@echo 'types, lint, format, fast tests'
	@node_modules/.bin/tsc -p .
	@node_modules/.bin/oxlint --type-aware --quiet
	@node_modules/.bin/biome format .
	@$(TESTS) --concurrency 2 $$($(FAST))

test:
	@./setup.sh test
	@$(MAKE) --no-print-directory check
	@echo 'tests on real parts and real clusters'
	@$(TESTS) $$($(SYSTEM)) $$($(E2E))

bench: setup
	@for program in $(BENCH); do $(NODE) bench/$$program.ts || exit 1; done

format: setup
	@node_modules/.bin/biome format --write .
