package foresee

import (
	"fmt"
	"iter"
	"strings"
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

const (
	maxHosts = 3 // that a sentence names
	maxVMs   = 5 // that it names of one host
)

// Sentence says in one line which host must not fail.
func Sentence(all []Loss) string {
	var bad []Loss
	for _, x := range all {
		if len(x.Down) > 0 {
			bad = append(bad, x)
		}
	}
	if len(bad) == 0 {
		return "any one host may fail: its protected VMs would be started again"
	}
	var b strings.Builder
	for i, x := range bad {
		if i == maxHosts {
			fmt.Fprintf(&b, "; and %d more hosts (`lifeboat plan --n1`)", len(bad)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		var names []string
		for k, v := range x.Down {
			if k == maxVMs {
				names = append(names, fmt.Sprintf("%d more", len(x.Down)-k))
				break
			}
			names = append(names, v.Name)
		}
		vms := "VMs"
		if len(x.Down) == 1 {
			vms = "VM"
		}
		fmt.Fprintf(&b, "host %s's failure would leave %d %s down: %s", x.Host, len(x.Down), vms, strings.Join(names, ", "))
	}
	return b.String()
}
