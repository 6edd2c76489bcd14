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
	var waiting []*fsm.VM
	var works []*fsm.Work
	own, started := -1, 0
	for x := range s.OpenWork() {
		o, _ := s.VM(x.VM)
		switch {
		case o == nil:
		case x.Step == fsm.Restarting:
			started++
		case scheduled(s, x):
			if x == w {
				own = len(works)
			}
			waiting, works = append(waiting, o), append(works, x)
		}
	}
	if started == 0 || own < 0 {
		return "" // it is a matter of a moment
	}
	tier := tiers(len(waiting), func(i int) *fsm.VM { return waiting[i] })
	higher, before := 0, 0
	for i, x := range works {
		switch {
		case !inLine(s, x):
		case tier[i] > tier[own]:
			higher++
		case tier[i] == tier[own] && x.ID < w.ID:
			before++
		}
	}
	text := fmt.Sprintf("Its priority is %s", v.HAPolicy().Priority)
	if tier[own] > v.HAPolicy().Priority {
		text += fmt.Sprintf(" (%s, since a VM of that priority waits for it)", tier[own])
	}
	text += ", and it waits for its turn: "
	var first []string
	if higher > 0 {
		first = append(first, counted(higher, "VM")+" of a higher priority")
	}
	if before > 0 {
		first = append(first, counted(before, "VM")+" of the same that waited before it")
	}
	if len(first) > 0 {
		verb := "come"
		if higher+before == 1 {
			verb = "comes"
		}
		text += strings.Join(first, " and ") + " " + verb + " first; "
	}
	return text + fmt.Sprintf("starts under way: %d, of at most %d on a host and %d in the cluster at a time (starts_per_host, starts_per_cluster).",
		started, s.Policy.StartsPerHost, s.Policy.StartsPerCluster)
}

// scheduled reports whether work waits to be started, for whatever reason.
func scheduled(s *fsm.State, w *fsm.Work) bool {
	return w.Type == fsm.WorkHA && w.Step == fsm.Scheduled && w.NotBefore <= s.Time
}

// inLine reports whether work waits for nothing but its turn.
func inLine(s *fsm.State, w *fsm.Work) bool {
	return scheduled(s, w) && w.Gated == 0 && !strings.HasPrefix(w.Reason, NoTarget)
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
