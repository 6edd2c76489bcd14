package ha

import (
	"fmt"
	"strings"

	"lifeboat/fsm"
)

// Turn says which VMs start before one that could start itself, since starts are
// rationed; "" = it waits for nothing of the kind. It follows from the state: a storm
// writes no entries about who waits for whom.
func Turn(s *fsm.State, v *fsm.VM) string {
	w := s.Work(v.Work)
	if !s.Armed || w == nil || !inLine(s, w) {
		return ""
	}
	own := v.HAPolicy().Priority
	higher, before, started := 0, 0, 0
	for x := range s.OpenWork() {
		o, _ := s.VM(x.VM)
		switch {
		case o == nil:
		case x.Step == fsm.Restarting:
			started++
		case !inLine(s, x):
		case o.HAPolicy().Priority > own:
			higher++
		case o.HAPolicy().Priority == own && x.ID < w.ID:
			before++
		}
	}
	if started == 0 {
		return "" // it is a matter of a moment
	}
	var first []string
	if higher > 0 {
		first = append(first, counted(higher, "VM")+" of a higher priority")
	}
	if before > 0 {
		first = append(first, counted(before, "VM")+" of the same that waited before it")
	}
	text := fmt.Sprintf("Its priority is %s, and it waits for its turn: ", own)
	if len(first) > 0 {
		text += strings.Join(first, " and ") + " come first; "
	}
	return text + fmt.Sprintf("starts under way: %d, of at most %d on a host and %d in the cluster at a time (starts_per_host, starts_per_cluster).",
		started, s.Policy.StartsPerHost, s.Policy.StartsPerCluster)
}

// inLine reports whether work waits for nothing but its turn.
func inLine(s *fsm.State, w *fsm.Work) bool {
	return w.Type == fsm.WorkHA && w.Step == fsm.Scheduled && w.NotBefore <= s.Time && w.Gated == 0 && !strings.HasPrefix(w.Reason, NoTarget)
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
