package fsm

import (
	"strings"
	"testing"

	"lifeboat/fsm/logpb"
)

// Check must find what is broken: a state is broken by hand in every way, and
// the complaint must name the rule.
func TestCheckFindsWhatIsBroken(t *testing.T) {
	host := func(s *State, id HostID, f func(h *Host)) { h := edit(s.Host(id)); f(h); s.hosts.set(id, h) }
	vm := func(s *State, f func(v *VM)) {
		v, h := s.VM(testVM(1))
		x := *v
		f(&x)
		host(s, h.ID, func(h *Host) { h.VMs = append([]VM(nil), h.VMs...); i, _ := h.find(testVM(1)); h.VMs[i] = x })
	}
	work := func(s *State, f func(w *Work)) {
		for id, w := range s.work.all() {
			x := *w
			f(&x)
			s.work.set(id, &x)
			return
		}
	}
	order := func(s *State, id HostID, f func(o *Order)) {
		host(s, id, func(h *Host) {
			x := *h.Orders[0]
			f(&x)
			h.Orders = append([]*Order{&x}, h.Orders[1:]...)
		})
	}
	for name, tc := range map[string]struct {
		rule  string
		spoil func(s *State)
	}{
		"owner index points elsewhere":  {"S2", func(s *State) { s.owner.set(testVM(1), "h1") }},
		"owner index lost":              {"S2", func(s *State) { s.owner.delete(testVM(1)) }},
		"owner of nothing":              {"S2", func(s *State) { s.owner.set(testVM(77), "h1") }},
		"VM on two hosts":               {"S2", func(s *State) { v, _ := s.VM(testVM(1)); host(s, "h3", func(h *Host) { h.VMs = []VM{*v} }) }},
		"VMs out of order":              {"S2", func(s *State) { host(s, "h1", func(h *Host) { h.VMs = []VM{h.VMs[1], h.VMs[0]} }) }},
		"gone and on":                   {"S2", func(s *State) { vm(s, func(v *VM) { v.Gone, v.Power = true, PowerOn }) }},
		"restarting what is gone":       {"S2", func(s *State) { vm(s, func(v *VM) { v.Gone = true }) }},
		"protected without incarnation": {"S1", func(s *State) { vm(s, func(v *VM) { v.Incarnation = 0 }) }},
		"incarnation behind its work":   {"S1", func(s *State) { vm(s, func(v *VM) { v.Incarnation = inc(1) }) }},
		"order of another incarnation":  {"S3", func(s *State) { order(s, "h2", func(o *Order) { o.Incarnation = inc(1) }) }},
		"order of another epoch":        {"S4", func(s *State) { order(s, "h2", func(o *Order) { o.Epoch = 7 }) }},
		"order of another boot":         {"S4", func(s *State) { order(s, "h2", func(o *Order) { o.BootID = "b7" }) }},
		"start order on another host": {"S2", func(s *State) {
			host(s, "h3", func(h *Host) { o := *s.Host("h2").Orders[0]; o.ID = OrderID(s.seq); h.Orders = []*Order{&o} })
		}},
		"restarting without an order":   {"S4", func(s *State) { host(s, "h2", func(h *Host) { h.Orders = nil }) }},
		"order twice":                   {"S4", func(s *State) { host(s, "h2", func(h *Host) { h.Orders = append(h.Orders, h.Orders[0]) }) }},
		"order with a used id":          {"ids", func(s *State) { order(s, "h2", func(o *Order) { o.ID = OrderID(firstAlert(s)) }) }},
		"order never minted":            {"ids", func(s *State) { order(s, "h2", func(o *Order) { o.ID = OrderID(s.seq + 1) }) }},
		"destroy what is granted":       {"S6", func(s *State) { s.Level = FeatureLevel; order(s, "h1", func(o *Order) { o.Incarnation = inc(2) }) }},
		"destroy nothing in particular": {"S6", func(s *State) { order(s, "h1", func(o *Order) { o.Incarnation = 0 }) }},
		"fenced without proof":          {"S9", func(s *State) { host(s, "h1", func(h *Host) { h.Proof = nil }) }},
		"up while a fence flies": {"S10", func(s *State) {
			host(s, "h3", func(h *Host) { h.Attempt = &Attempt{Open: true, Until: s.Time + 1} })
		}},
		"lease while disarmed":  {"S12", func(s *State) { s.Armed = false }},
		"lease of another boot": {"S12", func(s *State) { host(s, "h3", func(h *Host) { h.BootID = "b7" }) }},
		"lease without a level": {"S12", func(s *State) { host(s, "h3", func(h *Host) { h.Fence = nil }) }},
		"lease of no time":      {"S12", func(s *State) { host(s, "h3", func(h *Host) { l := *h.Lease; l.DurationNS = 0; h.Lease = &l }) }},
		"lease after a goodbye": {"S16", func(s *State) { host(s, "h3", func(h *Host) { h.Status = Disconnected }) }},
		"up and fencing":        {"hosts", func(s *State) { host(s, "h3", func(h *Host) { h.HA = HAFencing }) }},
		"no resource state":     {"hosts", func(s *State) { host(s, "h3", func(h *Host) { h.Resource = 0 }) }},
		"removed and owning":    {"hosts", func(s *State) { host(s, "h1", func(h *Host) { h.Status, h.HA = Removed, HADisabled }) }},
		"never registered":      {"hosts", func(s *State) { host(s, "h3", func(h *Host) { h.Epoch = 0 }) }},
		"since tomorrow":        {"S21", func(s *State) { host(s, "h3", func(h *Host) { h.Since = s.Time + 1 }) }},
		"two open works": {"work", func(s *State) {
			s.work.set(WorkID(s.seq), &Work{ID: WorkID(s.seq), VM: testVM(1), Type: WorkHA, Step: Scheduled, Cause: CauseCrash})
		}},
		"open work not counted": {"work", func(s *State) { s.open.delete(testVM(1)) }},
		"work that is over":     {"work", func(s *State) { work(s, func(w *Work) { w.Step, w.Outcome, w.Ended = Done, "x", 1 }) }},
		"work without a type":   {"work", func(s *State) { work(s, func(w *Work) { w.Type = 0 }) }},
		"ended without outcome": {"work", func(s *State) { work(s, func(w *Work) { w.Step = Done }) }},
		"VM forgets its work":   {"work", func(s *State) { vm(s, func(v *VM) { v.Work = 0 }) }},
		"lost for ever":         {"work", func(s *State) { vm(s, func(v *VM) { v.Work, v.Gone = 0, true }) }},
		"in error and at work":  {"work", func(s *State) { vm(s, func(v *VM) { v.Error = "x" }) }},
		"alert open twice":      {"alerts", func(s *State) { a := *s.Alert(firstAlert(s)); a.ID = AlertID(s.seq); s.alerts.set(a.ID, &a) }},
		"alert not found":       {"alerts", func(s *State) { s.raised.delete(s.Alert(firstAlert(s)).Key) }},
		"alert of no event":     {"alerts", func(s *State) { a := *s.Alert(firstAlert(s)); a.Count = 0; s.alerts.set(a.ID, &a) }},
		"event from the future": {"S21", func(s *State) {
			s.events.set(EventID(s.seq), &Event{ID: EventID(s.seq), Type: "X", Text: "x", Time: s.Time + 1})
		}},
		"event never minted":     {"ids", func(s *State) { s.events.set(1<<40, &Event{ID: 1 << 40, Type: "X", Text: "x"}) }},
		"node in no state":       {"nodes", func(s *State) { s.nodes.set("n1", &Node{ID: "n1"}) }},
		"brake without a reason": {"S17", func(s *State) { s.brakes.set("rack a", Brake{}) }},
		"invalid policy":         {"policy", func(s *State) { p := *s.Policy; p.Takeover = 1; s.Policy = &p }},
		"no generation":          {"S1", func(s *State) { s.Generation = 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			l := fleet(t, 3, 2)
			l.kill("h1", "h2") // VM 1 restarts on h2, VM 2 waits, h1 has a tombstone order
			s := l.state().clone()
			s.seq++ // an id that nobody has
			if err := s.Check(); err != nil {
				t.Fatal(err)
			}
			if name == "VMs out of order" {
				l = fleet(t, 3, 2)
				s = l.state().clone()
			}
			tc.spoil(s)
			err := s.Check()
			if err == nil || !strings.Contains("\n"+err.Error(), "\n"+tc.rule+": ") {
				t.Fatalf("want a complaint about %s, got %v", tc.rule, err)
			}
		})
	}
}

func firstAlert(s *State) AlertID {
	for _, id := range s.raised.all() {
		return id
	}
	return 0
}

func TestCheckComparesTheRollingDigest(t *testing.T) {
	l := fleet(t, 2, 1)
	if err := l.m.Check(); err != nil {
		t.Fatal(err)
	}
	h := l.state().Host("h2")
	h.Reason = "written behind the machine's back" // what nobody must do
	err := l.m.Check()
	if err == nil || !strings.Contains(err.Error(), "digest: ") {
		t.Fatalf("%v", err)
	}
}

func TestCanaryCarriesTheDigest(t *testing.T) {
	l := fleet(t, 2, 1)
	l.kill("h1", "h2")
	sum := l.state().Sum()
	l.ok(&logpb.Canary{Node: "n1", Term: 1, Seq: 1})
	if d := l.state().Digest; d.Sum != sum || d.Index != l.index {
		t.Fatalf("digest %+v at index %d, want %016x", d, l.index, sum)
	}
}

// A snapshot from elsewhere may say that any number of ids was given.
func TestCheckBearsAnyNumberOfIDs(t *testing.T) {
	s := *fleet(t, 1, 1).state()
	s.seq = 1<<64 - 1
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}
