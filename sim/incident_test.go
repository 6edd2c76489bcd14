package sim

import (
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/ha/incident"
)

// What incidents tell is what happened, in every scenario file: no loss is in none of
// them, the time that a VM was down is divided without a gap, and a host that was
// proven dead has one of its own with its proof.
func TestIncidentsAreWhatHappened(t *testing.T) {
	told := 0
	for name, f := range scenarioFiles(t, 40) {
		if len(f.Hosts) > 20 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			w := newWorld(f, 1)
			w.live()
			told += incidentsHold(t, w.truth.State())
		})
	}
	if told < 50 {
		t.Errorf("only %d incidents were looked at", told)
	}
}

func incidentsHold(t *testing.T, s *fsm.State) int {
	all := incident.All(s)
	in, fenced := map[fsm.WorkID]bool{}, map[fsm.EventID]bool{}
	last := fsm.EventID(0)
	for _, i := range all {
		if i.ID <= last {
			t.Errorf("incident %d comes after %d", i.ID, last)
		}
		last = i.ID
		if same, err := incident.Find(s, i.ID); err != nil || same.ID != i.ID {
			t.Errorf("incident %d is not found: %v", i.ID, err)
		}
		if i.Ended != 0 && i.Ended < i.Noticed || i.Begun > i.Noticed || len(i.Events) == 0 || i.Events[0].ID > i.ID || i.What == "" {
			t.Errorf("incident %d: %+v", i.ID, i)
		}
		for _, e := range i.Events {
			if e.Type == "HOST.FENCED" {
				fenced[e.ID] = true
			}
		}
		for k := range i.VMs {
			v := &i.VMs[k]
			in[v.Work] = true
			vmHolds(t, s, v)
			if i.Ended != 0 && v.Back > i.Ended && v.Step == fsm.Done {
				t.Errorf("incident %d ended before %s was back", i.ID, v.Name)
			}
			if _, ok := i.Slowest(); !ok && v.Down > 0 {
				t.Errorf("incident %d: %s was down, and no step is the slowest", i.ID, v.Name)
			}
		}
	}
	for _, w := range s.AllWork() {
		switch {
		case w.Type != fsm.WorkHA || in[w.ID]:
		case w.Cause == fsm.CauseOperator || w.Cause >= fsm.CauseMaintenance: // wanted
		default:
			t.Errorf("work %d for %s (%s on %s) is in no incident", w.ID, w.VMName, w.Cause, w.From)
		}
	}
	for id, e := range s.EventsAfter(0) {
		if e.Type == "HOST.FENCED" && !fenced[id] {
			t.Errorf("%s is in no incident", e.Text)
		}
	}
	return len(all)
}

func vmHolds(t *testing.T, s *fsm.State, v *incident.VM) {
	w := s.Work(v.Work)
	end := w.Ended
	if !w.Step.Ended() {
		end = s.Time
	}
	at, sum := w.Lost, time.Duration(0)
	for _, x := range v.Spans {
		if x.From != at || x.To <= x.From {
			t.Errorf("%s: a gap before %s: %+v", v.Name, x.Phase, v.Spans)
		}
		at = x.To
		sum += time.Duration(x.To - x.From)
	}
	if want := time.Duration(max(end-w.Lost, 0)); sum != want {
		t.Errorf("%s: the spans are %s in all, want %s: %+v", v.Name, sum, want, v.Spans)
	}
	switch {
	case w.Step == fsm.Done && w.Attempt == 0:
		if v.Down != 0 || v.Open {
			t.Errorf("%s was never started again, and was down %s", v.Name, v.Down)
		}
	case w.Step == fsm.Done && (v.Down != sum || v.Open || v.Back != w.Ended || v.Spans[len(v.Spans)-1].Phase != incident.Start):
		t.Errorf("%s was down %s, its spans are %+v", v.Name, v.Down, v.Spans)
	case !w.Step.Ended() && !v.Open:
		t.Errorf("%s waits, and is not down", v.Name)
	}
}
