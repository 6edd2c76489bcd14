package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"lifeboat/fsm"
	"lifeboat/ha"
	"lifeboat/hypervisor"
	"lifeboat/sim/scenario"
)

// Result is what came of one scenario.
type Result struct {
	File     string    `json:"file"`
	Name     string    `json:"name"`
	Seed     uint64    `json:"seed"`
	Passed   bool      `json:"passed"`
	Virtual  float64   `json:"virtual_seconds"` // on the scenario's clock
	Entries  int       `json:"log_entries"`
	Failures []Failure `json:"failures,omitempty"`
	Story    []string  `json:"-"` // everything that happened
}

// Failure is one expectation or rule that did not hold.
type Failure struct {
	Line     int      `json:"line,omitempty"` // of the file; 0: a rule that always holds
	What     string   `json:"what"`
	Expected string   `json:"expected"`
	Actual   string   `json:"actual"`
	Story    []string `json:"story,omitempty"` // lines that explain it
}

func (w *World) result(seed uint64) *Result {
	r := &Result{File: w.file.Path, Name: w.file.Name, Seed: seed, Virtual: w.clock().Seconds(), Entries: len(w.raft.entries)}
	for _, v := range w.broken {
		r.fail(w, 0, v.Rule, "never", v.Text, v.About...)
	}
	if len(w.broken) == 0 {
		w.expectations(r)
	}
	for _, l := range w.story.lines {
		r.Story = append(r.Story, l.String())
	}
	r.Passed = len(r.Failures) == 0
	return r
}

func (r *Result) fail(w *World, line int, what, expected, actual string, about ...string) {
	f := Failure{Line: line, What: what, Expected: expected, Actual: actual}
	for _, l := range w.story.explain(w.clock(), about...) {
		f.Story = append(f.Story, l.String())
	}
	r.Failures = append(r.Failures, f)
}

func (w *World) expectations(r *Result) {
	e := &w.file.Expect
	s := w.truth.State()
	for _, v := range e.VMs {
		w.expectVM(r, s, v)
	}
	if e.Fenced != nil {
		want, got := slices.Clone(e.Fenced.Names), slices.Clone(w.book.fenced)
		slices.SortFunc(want, ha.Natural)
		slices.SortFunc(got, ha.Natural)
		if !slices.Equal(want, got) {
			r.fail(w, e.Fenced.Line, "fenced", names(want), names(got), append(want, got...)...)
		}
	}
	w.expectAlerts(r)
	for _, c := range e.Work {
		got := w.book.work[c.Of]
		if c.Of == "open" {
			got = 0
			for x := range s.OpenWork() {
				if !x.Type.Moves() {
					got++
				}
			}
		}
		r.count(w, c, "work "+c.Of, got)
	}
	for _, o := range e.Order {
		w.expectOrder(r, o)
	}
	for _, c := range e.Hosts {
		got := 0
		h := w.byHost[c.Of]
		for _, id := range h.ids {
			if h.domains[id].runs() {
				got++
			}
		}
		r.count(w, c, "running on "+c.Of, got, c.Of)
	}
	if e.Refused != nil {
		w.expectRefused(r, e.Refused)
	}
}

func (w *World) expectRefused(r *Result, e *scenario.Refusals) {
	var want, got []string
	for _, x := range e.All {
		want = append(want, x.Text)
	}
	for _, x := range w.refused {
		got = append(got, x.text)
	}
	if !slices.Equal(want, got) {
		r.fail(w, e.Line, "refused", names(want), names(got))
		return
	}
	for i, x := range e.All {
		if why := w.refused[i].why; !strings.Contains(why, x.Why) {
			r.fail(w, x.Line, "why "+x.Text+" is refused", "... "+x.Why+" ...", why)
		}
	}
}

