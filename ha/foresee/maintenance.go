package foresee

import (
	"fmt"
	"strings"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// Maintain says what would happen if these hosts were put into maintenance now. force:
// what cannot be migrated live is stopped and started elsewhere.
func Maintain(s *fsm.State, hosts []fsm.HostID, force bool, a Assumed) *Plan {
	base := s.Fork()
	r := rehearse(base, a.filled(s), hosts)
	if s.Level < fsm.LevelPolicy {
		r.plan.Notes = append(r.plan.Notes, "nothing is moved before the cluster is at feature level 4 (`lifeboat status`)")
	}
	for _, id := range hosts {
		if h := base.Host(id); h == nil || h.Status == fsm.Removed {
			r.plan.Notes = append(r.plan.Notes, fmt.Sprintf("there is no host %s", id))
			continue
		}
		r.apply(&logpb.Command{Actor: "foresight", Body: &logpb.Command_HostControl{HostControl: &logpb.HostControl{Host: string(id), Action: fsm.HostMaintenanceOn, Force: force}}})
	}
	r.run()
	end := r.state()
	now := ha.Now{Wall: r.now, Mono: r.mono()}
	for _, id := range hosts {
		h := end.Host(id)
		if h == nil {
			continue
		}
		for i := range h.VMs {
			v := &h.VMs[i]
			if !v.Protected() {
				if v.Power == fsm.PowerOn {
					r.plan.Unprotected++
				}
				continue
			}
			if !v.KeepsFromEmpty() {
				continue
			}
			why := "it is still on its way"
			if w := end.Work(v.Work); w != nil && w.Reason != "" {
				why = strings.TrimPrefix(w.Reason, ha.NoTarget)
			} else if w == nil {
				if _, no := ha.Move(end, &r.soft, now, v.ID, "", !force); no != "" {
					why = no
				}
			}
			r.plan.Stays = append(r.plan.Stays, Stay{v.ID, v.Name, v.HAPolicy().Priority, id, why})
		}
	}
	return r.plan
}
