package node

import (
	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
)

// What a term knows of VMs that run where nobody granted them (S6).

// arrive notes the arrival of a report.
func (x *contact) arrive(seq uint64, wall int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.arrivals.Note(seq, wall)
}

// lookedAt notes what an absorbed report says about when it was looked.
func (x *contact) lookedAt(after uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.arrivals.LookedAfter(after)
}

// readCopy takes the definition of a copy. It reports whether it is one.
func (x *contact) readCopy(h *fsm.Host, p *lifeboatv1.VMSpec) bool {
	x.mu.Lock() // one writer at a time
	defer x.mu.Unlock()
	return x.memory.ReadCopy(h, p)
}
