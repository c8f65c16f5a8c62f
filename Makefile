# Everything a user or developer runs. Each target says what it does and is idempotent.
NODE := node_modules/node/bin/node
DATA_DIR ?= $(or $(GANTRY_DATA_DIR),/var/lib/gantry)
export GANTRY_DATA_DIR := $(DATA_DIR)

.PHONY: setup up down clean demo demo-load test check bench format

setup:
	@./setup.sh

check: setup
	@$(NODE) node_modules/.bin/tsc -p .
	@node_modules/.bin/oxlint --type-aware --quiet
	@node_modules/.bin/biome format .
	@$(NODE) --no-warnings --test $$(git ls-files -co --exclude-standard '*.test.ts')

format:
	@node_modules/.bin/biome format --write .
