package archtest

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// ban says what some packages never import. "+path" is not ours.
type ban struct {
	of     []string
	except []string
	never  []string
	direct bool // only what the package itself imports, not what that drags along
	why    string
}

// pureCore is computed from its arguments alone.
func pureCore() []string { return []string{"fsm", "ha/...", "agent/session", "exchange"} }

func bans() []ban {
	return []ban{
		{of: []string{"fsm/...", "ha/...", "node/...", "transport/...", "api/...", "fence/...", "notify/..."},
			never: []string{"+github.com/digitalocean/go-libvirt/...", "+libvirt.org/go/..."},
			why:   "managers speak to agents only: a libvirtd that hangs must not be able to hang the leader"},
		{of: []string{"hypervisor/..."}, except: []string{"hypervisor/libvirt"},
			never: []string{"+github.com/digitalocean/go-libvirt/..."},
			why:   "the hypervisor in memory stands for any hypervisor, and must not inherit what libvirt's library does"},
		{of: []string{"agent/..."}, direct: true,
			never: []string{"+github.com/hashicorp/raft/...", "+github.com/hashicorp/raft-boltdb/...", "+go.etcd.io/bbolt"},
			why:   "a host is no member: it has no vote, and its disk is not where the cluster's state lives"},
		{of: []string{"fsm", "fsm/logpb", "ha/...", "sim/...", "hypervisor/...", "api/..."},
			never: []string{"+github.com/hashicorp/raft/..."},
			why:   "the same code runs without Raft: in the simulator, in what-if questions and in the replay of an incident"},
		{of: pureCore(), direct: true,
			never: []string{"+os/...", "+net/...", "+syscall", "+golang.org/x/sys/...", "+io/fs"},
			why:   "pure code does no I/O: two replicas, or a replay, would see different worlds"},
		{of: pureCore(), direct: true,
			never: []string{"+log/...", "+github.com/hashicorp/go-hclog"},
			why:   "pure code returns what is worth knowing; the caller logs it once, not on every replica and in every what-if"},
		{of: pureCore(), direct: true,
			never: []string{"+sync", "+context"},
			why:   "pure code has no goroutines to protect against and nothing that blocks to cancel"},
		{of: pureCore(), direct: true,
			never: []string{"+crypto/rand", "+math/rand"},
			why:   "chance that cannot be repeated makes replicas differ and failures impossible to replay"},
		// The last two are clients of the cluster, and use that of the command line.
		{of: []string{"..."}, except: []string{"cmd/...", "internal/cli", "internal/storm", "internal/bench"},
			never: []string{"+github.com/alecthomas/kong/..."},
			why:   "flags belong to the program; a package takes a configuration value"},
		{of: []string{"cmd/..."},
			// Not "testing": hashicorp/raft itself imports it.
			never: []string{"+pgregory.net/rapid", "+github.com/google/go-cmp/...", "+github.com/rogpeppe/go-internal/...", "+go.uber.org/goleak", "+github.com/anishathalye/porcupine"},
			why:   "what tests need does not belong on a production machine"},
		{of: []string{"cmd/..."}, never: []string{"+net/http/pprof"},
			why: "it opens the memory of a process that holds keys, and adds itself to every server that takes the default routes"},
	}
}

func TestBannedImports(t *testing.T) {
	for _, problem := range checkBans(bans(), packages(t)) {
		t.Error(problem)
	}
}

func checkBans(bans []ban, pkgs []*pkg) (problems []string) {
	for _, b := range bans {
		for _, p := range pkgs {
			if !matchesAny(b.of, p.name) && !slices.Contains(b.of, "...") || matchesAny(b.except, p.name) {
				continue
			}
			list, verb := p.deps, "depends on"
			if b.direct {
				list, verb = p.imports, "imports"
			}
			for _, imp := range list {
				if matchesAny(b.never, imp) {
					problems = append(problems, fmt.Sprintf("%s %s %s: %s", p.name, verb, strings.TrimPrefix(imp, "+"), b.why))
				}
			}
		}
	}
	return problems
}

// callBan bans names of a package that is imported for others of its names.
type callBan struct {
	importPath string
	never      []string
	only       []string // if set: everything else is banned
	why        string
}

func pureCallBans() []callBan {
	return []callBan{
		{importPath: "time", why: "the time is an argument: a replay at another time must give the same result",
			never: []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Local"}},
		{importPath: "math/rand/v2", why: "chance comes from a generator that the caller seeds, so that a run can be repeated",
			only: []string{"New", "NewPCG", "NewChaCha8", "NewZipf", "Rand", "Source", "PCG", "ChaCha8", "Zipf"}},
		{importPath: "maps", why: "the order of a map differs between replicas: take the keys sorted (slices.Sorted(maps.Keys(m)))",
			never: []string{"All", "Values"}},
	}
}

func TestPureCoreHasNoClockNoChanceNoGoroutines(t *testing.T) {
	for _, p := range packages(t) {
		if !matchesAny(pureCore(), p.name) {
			continue
		}
		for _, f := range p.files {
			for _, problem := range checkPure(f) {
				t.Error(problem)
			}
		}
	}
}

func checkPure(f *file) (problems []string) {
	names := importNames(f.syntax)
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
			problems = append(problems, f.at(n)+" uses goroutines or channels: their order is not in the log, so replicas would differ")
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				return true
			}
			for _, b := range pureCallBans() {
				banned := slices.Contains(b.never, n.Sel.Name) || b.only != nil && !slices.Contains(b.only, n.Sel.Name)
				if names[x.Name] == b.importPath && banned {
					problems = append(problems, fmt.Sprintf("%s uses %s.%s: %s", f.at(n), x.Name, n.Sel.Name, b.why))
				}
			}
		}
		return true
	})
	return problems
}

// importNames maps the names of imported packages in a file to their paths.
func importNames(f *ast.File) map[string]string {
	names := map[string]string{}
	for _, spec := range f.Imports {
		p := strings.Trim(spec.Path.Value, `"`)
		name := p[strings.LastIndex(p, "/")+1:]
		if p == "math/rand/v2" {
			name = "rand"
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = p
	}
	return names
}
