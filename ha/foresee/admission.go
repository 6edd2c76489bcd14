package foresee

import (
	"fmt"
	"strings"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// Line is what an operator's command waits in: those of a line are judged one after the
// other, each once the one before is written or refused. Two of them could together break
// what each keeps by itself.
type Line int

const (
	NoLine     Line = iota // no policy has a say
	RoomLine               // n1_admission: it asks for more of the cluster
	PolicyLine             // recovery_objective: it changes the policy, be it that one
)

// LineOf is where a command waits.
func LineOf(s *fsm.State, c *logpb.Command) Line {
	switch {
	case c.GetPolicySet() != nil:
		return PolicyLine
	case s.Policy.N1Admission && Undone(s, c) != "":
		return RoomLine
	}
	return NoLine
}

// Admit says why a command whose turn it is is refused; "" = it may be done. Failures are
// played through until enough says so.
func Admit(s *fsm.State, c *logpb.Command, enough func() bool) string {
	switch LineOf(s, c) {
	case PolicyLine:
		return ha.Unkept(s, c)
	case RoomLine:
		if all := Gate(s, c, ScopeOf(s.Policy), enough); len(all) > 0 {
			return Undone(s, c) + ": " + breachText(all) +
				". Make room first (one more host, or fewer VMs); while `lifeboat policy set n1_admission=false` stands it is done all the same"
		}
	}
	return ""
}

// Undone says what does not come about when a command that asks for more of the cluster
// is refused; "" = it does not, or the state machine knows nothing that it is about.
func Undone(s *fsm.State, c *logpb.Command) string {
	switch {
	case c.GetVmControl() != nil:
		x := c.GetVmControl()
		if x.Action != fsm.VMStart || len(x.Vm) != len(fsm.VMID{}) {
			return ""
		}
		if v, _ := s.VM(fsm.VMID(x.Vm)); v != nil {
			return "VM " + v.Name + " is not started"
		}
	case c.GetHostControl() != nil:
		x := c.GetHostControl()
		if h := s.Host(fsm.HostID(x.Host)); h != nil && (x.Action == fsm.HostDisable || x.Action == fsm.HostMaintenanceOn) {
			return "host " + string(h.ID) + " stays as it is"
		}
	case c.GetRuleAdd() != nil:
		return "the rule is not written"
	case c.GetPolicySet() != nil:
		return "the policy stays as it is"
	}
	return ""
}

// maxBreaches are named in a refusal.
const maxBreaches = 3

func breachText(all []Breach) string {
	var why []string
	for i, b := range all {
		if i == maxBreaches {
			why = append(why, fmt.Sprintf("and so would %d more", len(all)-i))
			break
		}
		why = append(why, b.String())
	}
	return "afterwards " + strings.Join(why, "; ")
}
