package sim

import (
	"strings"
	"time"

	"lifeboat/fsm"
	"lifeboat/hypervisor"
)

// book counts what expectations are about.
type book struct {
	calls        uint64
	lastAlert    fsm.AlertID
	starts       map[string]int
	incarnations map[string]int
	fenced       []string
	alerts       map[string]int
	work         map[string]int
	moves        map[string]int
	moving       map[string]bool // VMs with open work that is a move
	opened       int
	orders       []string                 // VMs in the order of their first start orders
	faultAt      map[string]time.Duration // of the last fault on a VM or its host
	orderAt      map[string]time.Duration // of the first start order after it
	excused      map[string]bool          // hosts an operator has declared dead
	byHand       map[string]bool          // VMs that were moved or started behind lifeboat's back
	kept         map[fsm.RuleID]bool      // strict rules that were kept once
}

func newBook() book {
	b := book{}
	b.zero()
	return b
}

// zero begins to count.
func (b *book) zero() {
	*b = book{calls: b.calls, lastAlert: b.lastAlert, starts: map[string]int{}, incarnations: map[string]int{}, alerts: map[string]int{}, work: map[string]int{}, moves: map[string]int{}, moving: map[string]bool{},
		faultAt: map[string]time.Duration{}, orderAt: map[string]time.Duration{}, excused: map[string]bool{}, byHand: map[string]bool{}, kept: map[fsm.RuleID]bool{}}
}

// event counts one line of the audit.
func (b *book) event(w *World, e *fsm.Event) {
	_, subject, _ := strings.Cut(e.Subject, " ")
	switch e.Type {
	case "VM.START.ORDER":
		b.incarnations[subject]++
		if b.incarnations[subject] == 1 {
			b.orders = append(b.orders, subject)
		}
		if _, ok := b.orderAt[subject]; !ok {
			b.orderAt[subject] = w.now
		}
		w.granted(subject)
		w.startKeepsRules(subject)
	case "VM.MOVE.ORDER":
		w.moveKeepsRules(subject)
	case "HOST.FENCED":
		b.fenced = append(b.fenced, subject)
		w.fenced(subject)
	case "VM.MOVE":
		b.moves[subject]++
	case "WORK.OPEN":
		b.opened++
		b.moving[subject] = strings.HasPrefix(e.Text, fsm.WorkMigration.String()+" ") || strings.HasPrefix(e.Text, fsm.WorkRelocation.String()+" ")
	case "VM.MOVE.LOST":
		b.moving[subject] = false // it is a recovery from here on
	case "WORK.DONE":
		b.ended(subject, "done")
	case "WORK.ERROR":
		b.ended(subject, "error")
	case "WORK.CANCEL":
		b.ended(subject, "cancelled")
	}
}

// ended counts HA work; moves are counted apart.
func (b *book) ended(vm, how string) {
	if !b.moving[vm] {
		b.work[how]++
	}
	delete(b.moving, vm)
}

// newAlerts counts the openings since the last look.
func (b *book) newAlerts(w *World, s *fsm.State) {
	newest := b.lastAlert
	for id, a := range s.Alerts() {
		if id <= b.lastAlert {
			break
		}
		newest = max(newest, id)
		b.alerts[a.Key.Type+"/"+a.About()]++
		if a.Key.Type == fsm.AlertVM && strings.HasPrefix(a.Key.Cause, "duplicate") {
			w.sawCopy(a.About())
		}
	}
	b.lastAlert = newest
}

// faultOn notes a fault on a host, for the VMs there.
func (w *World) faultOn(h *host) {
	for _, id := range h.ids {
		if d := h.domains[id]; d.live() {
			w.faultOnVM(d.g)
		}
	}
	if f := w.truth.State().Host(fsm.HostID(h.name)); f != nil {
		for i := range f.VMs {
			if g := w.byID[hypervisor.UUID(f.VMs[i].ID)]; g != nil {
				w.faultOnVM(g)
			}
		}
	}
}

func (w *World) faultOnVM(g *guest) {
	w.book.faultAt[g.name] = w.now
	delete(w.book.orderAt, g.name)
}
