package fsm

import (
	"math/rand/v2"
	"strings"
	"testing"

	"lifeboat/fsm/logpb"
)

// lines of an essence that a sequence number alone changes.
func withoutSeq(s string) string {
	var out []string
	for _, l := range strings.Split(s, "\n") {
		if i := strings.Index(l, " seq "); i >= 0 {
			l = l[:i]
		}
		out = append(out, l)
	}
	return strings.Join(out, "\n")
}

// The leader proposes only entries of which Changes says yes: one of which it
// says no must change nothing, or it would be lost.
func TestChangesNeverSaysNoToNews(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	yes, no, idle := 0, 0, 0
	for range 12 {
		m, log := NewMachine(), 0
		apply := func(m *Machine, c *logpb.Command) {
			log++
			c.TimeUnixNs = epochStart + int64(log)*1e8
			m.Apply([]Entry{{Index: uint64(log), Term: 1, Data: encode(t, c)}})
		}
		c := chooser(r.IntN)
		for _, b := range c.setup() {
			apply(m, command(b))
		}
		for range 400 {
			apply(m, command(c.command(m.State())))
			s := m.State()
			h := s.Host("h1")
			if c.odds(2) {
				h = s.Host("h2")
			}
			if h == nil || h.Status == Down || h.Status == Removed {
				continue
			}
			x := c.said(s, h.ID)
			if x.power > PowerStarting {
				continue
			}
			news := s.Changes(h, testVM(x.vm), x.power, x.reason, x.inc, x.refused, x.failed)
			if v := h.VM(testVM(x.vm)); v != nil {
				news = news || s.GuestChanges(v, x.power, x.inc, x.answers) || s.AnswersOrder(h, v, x.power, x.inc, x.order)
			}
			scratch := &Machine{}
			scratch.load(s.clone())
			before := withoutSeq(essence(s))
			rep := &logpb.HostReport{Host: string(h.ID), Epoch: h.Epoch, Seq: h.Seq + 1, Vms: columns(x)}
			cmd := command(&logpb.HostReports{Reports: []*logpb.HostReport{rep}})
			cmd.TimeUnixNs = s.Time
			scratch.Apply([]Entry{{Index: s.Index + 1, Term: 1, Data: encode(t, cmd)}})
			after := withoutSeq(essence(scratch.State()))
			switch {
			case !news && before != after:
				t.Fatalf("Changes says no to %+v from %s, and it changed\n%s\nto\n%s", x, h.ID, before, after)
			case !news:
				no++
			case before == after:
				idle++
			default:
				yes++
			}
		}
	}
	t.Logf("%d entries were news, %d were not, %d were proposed for nothing", yes, no, idle)
	if yes < 500 || no < 500 || idle > yes/2 {
		t.Errorf("the test does not discriminate: %d news, %d not, %d for nothing", yes, no, idle)
	}
}

// An operator resolves the alert of a VM that stands still: the same report again says
// that it is not over.
func TestAStalledVMIsNewsWhenItsAlertIsGone(t *testing.T) {
	l := level4(t)
	l.report("h1", stalledVM(1))
	asks := func() bool {
		return l.state().Changes(l.host("h1"), testVM(1), PowerOn, ReasonIOError, inc(1), 0, 0)
	}
	if asks() {
		t.Error("it is news twice")
	}
	l.ok(&logpb.AlertControl{Action: alertResolve, Match: &logpb.AlertMatch{Causes: []string{"I/O error"}}})
	if !asks() {
		t.Fatal("it is no news that it still stands still")
	}
	l.report("h1", stalledVM(1))
	if l.state().OpenAlert(VMAlert(l.vm(1), "I/O error")) == nil {
		t.Error("nobody is told")
	}
	// While it is being stopped nothing is raised, and the report is no news for ever.
	l.ok(l.control(1, VMStop))
	l.ok(&logpb.AlertControl{Action: alertResolve, Match: &logpb.AlertMatch{Causes: []string{"I/O error"}}})
	if asks() {
		t.Error("it is news for ever while the VM is being stopped")
	}
}
