# Every target works from a fresh clone on Debian 12 with Go and make.
TAGS    := hashicorpmetrics
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO      := CGO_ENABLED=0 go
SHELL   := /bin/bash -o pipefail
PKGS    := ./...
# Staticcheck 2026.2.2, made for Go 1.26 and 1.27. Not in go.mod: it is no part of the program.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# The last one whose own modules the module proxy has.
NFPM := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0

.PHONY: help build demo fuzz mutation test test-race test-upgrade test-lab lab-demo bench bench-long bench-peers test-storm lint packages test-packages test-units test-deploy test-docs image test-compose generate clean
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: ## bin/lifeboat, static
	$(GO) build -trimpath -tags $(TAGS) -ldflags '-s -w -X main.version=$(VERSION)' -o bin/lifeboat ./cmd/lifeboat

# Without vet: lint has all of it.
test: ## all that needs no root, under 5 minutes
	LIFEBOAT_LAB=0 $(GO) test -vet=off -tags $(TAGS) -timeout 5m $(PKGS)

test-race: ## the same under the race detector
	LIFEBOAT_LAB=0 CGO_ENABLED=1 go test -race -vet=off -tags $(TAGS) -timeout 10m $(PKGS)

fuzz: build ## random worlds and stories with fresh seeds, some minutes
	LIFEBOAT_SEED=fresh $(GO) test -tags $(TAGS) -count 1 ./fsm ./ha ./agent/session -args -rapid.checks=1000
	bin/lifeboat sim fuzz --hosts 30 --vms 100 --hours 2 --runs 50

mutation: ## switch every safety rule off and see that the tests notice; half an hour
	$(GO) run ./internal/mutation -tags $(TAGS) -o docs/mutations.md

SEED := 0
FUZZ := 60s
sim-fuzz: build ## random worlds for a minute, from a seed that is printed; SEED=n for one's own
	bin/lifeboat sim fuzz --for $(FUZZ) --seed $(SEED)

test-upgrade: ## three processes from the previous build to this one and to the next; some minutes, needs the history
	LIFEBOAT_UPGRADE=$${LIFEBOAT_UPGRADE:-1} $(GO) test -v -tags $(TAGS) -count 1 -timeout 15m ./internal/upgrade

LAB_PKGS := ./internal/lab/... ./internal/labcluster/... ./hypervisor/... ./fence/... ./internal/usage/... ./notify/...
test-lab: ## real libvirt hosts with real guests, in namespaces; needs root and deploy/lab/install.sh
	@mkdir -p bin
	LIFEBOAT_LAB=1 $(GO) test -v -vet=off -tags $(TAGS) -count 1 -p 1 -timeout 25m $(LAB_PKGS) 2>&1 | tee bin/test-lab.log | \
		grep --line-buffered -E '^(--- |ok |FAIL|panic:)' || { grep -A 30 -- '--- FAIL' bin/test-lab.log; exit 1; }
	@# Indented ones are parts of the conformance suite that a driver cannot do at all.
	@! grep -- '^--- SKIP' bin/test-lab.log || { echo 'a lab test was skipped here, where none may be (bin/test-lab.log)'; exit 1; }

lab-demo: ## kill hosts of a lab and watch; needs root
	deploy/lab/install.sh
	@$(MAKE) --no-print-directory build
	$(GO) build -trimpath -tags $(TAGS) -o bin/lifeboat-lab ./internal/labcluster/demo
	bin/lifeboat-lab -result bin/lab-result.json

demo: build ## kill a host, then the machine of the leader, and watch; needs nothing else
	bin/lifeboat dev --drill

bench: build ## what the documentation promises about speed, measured here; some minutes
	$(GO) run -tags $(TAGS) ./internal/bench

bench-long: build ## the rest of it: kills under load, 10,000 agents, a million VMs; half an hour
	$(GO) run -tags $(TAGS) ./internal/bench -long

bench-peers: ## our plans beside those of crm_simulate (Debian: pacemaker-cli-utils), some minutes
	$(GO) run -tags $(TAGS) ./internal/bench -peers

STORM_KILLS := 200
test-storm: ## 200 kill -9 under write load, a full disk (as root), agents; a quarter of an hour
	LIFEBOAT_STORM=1 LIFEBOAT_STORM_KILLS=$(STORM_KILLS) $(GO) test -v -tags $(TAGS) -count 1 -timeout 40m ./internal/storm

lint: ## gofmt, vet, staticcheck
	@bad="$$(gofmt -l .)"; test -z "$$bad" || { printf 'gofmt these:\n%s\n' "$$bad"; exit 1; }
	$(GO) vet -tags $(TAGS) $(PKGS)
	$(GO) run $(STATICCHECK) -tags $(TAGS) $(PKGS)

packages: ## deb and rpm for amd64 and arm64, in dist/
	VERSION=$(VERSION) TAGS=$(TAGS) NFPM=$(NFPM) deploy/packages/build.sh

test-packages: ## makes them and installs the deb into a directory
	VERSION=$(VERSION) TAGS=$(TAGS) NFPM=$(NFPM) deploy/packages/test.sh

test-units: ## boots a copy of this machine with the deb; needs root and systemd-nspawn
	VERSION=$(VERSION) TAGS=$(TAGS) NFPM=$(NFPM) deploy/systemd/test.sh

test-docs: ## every command of docs/operations.md, on machines of its own; some minutes, needs root and systemd-nspawn
	LIFEBOAT_DOCS=1 VERSION=$(VERSION) TAGS=$(TAGS) NFPM=$(NFPM) $(GO) test -v -tags $(TAGS) -count 1 -timeout 20m ./internal/docstest

image: ## the image lifeboat:latest of deploy/Dockerfile; needs docker
	VERSION=$(VERSION) TAGS=$(TAGS) deploy/compose/image.sh

test-deploy: test-packages test-units test-compose test-docs ## what becomes of the program on machines; before a release, ten minutes

test-compose: ## three nodes in containers; says so where there is no docker engine
	VERSION=$(VERSION) TAGS=$(TAGS) deploy/compose/test.sh

generate: ## protobuf code; needs protoc
	GOBIN=$(CURDIR)/bin go install google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go
	PATH=$(CURDIR)/bin:$$PATH protoc -I . --go_out=. --go_opt=module=lifeboat fsm/logpb/log.proto
	PATH=$(CURDIR)/bin:$$PATH protoc -I api --go_out=. --go_opt=module=lifeboat --connect-go_out=. --connect-go_opt=module=lifeboat api/lifeboat/v1/agent.proto api/lifeboat/v1/admin.proto api/lifeboat/v1/join.proto

clean:
	rm -rf bin dist
