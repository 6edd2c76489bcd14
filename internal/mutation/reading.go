package main

// reading is how the world is read, the clocks, and the definitions: S18 to S25.
func reading() []mutation {
	return []mutation{
		{"S18", "what was lost from sight is not gone with its host", "fsm/apply_host.go",
			"(w.Step == Investigating || w.Step == Fencing && old.LostSight())", "false", inFSM},
		{"S18", "a missing VM waits until every host has reported", "ha/work.go",
			"if r.hosts == 0 || r.by <= w.Updated+int64(settle) {", "if false {", inHA},
		{"S18", "what was switched off by hand stays off", "fsm/apply_power.go",
			"return (r == ReasonShutdown || r == ReasonDestroyed || r == ReasonSaved) && v.HAPolicy().HA != HAAlways", "return false", inFSM},
		{"S19", "a silent host in maintenance is investigated while protected VMs run there", "ha/detect.go",
			"if h.Resource != fsm.Enabled && h.RunsProtected() == 0 && !owed(h) {", "if h.Resource != fsm.Enabled && !owed(h) {", inHA},
		{"S20", "what no peer reaches is unknown, not dead", "ha/soft.go",
			"	v := fsm.Unknown\n	for", "	v := fsm.Dead\n	for", inHA},
		{"S20", "one who sees it alive outweighs those who see it dead", "ha/soft.go",
			"	case a == fsm.Alive || b == fsm.Alive:\n		return fsm.Alive\n", "", inHA},
		{"S21", "Apply refuses a step of more than an hour", "fsm/machine.go",
			"case s.Time != 0 && !accept && c.TimeUnixNs > s.Time && c.TimeUnixNs-s.Time > MaxClockStep:", "case false:", inFSM},
		{"S21", "time does not go back", "fsm/machine.go",
			"s.Time = max(s.Time, c.TimeUnixNs)", "s.Time = c.TimeUnixNs", inFSM},
		{"S21", "a node with a wrong clock does not lead", "node/members.go",
			"off > maxSkew || off < -maxSkew", "off != off", inNode},
		{"S22", "nothing is destroyed while HA is disarmed", "agent/session/outcome.go",
			"return s.assigned != nil && s.assigned.Armed && s.ledgerErr == nil", "return true", inSession},
		{"S23", "only protected VMs' definitions are kept", "fsm/apply_vm.go",
			"if !v.Protected() && v.Spec.Defines() {", "if false {", inFSM},
		{"S23", "what is local does not start elsewhere", "fsm/apply_fence.go",
			"case target != from.ID && len(old.Spec.Local) > 0:", "case false:", inFSM},
		{"S23", "a definition that cannot be read does not replace one that could", "fsm/apply_vm.go",
			"			if old.Spec != nil && old.Spec.Defines() {", "			if false {", inFSM},
		{"S24", "confirm-dead needs force while the host reports", "fsm/apply_fence.go",
			"(h.Status == Up || h.Status == Connecting) && !c.Force", "false", inFSM},
		{"S24", "confirm-dead needs force while anything is heard", "node/writes.go",
			"if ok && quiet < t.node.fsm.State().Policy.SuspectAfter() && !force {", "if false && ok && quiet > 0 && force {", inNode},
		{"S25", "a host that nothing can prove dead is no target", "ha/place.go",
			"case !d.p.PlaceUnfenced && !h.Fenceable(d.p):", "case false:", inHA},
	}
}
