package ha

import (
	"cmp"
	"slices"

	"lifeboat/fsm"
)

// letGo takes hosts from the brake that has lasted for brake_expiry: one at a
// time, and in each further expiry no more than may always fall silent together.
// A host must have been held that long in each of its failure domains.
func (d *decision) letGo(byDomain map[string][]fallen) {
	if d.p.BrakeExpiry == 0 || len(d.held) == 0 {
		return
	}
	free := map[fsm.HostID]bool{}
	for name, b := range d.s.Brakes() {
		periods := (d.now.Wall - b.Since) / int64(d.p.BrakeExpiry)
		d.wakeAt(b.Since + (periods+1)*int64(d.p.BrakeExpiry))
		if periods < 1 {
			continue
		}
		left := periods * int64(d.p.BrakeMin)
		var waiting []*fsm.Host
		for _, f := range byDomain[name] {
			switch {
			case f.dead:
				if f.h.Proof != nil && f.h.Proof.Kind == fsm.ProofPower && f.h.Proof.Time >= b.Until(d.p) {
					left--
				}
			case d.held[f.h.ID] && f.h.HA == fsm.HAFencing && d.expired(f.h):
				waiting = append(waiting, f.h)
			}
		}
		if left <= 0 || len(waiting) == 0 || slices.ContainsFunc(byDomain[name], func(f fallen) bool { return free[f.h.ID] }) {
			continue
		}
		// The one that is being fenced; else the one with the fewest attempts, so
		// that one whose controller is dead does not keep the others waiting.
		one := slices.MinFunc(waiting, func(a, b *fsm.Host) int {
			return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Silent, b.Silent), cmp.Compare(a.ID, b.ID))
		})
		free[one.ID] = true
		delete(d.held, one.ID)
	}
}

func rank(h *fsm.Host) int {
	switch a := h.Attempt; {
	case a == nil:
		return 0
	case a.Open:
		return -1
	default:
		return int(a.Number)
	}
}

// expired reports whether every brake that holds a host has lasted long enough.
func (d *decision) expired(h *fsm.Host) bool {
	for name, b := range d.s.Brakes() {
		if slices.Contains(domains(h), name) && d.now.Wall < b.Until(d.p) {
			return false
		}
	}
	return true
}
