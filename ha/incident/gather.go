package incident

import (
	"fmt"
	"slices"
	"strings"

	"lifeboat/fsm"
)

// gathering is one pass over a state.
type gathering struct {
	s       *fsm.State
	all     []*Incident
	open    map[fsm.HostID]*Incident
	entries map[uint64]*Incident    // entries that said something about a host, by index
	told    map[string][]*fsm.Event // events about VMs, by subject, oldest first
	hosts   map[fsm.HostID][]*Incident
	works   map[*Incident][]item
	later   map[fsm.VMID][]*fsm.Work // HA work of a VM, oldest first
}

// item is a work item with the event that opened it.
type item struct {
	w      *fsm.Work
	opened *fsm.Event
}

// All tells every incident whose first event is kept, oldest first.
func All(s *fsm.State) []*Incident {
	g := &gathering{s: s, open: map[fsm.HostID]*Incident{}, entries: map[uint64]*Incident{}, told: map[string][]*fsm.Event{},
		hosts: map[fsm.HostID][]*Incident{}, works: map[*Incident][]item{}, later: map[fsm.VMID][]*fsm.Work{}}
	for _, e := range s.EventsAfter(0) {
		g.event(e)
	}
	g.work()
	out := g.all[:0]
	for _, i := range g.all {
		if i.rebooted && i.suspect == 0 && i.down == 0 && len(g.works[i]) == 0 {
			continue // a reboot that nobody lost anything by
		}
		g.finish(i)
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b *Incident) int { return int(a.ID) - int(b.ID) })
	return out
}

// Find tells one incident. The error is an ErrUnknown, a sentence.
func Find(s *fsm.State, id fsm.EventID) (*Incident, error) {
	all := All(s)
	for _, i := range all {
		if i.ID == id {
			return i, nil
		}
	}
	e, oldest := event(s, id)
	switch {
	case e == nil && id < oldest:
		return nil, &ErrUnknown{fmt.Sprintf("what began at event %d is forgotten: the oldest event that is kept is %d (policy events_keep, and `lifeboat event purge`); `lifeboat incident list` shows what is left", id, oldest)}
	case e == nil:
		return nil, &ErrUnknown{fmt.Sprintf("there is no event %d; `lifeboat incident list` shows the incidents", id)}
	}
	for _, i := range all {
		if slices.ContainsFunc(i.Events, func(x *fsm.Event) bool { return x.ID == id }) {
			return nil, &ErrUnknown{fmt.Sprintf("event %d (%s) began no incident; it is part of incident %d: `lifeboat incident show %d`", id, e.Type, i.ID, i.ID)}
		}
	}
	return nil, &ErrUnknown{fmt.Sprintf("event %d (%s, %s) began no incident; `lifeboat incident list` shows the incidents", id, e.Type, e.Subject)}
}

// event finds an event, and the id of the oldest one that is kept.
func event(s *fsm.State, id fsm.EventID) (found *fsm.Event, oldest fsm.EventID) {
	for first := range s.EventsAfter(0) {
		oldest = first
		break
	}
	for at, e := range s.EventsAfter(id - 1) {
		if at == id {
			found = e
		}
		break
	}
	return found, oldest
}

