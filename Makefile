# What a developer does with this repository. Needs Go, a C compiler (for the race detector) and make; PostgreSQL and
# PgBouncer are installed if there are none. `make test PACKAGES=./internal/slot/... FLAGS='-run Recut -v'` runs a part of the tests.

GOLANGCI_LINT_VERSION = v2.15.0
GOFUMPT_VERSION = v0.12.0

PACKAGES = ./...
FLAGS =

BIN = .bin
PGTEST = $(BIN)/pgtest
GOLANGCI_LINT = $(BIN)/golangci-lint-$(GOLANGCI_LINT_VERSION)
GOFUMPT = $(BIN)/gofumpt-$(GOFUMPT_VERSION)

.DEFAULT_GOAL = help

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What make test runs of the modules of their own.
MODULES = test-exports test-examples test-manifests test-observe

.PHONY: test
# Many tests wait, for time-outs or for the server, and many packages run their tests twice at the same time: one package for each processor keeps
# all busy. The race detector holds a process up for a second when it ends, which goleak's check makes unnecessary; the tests start some hundred
# processes. test/face takes longest, so it begins first.
test: export GORACE += atexit_sleep_ms=50
test: postgres pgbouncer postgres-versions ## Run all tests under the race detector, against a PostgreSQL of their own or DATABASE_URL
	$(PGTEST) run -- go test -race -count=1 -p $$(nproc 2>/dev/null || echo 2) -timeout 40m $(FLAGS) $(if $(filter ./...,$(PACKAGES)),./test/face) $(PACKAGES)
	@if [ '$(PACKAGES)' = ./... ]; then $(MAKE) --no-print-directory $(MODULES); fi

.PHONY: test-exports
test-exports: postgres ## Run exported migrations through goose, golang-migrate and tern, which are in a module of their own
	cd test/exports && $(abspath $(PGTEST)) run -- go test -count=1 ./...

.PHONY: test-examples
test-examples: postgres ## Run the tests of the examples that are modules of their own
	cd examples/database-sql && $(abspath $(PGTEST)) run -- go test -count=1 ./...

.PHONY: test-manifests
test-manifests: postgres ## Read the manifests of examples/kubernetes as Kubernetes does, and try their probes
	cd test/manifests && go vet ./... && $(abspath $(PGTEST)) run -- go test -count=1 ./...

# Where Chromium, axe-core or Prometheus cannot be installed the tests are skipped, and say so with -v; with CI=true they fail.
.PHONY: test-observe
test-observe: postgres ## Look at the status page in Chromium, and at alerts and dashboard in Prometheus; SHOTS=/tmp/shots keeps pictures
	cd test/observe && go vet ./... && $(abspath $(PGTEST)) run -- go test -count=1 $(FLAGS) ./...

# The packages whose tests, or programs, start a server.
OF_SERVERS = $(shell go list -f '{{$$p := .ImportPath}}{{range .TestImports}}{{if eq . "$(shell go list -m)/test/pgtest"}}{{$$p}}{{end}}{{end}}' ./...)
SERVERS = 14 16 17 18

.PHONY: test-servers
test-servers: postgres pgbouncer postgres-versions ## Run the tests that talk to PostgreSQL with other versions of it; SERVERS='14 18' PACKAGES=./pgcoord
	@for version in $(SERVERS); do \
		echo "PostgreSQL $$version:"; \
		PG_BIN=$$($(PGTEST) where $$version) $(PGTEST) run -- go test -count=1 -timeout 15m $(FLAGS) $(if $(filter ./...,$(PACKAGES)),$(OF_SERVERS),$(PACKAGES)) || exit 1; \
	done

# The modes are pgx's. The tests that assert on settings are skipped, and say so with -v.
HOSTILE_MODES = cache_statement describe_exec exec simple_protocol

.PHONY: test-hostile
test-hostile: postgres ## Run test/face once more as roles whose settings are all hostile, in pgx's modes; HOSTILE_MODES=simple_protocol
	@for mode in $(HOSTILE_MODES); do \
		echo "pgx's mode $$mode:"; \
		HOSTILE=$$mode $(PGTEST) run -- go test -count=1 -timeout 40m $(FLAGS) ./test/face || exit 1; \
	done

