package dev

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor/mem"
)

// past builds a journal by seconds.
type past struct {
	g      *guest
	j      journal
	deaths []Death
}

func newPast() *past { return &past{g: guests([]string{"h1", "h2", "h3", "h4"})[0]} }

func at(seconds float64) time.Time {
	return time.Unix(1000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

func (p *past) note(seconds float64, host string, kind mem.JournalKind) *past {
	p.j = append(p.j, mem.JournalEntry{Time: at(seconds), Host: host, UUID: p.g.id, Name: p.g.name, Kind: kind})
	return p
}

func (p *past) death(seconds float64, host string) *past {
	p.deaths = append(p.deaths, Death{Host: host, Begin: at(seconds - 0.1), End: at(seconds)})
	return p
}

// What must be noticed, and what must not be taken for it.
func TestTwoCopiesAreNoticed(t *testing.T) {
	for name, tc := range map[string]struct {
		p     *past
		twice bool
		where string
	}{
		"lost with its host, started elsewhere": {p: newPast().note(1, "h1", mem.Started).death(5, "h1").note(6, "h2", mem.Started), where: "h2"},
		"started before the old host was dead":  {p: newPast().note(1, "h1", mem.Started).death(5, "h1").note(4.9, "h2", mem.Started), twice: true, where: "h2"},
		"started while nothing had died":        {p: newPast().note(1, "h1", mem.Started).note(4, "h2", mem.Started), twice: true, where: "h2"},
		"a third copy, long after":              {p: newPast().note(1, "h1", mem.Started).note(2, "h1", mem.Stopped).note(3, "h2", mem.Started).note(9, "h3", mem.Started), twice: true, where: "h3"},
		"stopped, then started elsewhere":       {p: newPast().note(1, "h1", mem.Started).note(2, "h1", mem.Stopped).note(3, "h2", mem.Started), where: "h2"},
		"restarted in place":                    {p: newPast().note(1, "h1", mem.Started).note(2, "h1", mem.Stopped).note(3, "h1", mem.Started), where: "h1"},
		"a host that died before it came":       {p: newPast().death(0.5, "h1").note(1, "h1", mem.Started), where: "h1"},
		"a host that died twice":                {p: newPast().note(1, "h1", mem.Started).death(2, "h1").note(3, "h1", mem.Started).death(4, "h1").note(5, "h2", mem.Started), where: "h2"},
		"refused starts are none":               {p: newPast().note(1, "h1", mem.Started).note(2, "h2", mem.Refused), where: "h1"},
		"nowhere":                               {p: newPast().note(1, "h1", mem.Started).death(2, "h1")},
		"a stop it had before counts":           {p: newPast().note(1, "h1", mem.Started).note(2, "h1", mem.Stopped).death(5, "h1").note(3, "h2", mem.Started), where: "h2"},
	} {
		t.Run(name, func(t *testing.T) {
			stays := tc.p.j.stays(tc.p.g.id, tc.p.deaths)
			if a, b, twice := overlap(stays); twice != tc.twice {
				t.Errorf("ran twice: %v (%v and %v), want %v", twice, a, b, tc.twice)
			}
			if s, _ := tc.p.j.where(tc.p.g.id, tc.p.deaths); s.Host != tc.where {
				t.Errorf("runs on %q, want %q", s.Host, tc.where)
			}
			if problems := checkOverlaps([]*guest{tc.p.g}, tc.p.j, tc.p.deaths); (len(problems) > 0) != tc.twice {
				t.Errorf("the drill says %q", problems)
			}
		})
	}
}

func TestJournalIsReadWhileItIsWritten(t *testing.T) {
	var text []byte
	for _, e := range newPast().note(1, "h1", mem.Started).note(2, "h1", mem.Stopped).j {
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		text = append(append(text, line...), '\n')
	}
	for cut := range text {
		j, err := parseJournal(text[:cut])
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if want := slices.Index(text, '\n') + 1; cut >= want != (len(j) == 1) {
			t.Fatalf("cut at %d: %d entries", cut, len(j))
		}
	}
	if j, err := parseJournal(text); err != nil || len(j) != 2 || j[1].Kind != mem.Stopped || j[0].UUID != guests([]string{"h1"})[0].id {
		t.Errorf("whole: %v, %v", j, err)
	}
	if _, err := parseJournal([]byte("nonsense\n")); err == nil {
		t.Error("nonsense is a journal")
	}
	if j, err := readJournal(t.TempDir() + "/none"); err != nil || j != nil {
		t.Errorf("a journal that is not there yet: %v, %v", j, err)
	}
}

func FuzzParseJournal(f *testing.F) {
	f.Add([]byte("{\"host\":\"h1\"}\n{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		j, err := parseJournal(text)
		if err == nil {
			j.stays(guests([]string{"h1"})[0].id, []Death{{Host: "h1"}})
		}
	})
}

// A cluster that tells what is not so must not pass.
func TestPlacesAreComparedWithWhatHappened(t *testing.T) {
	p := newPast().note(1, "h1", mem.Started)
	good := func() *pb.VMView {
		return &pb.VMView{Id: p.g.id.String(), Name: p.g.name, Host: "h1", Power: "PowerOn", Protected: true}
	}
	for name, tc := range map[string]struct {
		change func(*pb.VMView)
		twice  bool
		dead   bool
		bad    bool
	}{
		"all is well":            {},
		"on another host":        {change: func(v *pb.VMView) { v.Host = "h2" }, bad: true},
		"off to the cluster":     {change: func(v *pb.VMView) { v.Power = "PowerOff" }, bad: true},
		"work is still open":     {change: func(v *pb.VMView) { v.WorkId = 7 }, bad: true},
		"no longer protected":    {change: func(v *pb.VMView) { v.Protected = false }, bad: true},
		"unknown to it":          {change: func(v *pb.VMView) { v.Id = "" }, bad: true},
		"two owners":             {twice: true, bad: true},
		"it does not really run": {dead: true, bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			v := good()
			if tc.change != nil {
				tc.change(v)
			}
			vms := []*pb.VMView{v}
			if tc.twice {
				vms = append(vms, good())
			}
			var deaths []Death
			if tc.dead {
				deaths = []Death{{Host: "h1", End: at(2)}}
			}
			if problems := checkPlaces([]*guest{p.g}, vms, p.j, deaths); (len(problems) > 0) != tc.bad {
				t.Errorf("problems %q, want some: %v", problems, tc.bad)
			}
		})
	}
}

func TestStartsAreCountedByRound(t *testing.T) {
	p := newPast()
	lost := []lostVM{{guest: p.g, from: "h1"}}
	for name, tc := range map[string]struct {
		j    journal
		lost []lostVM
		bad  bool
	}{
		"once":           {j: newPast().note(1, "h1", mem.Started).note(6, "h2", mem.Started).j, lost: lost},
		"never":          {j: newPast().note(1, "h1", mem.Started).j, lost: lost, bad: true},
		"twice":          {j: newPast().note(6, "h2", mem.Started).note(7, "h2", mem.Stopped).note(8, "h3", mem.Started).j, lost: lost, bad: true},
		"without reason": {j: newPast().note(6, "h2", mem.Started).j, bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			d := &drill{room: &Room{guests: []*guest{p.g}}, rounds: []*round{{fault: at(5), lost: tc.lost}}}
			if problems := d.checkStarts(tc.j, nil); (len(problems) > 0) != tc.bad {
				t.Errorf("problems %q, want some: %v", problems, tc.bad)
			}
		})
	}
}