// event takes one event in.
func (g *gathering) event(e *fsm.Event) {
	if strings.HasPrefix(e.Subject, "vm ") {
		if !strings.HasPrefix(e.Type, "ALERT.") {
			g.told[e.Subject] = append(g.told[e.Subject], e)
		}
		return
	}
	if e.Type == "CLUSTER.RESTORE" || e.Type == "CLUSTER.RECOVER" {
		for id, i := range g.open { // what was known until then is not true any more
			i.Events = append(i.Events, e)
			g.close(id, e)
		}
		return
	}
	name, ok := strings.CutPrefix(e.Subject, "host ")
	if !ok {
		return
	}
	host := fsm.HostID(name)
	i := g.open[host]
	switch e.Type {
	case "HOST.SUSPECT", "HOST.DOWN", "HOST.REBOOT":
		if i == nil {
			i = &Incident{ID: e.ID, Index: e.Index, Host: host, About: e.Subject, Begun: e.Time, Noticed: e.Time, hosted: true}
			g.all = append(g.all, i)
			g.open[host] = i
			g.hosts[host] = append(g.hosts[host], i)
		}
	case "HOST.EVIDENCE", "HOST.DEGRADED", "HOST.DISCONNECT", "HOST.FENCE.ATTEMPT", "HOST.FENCE.FAIL", "HOST.FENCE.END", "HOST.FENCED",
		"HOST.CONNECT", "HOST.UP", "HOST.REMOVE":
	default:
		return
	}
	if i == nil {
		return // a host that comes for the first time, or the begin is forgotten
	}
	i.Events = append(i.Events, e)
	g.entries[e.Index] = i
	switch e.Type {
	case "HOST.SUSPECT":
		if i.suspect == 0 {
			i.suspect = e.Time
		}
	case "HOST.DOWN":
		if i.down == 0 {
			i.down, i.downAt = e.Time, e.Index
		}
	case "HOST.FENCED", "HOST.REBOOT":
		if e.Type == "HOST.REBOOT" {
			i.rebooted = true
		}
		if i.proven == 0 {
			i.proven, i.Proof = e.Time, e.Text
		}
	case "HOST.DEGRADED":
		i.degraded = true
	case "HOST.DISCONNECT":
		if i.down == 0 {
			g.close(host, e)
		}
	case "HOST.UP", "HOST.REMOVE":
		g.close(host, e)
	}
}

func (g *gathering) close(host fsm.HostID, e *fsm.Event) {
	g.open[host].over = e.Time
	delete(g.open, host)
}

// work gives every HA work to the failure that it is about; one that is about none
// makes one of its own.
func (g *gathering) work() {
	var works []*fsm.Work
	for _, w := range g.s.AllWork() {
		if w.Type == fsm.WorkHA {
			works = append(works, w)
		}
	}
	slices.Reverse(works)
	type group struct {
		index uint64
		from  fsm.HostID
		cause fsm.Cause
	}
	own := map[group]*Incident{}
	for _, w := range works {
		g.later[w.VM] = append(g.later[w.VM], w)
		x := item{w, g.opening(w)}
		begun := (*Incident)(nil)
		if x.opened != nil {
			if begun = g.entries[x.opened.Index]; begun != nil {
				g.works[begun] = append(g.works[begun], x)
			}
		}
		if w.Cause == fsm.CauseHostDown { // and the deaths that came on top
			for _, i := range g.hosts[w.From] {
				if i != begun && i.downAt != 0 && w.Created <= i.down && (w.Ended == 0 || w.Ended >= i.down) {
					g.works[i] = append(g.works[i], x)
				}
			}
		}
		if begun != nil || x.opened == nil || !loss(w.Cause) {
			continue
		}
		k := group{x.opened.Index, w.From, w.Cause}
		i := own[k]
		if i == nil { // what one report says of one host is one incident
			i = &Incident{ID: x.opened.ID, Index: x.opened.Index, About: x.opened.Subject, Begun: w.Lost, Noticed: x.opened.Time, What: w.Cause.String()}
			own[k] = i
			g.all = append(g.all, i)
		}
		g.works[i] = append(g.works[i], x)
		if n := len(g.works[i]); n > 1 {
			i.About = fmt.Sprintf("%d VMs of host %s", n, w.From)
		}
	}
}

// loss reports whether a VM was lost for a cause while its host lived. What operators
// and the leader wanted themselves is no incident.
func loss(c fsm.Cause) bool {
	switch c {
	case fsm.CauseCrash, fsm.CauseMissing, fsm.CauseMigrated, fsm.CauseSelfFenced, fsm.CauseShutdown, fsm.CauseHostShutdown, fsm.CauseStorage, fsm.CauseGuestSilent, fsm.CauseWatchdog:
		return true
	}
	return false
}

// near is how many events after a work item got its number its opening may stand.
const near = 4

// opening is the event that opened an item of work, nil when it is forgotten. Before
// level 4 work does not name it: there it is minted right after the work.
func (g *gathering) opening(w *fsm.Work) *fsm.Event {
	if w.Begun != 0 {
		e, _ := event(g.s, w.Begun)
		return e
	}
	n := 0
	for _, e := range g.s.EventsAfter(fsm.EventID(w.ID)) {
		if e.Type == "WORK.OPEN" && e.Subject == "vm "+w.VMName && e.Time == w.Created {
			return e
		}
		if n++; n == near {
			break
		}
	}
	return nil
}
