package node

import (
	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
)

// What a term knows of VMs that run where nobody granted them (S6).

// arrive notes the arrival of a report.
func (c *contacts) arrive(x *contact, seq uint64, wall int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x.arrivals.Note(seq, wall)
}

// lookedAt notes what an absorbed report says about when it was looked.
func (c *contacts) lookedAt(x *contact, after uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x.arrivals.LookedAfter(after)
}

// readCopy takes the definition of a copy. It reports whether it is one.
func (c *contacts) readCopy(x *contact, h *fsm.Host, p *lifeboatv1.VMSpec) bool {
	c.mu.Lock() // one writer at a time
	defer c.mu.Unlock()
	return x.memory.ReadCopy(h, p)
}
