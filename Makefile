# evenkeel: `make test` is what must hold before anything is merged; the rest is for the work in between.
GO        ?= go
ARGS      ?=
BENCHTIME ?= 1s
FUZZTIME  ?= 1m
export GO

.PHONY: screenshots run demo build test tools lint fmt vet staticcheck policy unit full fuzz fuzz-short bench stress rules microbench cover clean

run: ## serve: make run ARGS="--listen 127.0.0.1:8080 --to http://127.0.0.1:3000"
	$(GO) run ./cmd/evenkeel run $(ARGS)

demo: ## a service, its gateway and the console on loopback
	$(GO) run ./cmd/evenkeel demo

build: ## the binary, without cgo, as it is shipped
	CGO_ENABLED=0 $(GO) build -trimpath -o evenkeel ./cmd/evenkeel

test: tools lint unit full fuzz-short ## everything
	@echo "make test: all of it held"

tools: ## programs that tests run against
	@.ci/tools

lint: fmt vet staticcheck policy ## what can be seen without running

fmt:
	@echo "== gofmt"; bad=$$(gofmt -l .); test -z "$$bad" || { echo "not formatted by gofmt:"; echo "$$bad"; exit 1; }

vet:
	@echo "== go vet"; $(GO) vet ./...

staticcheck:
	@echo "== staticcheck"; $(GO) tool staticcheck ./...

policy: ## the house rules
	@echo "== policy"; $(GO) test .

unit: ## all tests, scripts too, with the race detector
	@.ci/unit

full: ## without the race detector: what must not allocate, and long simulations in full
	@.ci/full

fuzz: ## every fuzz target for FUZZTIME
	@.ci/fuzz each $(FUZZTIME)

fuzz-short:
	@.ci/fuzz total 100

bench: tools ## what evenkeel costs beside HAProxy and nginx: make bench ARGS="--cases h1-100B-64"
	$(GO) run ./bench cost $(ARGS)

stress: tools ## reloads, upgrades, kills and floods with a verdict each: make stress ARGS="--short reloads"
	$(GO) run ./bench stress $(or $(ARGS),all)

rules: ## all of the core rule set's own regression tests against a node
	EVENKEEL_CRS_TESTS=all $(GO) test -count=1 -run TestCoreRuleSet -v ./node

microbench: ## every Go benchmark for BENCHTIME
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...

cover: ## which lines tests reach, as cover.html
	$(GO) test -coverpkg=./... -coverprofile=cover.prof ./...
	$(GO) tool cover -html=cover.prof -o cover.html

screenshots: ## the pictures of the documents, from a running demo
	@.ci/screenshots

clean:
	rm -f evenkeel cover.prof cover.html
