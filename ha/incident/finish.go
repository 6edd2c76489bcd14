package incident

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"lifeboat/fsm"
)

// finish works out what follows from the events and the work of an incident.
func (g *gathering) finish(i *Incident) {
	works := g.works[i]
	host := slices.Clone(i.Events)
	end, goes := i.proven, i.hosted && i.proven == 0
	if goes && i.over != 0 {
		end, goes = i.over, false
	}
	for _, x := range works {
		mine := g.about(x)
		i.Events = append(i.Events, mine...)
		v := g.vm(i, x, host, mine)
		i.VMs = append(i.VMs, v)
		if x.w.Lost != 0 {
			i.Begun = min(i.Begun, x.w.Lost)
		}
		goes = goes || !x.w.Step.Ended()
		end = max(end, x.w.Ended)
	}
	if h := g.s.Host(i.Host); i.hosted && h != nil && g.open[i.Host] == i && h.Silent != 0 {
		i.Begun = min(i.Begun, h.Silent)
	}
	if !goes {
		i.Ended = end
	}
	slices.SortFunc(i.Events, func(a, b *fsm.Event) int { return cmp.Compare(a.ID, b.ID) })
	i.Events = slices.CompactFunc(i.Events, func(a, b *fsm.Event) bool { return a.ID == b.ID })
	if i.hosted {
		i.What = i.outcome()
	}
	i.Steps = i.steps(g.s.Time)
	i.Alerts = g.alerts(i)
}

// outcome says what became of a host in a few words.
func (i *Incident) outcome() string {
	switch {
	case i.down == 0 && i.rebooted:
		return "rebooted"
	case i.down == 0 && i.degraded && i.over == 0:
		return "silent, not proven dead"
	case i.down == 0 && i.over == 0:
		return "silent"
	case i.down == 0:
		return "silent, and heard again"
	case i.proven == 0 && i.over == 0:
		return "down, not proven dead yet"
	case i.proven == 0:
		return "taken to be down, and back"
	}
	return "dead"
}

// about are the events of an item of work. From level 4 on they name the one that
// opened it; those that do not are the ones about its VM in its time.
func (g *gathering) about(x item) (out []*fsm.Event) {
	first := fsm.EventID(x.w.ID)
	if x.opened != nil {
		first = x.opened.ID
	}
	for _, e := range g.told["vm "+x.w.VMName] {
		switch {
		case e.ID < first || e.Start != 0 && e.Start != x.w.Begun:
		case x.w.Ended != 0 && e.Time > x.w.Ended:
			return out
		case e.Type == "WORK.OPEN" && (x.opened == nil || e.ID != x.opened.ID):
		case strings.HasPrefix(e.Type, "WORK.") || strings.HasPrefix(e.Type, "VM."):
			out = append(out, e)
			if e.Type == "WORK.DONE" || e.Type == "WORK.ERROR" || e.Type == "WORK.CANCEL" {
				return out // what follows at the same time is about other work
			}
		}
	}
	return out
}

// vm works out what an incident meant for the VM of an item of work.
func (g *gathering) vm(i *Incident, x item, host, mine []*fsm.Event) VM {
	w := x.w
	v := VM{ID: w.VM, Name: w.VMName, Work: w.ID, Cause: w.Cause, Step: w.Step, From: w.From, Target: w.Target, Starts: w.Attempt,
		Lost: w.Lost, Outcome: w.Outcome}
	all := append(slices.Clone(host), mine...)
	if w.From != i.Host { // it died on top: see the rule for HostDown in work
		for _, other := range g.hosts[w.From] {
			if other.down >= w.Created && (w.Ended == 0 || other.down <= w.Ended) {
				all = append(all, onlyDeath(other.Events)...)
			}
		}
	}
	slices.SortFunc(all, func(a, b *fsm.Event) int { return cmp.Compare(a.ID, b.ID) })
	v.Spans = spans(w, all, g.s.Time)
	for _, e := range mine {
		if e.Type == "WORK.WAIT" || e.Type == "VM.START.FAIL" || e.Type == "VM.WITHDRAW" {
			v.Waits = append(v.Waits, e.Text)
		}
	}
	if !w.Step.Ended() && w.Reason != "" {
		v.Waits = append(v.Waits, w.Reason)
	}
	switch {
	case w.Step == fsm.Done && w.Attempt > 0:
		v.Back = w.Ended
	case w.Step == fsm.Done, w.Step == fsm.Error && w.Cause.Hang() && w.Attempt == 0:
		return v // it never stopped, or was found where it runs: the outcome says so
	case w.Step == fsm.Cancelled:
		v.Down = time.Duration(w.Ended - w.Lost) // from then on it was not to run
		return v
	case w.Step == fsm.Error:
		v.Back = g.mended(w)
	}
	if v.Open = v.Back == 0; v.Open {
		v.Down = time.Duration(max(g.s.Time-w.Lost, 0))
	} else {
		v.Down = time.Duration(max(v.Back-w.Lost, 0))
	}
	return v
}

