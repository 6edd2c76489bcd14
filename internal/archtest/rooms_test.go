package archtest

import (
	"fmt"
	"strings"
	"testing"
)

// room says what of ours a package may import. Test files may import anything.
type room struct {
	is  string
	may []string
	why string
}

// rooms: the first line that matches a package counts.
func rooms() []room {
	return []room{
		{"fsm/logpb", nil,
			"the log outlives every version of the program: its format may depend on nothing that changes"},
		{"fsm/raftfsm", []string{"fsm", "fsm/logpb"},
			"it only carries entries from Raft to the state machine; anything more would run on every replica"},
		{"fsm/archive", []string{"fsm"},
			"a backup is checked offline: it needs the state and nothing that runs"},
		{"fsm", []string{"fsm/logpb"},
			"every replica must compute the same state from the log alone, in every later version"},
		{"ha/...", []string{"ha/...", "fsm", "fsm/logpb"},
			"a decision is a function of state, soft view and time, so that simulator, what-if and replay run the same code"},
		{"exchange", []string{"fsm", "fsm/logpb", "ha", "api/..."},
			"what a report means is a function of state and message, so that simulator and leader run the same code"},
		{"node/...", []string{"exchange", "node/...", "fsm/...", "ha/...", "api/...", "transport/...", "fence", "fence/wire", "notify", "internal/durable", "internal/lifecycle"},
			"drivers of fencing and mail reach a node behind their interfaces, so that a whole cluster runs in virtual time"},
		{"transport/...", []string{"transport/...", "internal/durable"},
			"it moves bytes and names who sent them; knowing what they mean would tie every test of it to the product"},
		{"hypervisor/...", []string{"hypervisor/..."},
			"a driver serves whoever runs domains; who may run which is not its business"},
		{"api/...", []string{"api/..."},
			"other programs build against it; it must not drag the product along"},
		{"agent/session", []string{"api/...", "hypervisor", "hypervisor/domxml"},
			"what an agent decides is pure, so that the simulator runs ten thousand of them"},
		{"agent/...", []string{"agent/...", "api/...", "hypervisor/...", "transport/...", "fence", "fence/wire"},
			"an agent believes what it is told through the API and sees on its host, nothing else; it lends its hands to fence another host (S25), by drivers that the program gives it"},
		{"fence/wire", []string{"fence", "api/..."},
			"managers and agents tell each other what to do with a power controller through the API"},
		{"fence/...", []string{"fence/...", "fsm"},
			"a fence driver returns proof as a value; it neither decides nor commits"},
		{"notify/...", []string{"notify/...", "fsm"},
			"a notifier is told what to say; it neither decides nor commits"},
		{"sim/...", []string{"sim/...", "exchange", "fsm", "fsm/logpb", "ha/...", "agent/session", "api/...", "hypervisor/..."},
			"the simulator is the pure core in virtual time; whatever blocks would stop its clock"},
		{"web/...", []string{"web/...", "api/..."},
			"the page is a client like any other"},
		{"internal/cli", []string{"api/...", "transport/..."},
			"the command line is a client like any other"},
		{"internal/lifecycle", nil,
			"it stops whatever it is given; a component that it knew could keep it from stopping the others"},
		{"internal/durable", nil,
			"it writes files for everybody, whatever they hold"},
		{"internal/usage/...", nil,
			"it reads and writes files of others; what they say is checked offline, and without a cluster"},
		{"internal/archtest", nil,
			"it looks at the others from outside"},
		{"internal/...", []string{"..."},
			"tools of the tests may use everything"},
		{"cmd/...", []string{"..."},
			"the program wires everything"},
	}
}

func TestRoomsImportOnlyWhatTheyMay(t *testing.T) {
	for _, problem := range checkRooms(rooms(), packages(t)) {
		t.Error(problem)
	}
}

func checkRooms(rooms []room, pkgs []*pkg) (problems []string) {
	for _, p := range pkgs {
		r, ok := roomOf(rooms, p.name)
		if !ok {
			problems = append(problems, fmt.Sprintf("%s is in no room: give its folder a line in the table of rooms", p.name))
			continue
		}
		for _, imp := range p.imports {
			if strings.HasPrefix(imp, "+") || matchesAny(r.may, imp) || matchesAny(r.may, "...") {
				continue
			}
			problems = append(problems, fmt.Sprintf("%s imports %s, and may import %s: %s", p.name, imp, orNothing(r.may), r.why))
		}
	}
	return problems
}

func roomOf(rooms []room, name string) (room, bool) {
	for _, r := range rooms {
		if matches(r.is, name) {
			return r, true
		}
	}
	return room{}, false
}

func orNothing(list []string) string {
	if len(list) == 0 {
		return "nothing of ours"
	}
	return "only " + strings.Join(list, ", ")
}

// A program that imports what only tests need carries it to production.
func TestNobodyImportsTestRooms(t *testing.T) {
	tests := []string{"internal/archtest", "internal/lab/...", "internal/labcluster/...", "hypervisor/hvtest", "fence/fencetest", "notify/notifytest"}
	for _, p := range packages(t) {
		if matchesAny(tests, p.name) {
			continue
		}
		for _, dep := range p.deps {
			if matchesAny(tests, dep) {
				t.Errorf("%s depends on %s, which is for tests only", p.name, dep)
			}
		}
	}
}
