package ha

import (
	"fmt"
	"slices"

	"lifeboat/fsm"
)

// stubborn has a host fenced that was told to destroy its copy of a VM and has
// not, although it has had as long as for stopping anything else: when both were
// seen to run after that, on one disk (S6). Whatever is not known leaves it at
// the alert, and so does a brake (S17): then it is the observer who may be wrong.
func (d *decision) stubborn(h *fsm.Host, c *fsm.Copy) {
	v, owner := d.s.VM(c.VM)
	due := max(c.Told, h.Since) + int64(d.letsGo())
	if d.now.Wall < due {
		d.wakeAt(due)
		return
	}
	disk, _, known := d.compare(v, owner, h, due)
	if !known {
		d.wake(d.now.Mono + d.p.Beat)
		return
	}
	// One at a time: what keeps one host from destroying its copies may keep all.
	if disk == "" || !d.provable(h) || d.braked(h) || d.evicting() || !d.proven() {
		return
	}
	d.evicted = true
	d.judge(v, h, fsm.CopyFence, fmt.Sprintf("both write to %s, and it has not said within %s that it has destroyed it", disk, d.letsGo()))
}

// provable reports whether something that works without people could prove a
// host dead that reports.
func (d *decision) provable(h *fsm.Host) bool {
	_, leased := d.leaseEnd(h, d.contact(h))
	return leased || slices.ContainsFunc(h.Fence, fsm.FenceLevel.Active)
}

// braked reports whether the brake is on where the host is.
func (d *decision) braked(h *fsm.Host) bool {
	return slices.ContainsFunc(Domains(h), func(name string) bool { return d.s.Brake(name) != "" })
}

// evicting reports whether another host is being fenced for that reason.
func (d *decision) evicting() bool {
	if d.evicted {
		return true
	}
	for _, h := range d.s.Hosts() {
		if h.Evicted {
			return true
		}
	}
	return false
}
