package exchange

import "time"

// Arrivals is when the newest reports of a host came, and what follows for how
// old a look at its VMs is.
type Arrivals struct {
	list   []arrival
	looked int64
}

// arrival is when a report came, unix ns by the leader's clock.
type arrival struct {
	seq  uint64
	wall int64
}

// maxArrivals is how far back a look may lie that a report tells of.
const maxArrivals = 16

// Note notes the arrival of a report.
func (a *Arrivals) Note(seq uint64, wall int64) {
	if len(a.list) >= maxArrivals {
		a.list = a.list[:copy(a.list, a.list[1:])]
	}
	a.list = append(a.list, arrival{seq, wall})
}

// LookedAfter notes that everything an absorbed report tells of was looked at
// after the answer to an earlier one, which was given after that had arrived.
// That counts however long the report was under way.
func (a *Arrivals) LookedAfter(seq uint64) {
	for _, x := range a.list {
		if x.seq <= seq {
			a.looked = max(a.looked, x.wall)
		}
	}
}

// Looked is the instant after which every VM of the newest absorbed report was
// looked at, unix ns; 0: not known.
func (a *Arrivals) Looked() int64 { return a.looked }

// Shift makes what is remembered younger.
func (a *Arrivals) Shift(d time.Duration) {
	a.looked += int64(d)
	for i := range a.list {
		a.list[i].wall += int64(d)
	}
}