func onlyDeath(events []*fsm.Event) (out []*fsm.Event) {
	for _, e := range events {
		if e.Type == "HOST.DOWN" || e.Type == "HOST.FENCED" {
			out = append(out, e)
		}
	}
	return out
}

// mended is when a VM ran again that HA had given up; 0 = it does not.
func (g *gathering) mended(w *fsm.Work) int64 {
	for _, x := range g.later[w.VM] {
		if x.ID > w.ID && x.Step == fsm.Done && x.Attempt > 0 {
			return x.Ended
		}
	}
	if v, _ := g.s.VM(w.VM); v != nil && v.Power == fsm.PowerOn && v.Since >= w.Ended {
		return v.Since
	}
	return 0
}

// spans divides the time from the loss of a VM to the end of its work by what it
// waited for. events are those of its hosts and its own, by id.
func spans(w *fsm.Work, events []*fsm.Event, now int64) (out []Span) {
	phase, at := Detection, w.Lost
	next := func(p Phase, t int64) {
		if p != phase && t > at {
			out = append(out, Span{Phase: phase, From: at, To: t})
			at = t
		}
		phase = p
	}
	for _, e := range events {
		switch e.Type {
		case "HOST.SUSPECT":
			if phase == Detection {
				next(Evidence, e.Time)
			}
		case "HOST.DOWN":
			next(Proof, e.Time)
		case "HOST.FENCED", "HOST.REBOOT":
			if phase <= Proof {
				next(Placement, e.Time)
			}
		case "WORK.OPEN":
			switch {
			case phase != Detection && phase != Evidence:
			case w.Cause == fsm.CauseMissing || w.Cause == fsm.CauseMigrated:
				next(Search, e.Time)
			default:
				next(Placement, e.Time)
			}
		case "VM.RELEASE", "VM.START.FAIL":
			next(Placement, e.Time)
		case "VM.WITHDRAW", "VM.GUEST":
			next(Release, e.Time)
		case "VM.START.ORDER":
			next(Start, e.Time)
		}
	}
	end, open := w.Ended, !w.Step.Ended()
	if open {
		end = now
	}
	if end > at {
		out = append(out, Span{Phase: phase, From: at, To: end, Open: open})
	}
	return out
}

// steps are the longest of each phase: of the host itself, and of its VMs.
func (i *Incident) steps(now int64) (out []Took) {
	var most [phases]Took
	note := func(p Phase, d time.Duration, vm string, open bool) {
		if d > most[p].For {
			most[p] = Took{Phase: p, For: d, VM: vm, Open: open}
		}
	}
	if i.hosted {
		until := func(times ...int64) (int64, bool) {
			for _, t := range times {
				if t != 0 {
					return t, false
				}
			}
			return now, true
		}
		if i.suspect != 0 {
			note(Detection, time.Duration(i.suspect-i.Begun), "", false)
			end, open := until(i.down, i.proven, i.over)
			note(Evidence, time.Duration(end-i.suspect), "", open)
		}
		if i.down != 0 {
			end, open := until(i.proven, i.over)
			note(Proof, time.Duration(end-i.down), "", open)
		}
	}
	for k := range i.VMs {
		v := &i.VMs[k]
		if v.Step == fsm.Done && v.Starts == 0 {
			continue // nothing was waited for
		}
		for p, d := range total(v.Spans) {
			open := d > 0 && v.Spans[len(v.Spans)-1].Open && v.Spans[len(v.Spans)-1].Phase == Phase(p)
			note(Phase(p), d, v.Name, open)
		}
	}
	for _, t := range most {
		if t.For > 0 {
			out = append(out, t)
		}
	}
	return out
}

// alerts are those about the host and the VMs that were opened in the time of an
// incident, by id.
func (g *gathering) alerts(i *Incident) (out []*fsm.AlertRecord) {
	vms := map[string]bool{}
	for k := range i.VMs {
		vms[i.VMs[k].ID.String()] = true
	}
	for _, a := range g.s.Alerts() {
		about := a.Key.Type == fsm.AlertVM && vms[a.Key.Subject] ||
			i.hosted && (a.Key.Type == fsm.AlertHost || a.Key.Type == fsm.AlertFence) && a.Key.Subject == string(i.Host)
		if at := a.Opened(); about && at >= i.Noticed && (i.Ended == 0 || at <= i.Ended) {
			out = append(out, a)
		}
	}
	slices.Reverse(out)
	return out
}
