package ha

import (
	"cmp"
	"slices"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// letGo takes hosts from the brakes that have lasted for brake_expiry: one at a
// time in each failure domain, and in each further expiry no more than may always
// fall silent together. Each brake that holds a host must let go of it, which is
// committed first and counts from then on: what becomes of the fence may never be
// known. A host that was seen dead is not held anyway, and takes nobody's turn.
func (d *decision) letGo(byDomain map[string][]fallen, why map[string]string) {
	if d.p.BrakeExpiry == 0 || len(d.held) == 0 {
		return
	}
	on := map[string]fsm.Brake{}
	var waiting []*fsm.Host // one that two brakes hold is there twice
	for name, b := range d.s.Brakes() {
		on[name] = b
		periods := (d.now.Wall - b.Since) / int64(d.p.BrakeExpiry)
		d.wakeAt(b.Since + (periods+1)*int64(d.p.BrakeExpiry))
		for _, f := range byDomain[name] {
			if !f.dead && d.held[f.h.ID] && f.h.HA == fsm.HAFencing && !seenDead(f.h) {
				waiting = append(waiting, f.h)
			}
		}
	}
	slices.SortFunc(waiting, turn)
	busy := map[string]bool{} // domains in which it is another host's turn
	for _, h := range slices.Compact(waiting) {
		var holds, still []string
		may := true
		for _, name := range Domains(h) {
			b, is := on[name]
			if !is {
				may = may && why[name] == "" // it is put on just now
				continue
			}
			holds = append(holds, name)
			may = may && !busy[name]
			if !slices.Contains(b.LetGo, h.ID) {
				still = append(still, name)
				may = may && int64(len(b.LetGo)) < b.Allows(d.p, d.now.Wall)
			}
		}
		if !may {
			continue
		}
		for _, name := range holds {
			busy[name] = true
		}
		for _, name := range still {
			d.do(&logpb.Command{Body: &logpb.Command_Brake{Brake: &logpb.Brake{Domain: name, LetGo: string(h.ID)}}})
		}
		if len(still) == 0 {
			delete(d.held, h.ID)
		}
	}
}

// turn says whose turn it is before another's: the one that is being fenced; else
// the one with the fewest attempts, so that one whose controller is dead does not
// keep the others waiting.
func turn(a, b *fsm.Host) int {
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Silent, b.Silent), cmp.Compare(a.ID, b.ID))
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