.PHONY: test-sql
test-sql: postgres ## Run test/face once more with handlers that use database/sql
	HANDLERS=sql $(PGTEST) run -- go test -count=1 -timeout 40m $(FLAGS) ./test/face

.PHONY: lint
lint: $(GOLANGCI_LINT) $(GOFUMPT) ## Check the formatting and the code: gofumpt, go vet, golangci-lint
	@unformatted=$$($(GOFUMPT) -l .) && if [ -n "$$unformatted" ]; then \
		echo "not formatted, see make fmt:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	$(GOLANGCI_LINT) run --allow-parallel-runners ./...
	cd test/exports && go vet ./...
	cd examples/database-sql && go vet ./...

.PHONY: fmt
fmt: $(GOLANGCI_LINT) $(GOFUMPT) ## Format all Go files
	$(GOFUMPT) -w .
	$(GOLANGCI_LINT) fmt ./...

.PHONY: demo
demo: postgres ## Show processes that join, leave and die while they share a stream of events; SQL=1 shows how it is proved, KEEP=1 goes on
	go run ./test/demo

# In the example's directory, since it may be a module of its own. The server is stopped at the end.
.PHONY: example
example: postgres ## Run an example against a throwaway PostgreSQL; NAME=batches, see examples/README.md
	@cd examples/$(or $(NAME),basic) && $(abspath $(PGTEST)) run -- sh -c '\
		export DATABASE_URL=$$PGTEST_URL TEST_DATABASE_URL=$$PGTEST_URL; if [ -e main.go ]; then go run .; else go test -v .; fi'

.PHONY: bench
bench: postgres ## Measure reading, handling, latency and idle cost beside a plain reader; ONLY=catchup/1x1 EVENTS=100000 ROUNDS=3
	go run ./test/bench

.PHONY: bench-recovery
bench-recovery: postgres ## Measure how soon joins, departures and deaths are noticed; ONLY=kill,join SEED=1 REPETITIONS=50 POLLONLY=1
	go run ./test/recovery

.PHONY: chaos
chaos: postgres ## Kill, freeze, cut and restart while checking the promises; SEED=7 DURATION=60s WORKERS=6 FAULTS=kill,freeze POOLER=1
	go run ./test/chaos

.PHONY: mutants
mutants: postgres ## Take each guard of a promise away and see that a test fails; ONLY=fence-worker,own-session PART=1/4
	$(PGTEST) run -- go run ./test/mutants

.PHONY: model
model: ## Check the models of the protocol with spin, and that each guard is needed; SIZE=ci for the smaller bounds
	test/model/run.sh

.PHONY: postgres
postgres: ## Install the PostgreSQL server if there is none
	@go build -o $(PGTEST) ./test/pgtest/cmd/pgtest
	@$(PGTEST) install

# Where it cannot be installed the tests that need it are skipped; with CI=true they fail.
.PHONY: pgbouncer
pgbouncer: postgres ## Install PgBouncer if there is none
	@$(PGTEST) install pgbouncer || echo 'no PgBouncer: the tests through it are skipped'

# Tests of what differs between versions are skipped where npm cannot install them; with CI=true they fail.
.PHONY: postgres-versions
postgres-versions: postgres ## Install PostgreSQL 14, 16, 17 and 18 for tests of what differs between versions
	@$(PGTEST) install postgresql-14 postgresql-16 postgresql-17 postgresql-18 || echo 'tests with other versions of PostgreSQL are skipped'

.PHONY: clean
clean: ## Remove the programs that make has built
	rm -rf $(BIN)

# The tools are built once per version, each in its module's own dependencies.
$(GOLANGCI_LINT):
	GOBIN='$(CURDIR)/$(BIN)' go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@mv $(BIN)/golangci-lint $@

$(GOFUMPT):
	GOBIN='$(CURDIR)/$(BIN)' go install mvdan.cc/gofumpt@$(GOFUMPT_VERSION)
	@mv $(BIN)/gofumpt $@