func TestAlertsAndWorkAreCounted(t *testing.T) {
	p := newPast()
	d := &drill{room: &Room{guests: []*guest{p.g}}, rounds: []*round{{hosts: []string{"h1"}, lost: []lostVM{{guest: p.g}}}}}
	down := func(resolved int64) *pb.AlertView {
		return &pb.AlertView{Type: "HOST", Subject: "h1", Cause: "down", ResolvedUnixNs: resolved}
	}
	for name, tc := range map[string]struct {
		alerts []*pb.AlertView
		bad    bool
	}{
		"one, resolved":  {alerts: []*pb.AlertView{down(1)}},
		"none":           {bad: true},
		"still open":     {alerts: []*pb.AlertView{down(0)}, bad: true},
		"two":            {alerts: []*pb.AlertView{down(1), down(1)}, bad: true},
		"twice the same": {alerts: []*pb.AlertView{down(1), {Type: "VM", Subject: "x", Cause: "c"}, {Type: "VM", Subject: "x", Cause: "c"}}, bad: true},
		"other subjects": {alerts: []*pb.AlertView{down(1), {Type: "VM", Subject: "x", Cause: "c"}, {Type: "VM", Subject: "y", Cause: "c"}}},
		"a second copy":  {alerts: []*pb.AlertView{down(1), {Type: "VM", Subject: "x", Cause: "duplicate on h3", ResolvedUnixNs: 1}}, bad: true},
	} {
		if problems := d.checkAlerts(tc.alerts); (len(problems) > 0) != tc.bad {
			t.Errorf("%s: problems %q, want some: %v", name, problems, tc.bad)
		}
	}
	done := &pb.WorkView{VmName: p.g.name, EndedUnixNs: 1}
	for name, tc := range map[string]struct {
		work []*pb.WorkView
		bad  bool
	}{
		"one, done":  {work: []*pb.WorkView{done}},
		"none":       {bad: true},
		"two":        {work: []*pb.WorkView{done, done}, bad: true},
		"still open": {work: []*pb.WorkView{{VmName: p.g.name}}, bad: true},
	} {
		if problems := d.checkWork(tc.work); (len(problems) > 0) != tc.bad {
			t.Errorf("%s: problems %q, want some: %v", name, problems, tc.bad)
		}
	}
	if compareDigests(7, map[string]string{"n1": "a", "n2": "a"}) != nil || compareDigests(7, map[string]string{"n1": "a", "n2": "b"}) == nil {
		t.Error("digests are not compared")
	}
}
