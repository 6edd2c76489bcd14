package ha_test

import (
	"strings"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/ha"
)

// What is said about the worst case holds when a host dies, whenever that is between two
// of its reports.
func TestTheWorstCaseIsOne(t *testing.T) {
	for _, c := range []struct {
		levels []string
		by     string
	}{{[]string{"ipmi", "lease"}, "a power controller that answers at once"}, {[]string{"lease"}, "its self-fence lease"}} {
		for wait := time.Duration(0); wait < time.Second; wait += 170 * time.Millisecond {
			w := newWorld(t, newBox("h1", 1).fenced(c.levels...), newBox("h2"), newBox("h3"))
			d := ha.DeathOf(w.state().Policy, w.host("h1"))
			if d.By != c.by || d.Unarmed {
				t.Fatalf("%+v", d)
			}
			w.advance(10*time.Second + wait)
			ordered := w.ordered(1)
			w.boxes["h1"].die()
			if took := w.must(time.Minute, "a start order", ordered); took > d.Worst {
				t.Errorf("%v: ordered after %s, at the latest it were %s", c.levels, took, d.Worst)
			}
		}
	}
}

func TestObjectiveThatCannotBeKept(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2").fenced("lease"), newBox("h3").fenced("lease"), newBox("h4").fenced())
	power, lease := ha.WorstCase(w.state().Policy)
	for _, c := range []struct {
		objective time.Duration
		want      []string // "" = it can
	}{
		{0, nil},
		{power - time.Second, []string{"recovery_objective: ", "a host is suspect 3s after its last report", "at the latest"}},
		{power, []string{"cannot be kept where only the self-fence lease proves a death (h2, h3)", lease.String()}},
		{lease - 1, []string{"h2, h3"}},
		{lease, nil},
	} {
		p := *w.state().Policy
		p.RecoveryObjective = c.objective
		got := ha.Missed(w.state(), &p)
		if (got == "") != (c.want == nil) {
			t.Errorf("%s: %q", c.objective, got)
		}
		for _, part := range c.want {
			if !strings.Contains(got, part) {
				t.Errorf("%s: %q is not in %q", c.objective, part, got)
			}
		}
	}
	p, err := w.state().Policy.With([]fsm.Setting{{Key: "recovery_objective", Value: "10s"}, {Key: "beat", Value: "2s"}, {Key: "lease", Value: "30s"}, {Key: "takeover", Value: "50s"}})
	if err != nil {
		t.Fatal(err)
	}
	if ha.Missed(w.state(), p) == "" {
		t.Error("with a slower beat the objective is not missed")
	}
}
