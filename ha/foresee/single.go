package foresee

import (
	"iter"
	"time"

	"lifeboat/fsm"
)

// Loss is what the failure of one host would cost.
type Loss struct {
	Host   fsm.HostID
	Starts int           // VMs that would start elsewhere
	Took   time.Duration // until the last of them runs
	Down   []Stay        // VMs that would not
}

// Singles goes through the hosts, each taken to fail alone. It is worked out one by
// one, so that a caller may stop when its time is up.
func Singles(s *fsm.State, a Assumed) iter.Seq[Loss] {
	return func(yield func(Loss) bool) {
		base, a := s.Fork(), a.filled(s)
		for id, h := range s.Hosts() {
			switch {
			case h.Status == fsm.Removed || h.Status == fsm.Down && h.HA == fsm.HAFenced:
				continue
			case h.RunsProtected() == 0 && len(h.Orders) == 0:
				if !yield(Loss{Host: id}) {
					return
				}
				continue
			}
			p := fail(base, []fsm.HostID{id}, a)
			x := Loss{Host: id, Down: p.Stays, Took: p.Took}
			for _, step := range p.Steps {
				if step.From == id {
					x.Starts++
				}
			}
			if !yield(x) {
				return
			}
		}
	}
}

// Sentence says in one line which host must not fail.
func Sentence(all []Loss) string {
	var bad []*Verdict
	for _, x := range all {
		if len(x.Down) > 0 {
			bad = append(bad, &Verdict{Hosts: []fsm.HostID{x.Host}, Down: x.Down})
		}
	}
	if text := badSentence(bad); text != "" {
		return text
	}
	return mayFail("host")
}
