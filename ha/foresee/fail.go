package foresee

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// Fail says what would happen if these hosts failed now, all at once. Each is taken to
// be proven dead after the time that the policy gives for the best of its fence
// levels; of one that nothing could prove dead, the VMs stay.
func Fail(s *fsm.State, hosts []fsm.HostID, a Assumed) *Plan {
	return fail(s.Fork(), hosts, a.filled(s))
}

// fail is Fail on a fork that belongs to this goroutine.
func fail(base *fsm.State, hosts []fsm.HostID, a Assumed) *Plan {
	r := rehearse(base, a, hosts)
	var lost []lostVM
	for _, id := range hosts {
		h := base.Host(id)
		if h == nil || h.Status == fsm.Removed {
			r.plan.Notes = append(r.plan.Notes, fmt.Sprintf("there is no host %s", id))
			continue
		}
		r.dead[id] = true
		after, no := proof(base.Policy, h)
		if no == "" {
			r.after(after, happening{do: func() { r.prove(id) }})
		}
		for i := range h.VMs {
			v := &h.VMs[i]
			switch {
			case v.Protected() && v.Wanted && v.Error == "" && (v.Power != fsm.PowerOff || v.Work != 0):
				lost = append(lost, lostVM{v, id, no})
			case !v.Protected() && v.Power == fsm.PowerOn:
				r.plan.Unprotected++
			}
		}
	}
	r.held(base)
	r.run()
	for _, x := range lost {
		if why := x.stays(r); why != "" {
			r.plan.Stays = append(r.plan.Stays, Stay{x.vm.ID, x.vm.Name, x.vm.HAPolicy().Priority, x.from, why})
		}
	}
	return r.plan
}

// lostVM is a VM that is lost with its host.
type lostVM struct {
	vm       *fsm.VM
	from     fsm.HostID
	unproven string // why its host is never proven dead
}

// stays says why a VM does not run at the end; "" = it does.
func (x lostVM) stays(r *rehearsal) string {
	if x.unproven != "" {
		return x.unproven
	}
	s := r.state()
	v, h := s.VM(x.vm.ID)
	if v == nil {
		return "it is gone"
	}
	w := s.Work(v.Work)
	switch {
	case v.Power == fsm.PowerOn && !r.dead[h.ID]:
		return ""
	case v.Error != "":
		return v.Error
	case w == nil:
		return "nothing is done about it"
	case w.Step == fsm.Scheduled && !s.Armed:
		return "HA is disarmed (`lifeboat ha arm`)"
	}
	return strings.TrimPrefix(w.Reason, ha.NoTarget)
}

// proof is how long it takes at most until a host that fails now is proven dead; no:
// why it never is.
func proof(p *fsm.Policy, h *fsm.Host) (after time.Duration, no string) {
	if h.Status == fsm.Down && h.HA == fsm.HAFenced {
		return 0, ""
	}
	switch d := ha.DeathOf(p, h); {
	case d.Unarmed:
		return 0, fmt.Sprintf("nothing could prove host %s dead now: its self-fence lease is not armed, and it has no power controller", h.ID)
	case d.Worst > 0:
		return d.Worst, ""
	}
	return 0, fmt.Sprintf("nothing could prove host %s dead but an operator (`lifeboat host confirm-dead %s`): it has no fence level that could", h.ID, h.ID)
}

// prove commits that a host is dead. It says so in an operator's name: that is taken
// in every state of a host.
func (r *rehearsal) prove(id fsm.HostID) {
	h := r.state().Host(id)
	if h == nil || h.Status == fsm.Down && h.HA == fsm.HAFenced {
		return
	}
	r.apply(&logpb.Command{Actor: "foresight", Body: &logpb.Command_HostFenced{HostFenced: &logpb.HostFenced{Host: string(id), Epoch: h.Epoch, Force: true,
		Proof: &logpb.Proof{Kind: uint32(fsm.ProofOperator), By: "foresight", Detail: "as if"}}}})
}

// held notes that so many hosts of a failure domain at once are not fenced before
// somebody has seen them dead (S17).
func (r *rehearsal) held(s *fsm.State) {
	dead, all := map[string]int{}, map[string]int{}
	for id, h := range s.Hosts() {
		if h.Status == fsm.Removed {
			continue
		}
		for _, name := range ha.Domains(h) {
			all[name]++
			if r.dead[id] {
				dead[name]++
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(dead)) {
		if n := dead[name]; n > s.Policy.BrakeMin && n*100 > all[name]*s.Policy.BrakePercent {
			r.plan.Notes = append(r.plan.Notes, fmt.Sprintf("%d of %d hosts in %s at once are more than brake_min and brake_percent allow: each of them waits until its power reads as off, its lease has run out, or you declare it dead; the times here are without that", n, all[name], name))
		}
	}
}
