package foresee

import (
	"fmt"
	"strings"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// Judged reports whether the policy n1_admission has a say in an operator's command: it
// asks for more of the cluster. Such commands are judged by Admit one after the other,
// each once the one before is written or refused: each might leave room for one only.
func Judged(s *fsm.State, c *logpb.Command) bool {
	return s.Policy.N1Admission && Undone(s, c) != ""
}

// Admit says why a command that is judged is refused; "" = it may be done. Failures are
// played through until enough says so.
func Admit(s *fsm.State, c *logpb.Command, enough func() bool) string {
	all := Gate(s, c, ScopeOf(s.Policy), enough)
	if len(all) == 0 {
		return ""
	}
	return Undone(s, c) + ": " + breachText(all) +
		". Make room first (one more host, or fewer VMs); while `lifeboat policy set n1_admission=false` stands it is done all the same"
}

// The actions of a HostControl that take a host out of use.
const (
	hostDisable     = 2
	hostMaintenance = 3
)

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
		if h := s.Host(fsm.HostID(x.Host)); h != nil && (x.Action == hostDisable || x.Action == hostMaintenance) {
			return "host " + string(h.ID) + " stays as it is"
		}
	case c.GetRuleAdd() != nil:
		return "the rule is not written"
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