func (w *World) expectAlerts(r *Result) {
	e := &w.file.Expect
	named := map[string]bool{}
	for _, c := range e.Alerts {
		named[c.Of] = true
		_, subject, _ := strings.Cut(c.Of, "/")
		r.count(w, c, "alerts "+c.Of, w.book.alerts[c.Of], subject)
	}
	if !e.AlertsExact {
		return
	}
	var more []string
	for of, n := range w.book.alerts {
		if n > 0 && !named[of] {
			more = append(more, fmt.Sprintf("%s: %d", of, n))
		}
	}
	if slices.Sort(more); len(more) > 0 {
		r.fail(w, e.AlertsLine, "alerts_exact", "no others", strings.Join(more, ", "))
	}
}

// count compares a number.
func (r *Result) count(w *World, c scenario.Count, what string, got int, about ...string) {
	if !slices.Contains(c.Any, got) {
		r.fail(w, c.Line, what, numbers(c.Any), strconv.Itoa(got), about...)
	}
}

func (w *World) expectOrder(r *Result, o scenario.Names) {
	var got []string
	for _, v := range w.book.orders {
		if slices.Contains(o.Names, v) {
			got = append(got, v)
		}
	}
	if !slices.Equal(got, o.Names) {
		r.fail(w, o.Line, "order of starts", strings.Join(o.Names, ", "), names(got), o.Names...)
	}
}

// whereabouts is the truth at the end: where the VM is and what it does.
func (w *World) whereabouts(s *fsm.State, g *guest) (hosts []string, state string) {
	state = "stopped"
	for _, d := range w.copies(g) {
		hosts = append(hosts, d.h.name)
		state = "running"
		if d.state == hypervisor.StatePaused {
			state = "paused"
		}
	}
	if len(hosts) == 0 {
		if _, owner := s.VM(fsm.VMID(g.id)); owner != nil {
			hosts = append(hosts, string(owner.ID))
		}
	}
	return hosts, state
}

func (w *World) expectVM(r *Result, s *fsm.State, v scenario.VMExpect) {
	g := w.byVM[v.Name]
	if g == nil {
		r.fail(w, v.Line, v.Name, "a VM", "it was never added")
		return
	}
	hosts, state := w.whereabouts(s, g)
	about := append([]string{v.Name}, hosts...)
	if len(v.Host) > 0 && (len(hosts) != 1 || !slices.Contains(v.Host, hosts[0])) {
		r.fail(w, v.Line, v.Name+" host", strings.Join(v.Host, " or "), names(hosts), about...)
	}
	if len(v.State) > 0 && !slices.Contains(v.State, state) {
		r.fail(w, v.Line, v.Name+" state", strings.Join(v.State, " or "), state, about...)
	}
	for _, c := range []struct {
		what string
		want []int
		got  int
	}{{"starts", v.Starts, w.book.starts[v.Name]}, {"moves", v.Moves, w.book.moves[v.Name]}, {"incarnations", v.Incarnations, w.book.incarnations[v.Name]}} {
		if c.want != nil && !slices.Contains(c.want, c.got) {
			r.fail(w, v.Line, v.Name+" "+c.what, numbers(c.want), strconv.Itoa(c.got), v.Name)
		}
	}
	if v.Within > 0 {
		w.expectWithin(r, v)
	}
}

func (w *World) expectWithin(r *Result, v scenario.VMExpect) {
	fault, broke := w.book.faultAt[v.Name]
	order, ordered := w.book.orderAt[v.Name]
	switch took := order - fault; {
	case !broke:
		r.fail(w, v.Line, v.Name+" within", v.Within.String(), "no fault has hit it or its host", v.Name)
	case !ordered:
		r.fail(w, v.Line, v.Name+" within", v.Within.String(), "no start was ordered", v.Name)
	case took > v.Within:
		r.fail(w, v.Line, v.Name+" within", v.Within.String(), took.Round(time.Millisecond).String(), v.Name)
	}
}

func names(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

func numbers(list []int) string {
	var out []string
	for _, n := range list {
		out = append(out, strconv.Itoa(n))
	}
	return strings.Join(out, " or ")
}
