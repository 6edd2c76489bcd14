package fsm

import (
	"encoding/binary"
	"slices"

	"lifeboat/fsm/logpb"
)

// Hangs is what is remembered of a VM whose guest hung: how often it was restarted for
// that, and whether it was given up. It stands with the VM and not in work that has ended,
// which is forgotten (work_keep) when much happens. It is never changed in place.
type Hangs struct {
	Count uint32 // restarts that followed one another within the policy's guest_window
	Work  WorkID // the newest of them; it may be forgotten
	Last  int64  // unix ns when that ended; while it is open, when it began
	Tried []Tried
	// GaveUp: unix ns when the VM was restarted as often as it may be; 0 = it was not.
	// It holds as long as the alert that its guest hangs is open.
	GaveUp int64
	// Settled: unix ns when the last such alert ended. What its watchdog said before
	// counts no more.
	Settled int64
}

// hangs is a copy of what is remembered of a VM's guest, to be changed.
func (v *VM) hangs() Hangs {
	if v.Hangs == nil {
		return Hangs{}
	}
	return *v.Hangs
}

// hungLately is what still counts of the restarts of a VM; nil: none does.
func (s *State) hungLately(v *VM) *Hangs {
	if g := v.Hangs; g != nil && g.Count > 0 && s.Time-g.Last < int64(s.Policy.GuestWindow) {
		return g
	}
	return nil
}

// HungTimes is how often a VM was restarted because its guest hung: each time less than
// the policy's guest_window after the time before, and the last one that long ago at most.
func (s *State) HungTimes(v *VM) int {
	if g := s.hungLately(v); g != nil {
		return int(g.Count)
	}
	return 0
}

// GaveUpOnGuest reports whether a VM whose guest hangs has been restarted as often as it
// may be: until that alert is resolved it is left as it is.
func (s *State) GaveUpOnGuest(v *VM) bool { return v.Hangs != nil && v.Hangs.GaveUp != 0 }

// TriedGuest is what the restarts of a VM amount to with one more because its guest
// hangs on host h. Restarts that follow one another within the policy's guest_window
// count together: each is a start that failed, though later than others do.
func (s *State) TriedGuest(v *VM, h HostID) []Tried {
	w := Work{}
	if g := s.hungLately(v); g != nil {
		w.Tried = g.Tried
	}
	return tried(&w, h, 1)
}

// restartsGuest counts a restart that begins; v is being edited.
func (t *tx) restartsGuest(v *VM, w *Work) {
	n := v.hangs()
	if t.s.hungLately(v) == nil {
		n.Count = 0
	}
	n.Count, n.Work, n.Last, n.Tried = n.Count+1, w.ID, t.now, w.Tried
	v.setHangs(&n)
}

// restartEnded takes over what came of a restart because a guest hung, whatever its cause
// has become meanwhile; v is being edited. One that did not end in a VM that runs is
// told of by its error, and the next one begins anew.
func (t *tx) restartEnded(v *VM, w *Work, step Step) {
	if v.Hangs == nil || v.Hangs.Work != w.ID {
		return
	}
	n := *v.Hangs
	n.Last, n.Tried = t.now, w.Tried
	if step != Done {
		n.Count, n.Tried = 0, nil
	}
	v.setHangs(&n)
}

// givesUpGuest notes that a VM is left as it is; v is being edited.
func (t *tx) givesUpGuest(v *VM) {
	n := v.hangs()
	n.GaveUp = t.now
	v.setHangs(&n)
}

// guestSettled closes the alert that a VM's guest hangs, if it is open. A VM that was
// given up begins anew; v is being edited.
func (t *tx) guestSettled(v *VM, format string, args ...any) {
	if t.s.raised.len() == 0 || t.s.GuestAlert(v) == nil {
		return
	}
	t.resolveVM(v, GuestHangs, format, args...)
	n := v.hangs()
	if n.GaveUp != 0 {
		n = Hangs{}
	}
	n.Settled = t.now
	v.setHangs(&n)
}

func hangsToLog(g *Hangs) *logpb.GuestHangs {
	if g == nil {
		return nil
	}
	p := &logpb.GuestHangs{Count: g.Count, Work: uint64(g.Work), LastUnixNs: g.Last, GaveUpUnixNs: g.GaveUp, SettledUnixNs: g.Settled}
	for _, x := range g.Tried {
		p.Tried = append(p.Tried, &logpb.Tried{Host: string(x.Host), Count: x.Count})
	}
	return p
}

func hangsFromLog(p *logpb.GuestHangs) *Hangs {
	if p == nil {
		return nil
	}
	g := &Hangs{Count: p.Count, Work: WorkID(p.Work), Last: p.LastUnixNs, GaveUp: p.GaveUpUnixNs, Settled: p.SettledUnixNs}
	for _, x := range p.Tried {
		g.Tried = append(g.Tried, Tried{HostID(x.Host), x.Count})
	}
	return g
}

func (g *Hangs) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(append(b, 0xfe), g.Count)
	for _, n := range []uint64{uint64(g.Work), uint64(g.Last), uint64(g.GaveUp), uint64(g.Settled), uint64(len(g.Tried))} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	for _, x := range g.Tried {
		b = binary.LittleEndian.AppendUint32(appendText(b, x.Host), x.Count)
	}
	return b
}

// hangs checks what is remembered of a VM's guest.
func (c *checker) hangs(v *VM) {
	g := v.Hangs
	if c.s.Level < LevelPolicy {
		c.fail("guests", "VM %s remembers a guest that hung, before there was a word for it", v.Name)
	}
	if max(g.Last, g.GaveUp, g.Settled) > c.s.Time {
		c.past(max(g.Last, g.GaveUp, g.Settled), "what is remembered of the guest of VM "+v.Name)
	}
	if uint64(g.Work) > c.s.seq {
		c.fail("ids", "the guest of VM %s was restarted by work %d, which was never minted", v.Name, g.Work)
	}
	if g.GaveUp != 0 && c.s.GuestAlert(v) == nil {
		c.fail("guests", "VM %s is given up because its guest hangs, and no alert says so", v.Name)
	}
	for i, x := range g.Tried {
		if x.Count == 0 || slices.ContainsFunc(g.Tried[:i], func(y Tried) bool { return y.Host == x.Host }) {
			c.fail("guests", "VM %s was restarted %d times on host %s, which is said twice or is none", v.Name, x.Count, x.Host)
		}
	}
}
