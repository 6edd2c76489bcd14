package node

import (
	"cmp"
	"slices"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/exchange"
	"lifeboat/fsm"
)

// assignment is everything the state says about a host's VMs.
func (n *Node) assignment(s *fsm.State, h *fsm.Host) *lifeboatv1.Assignment {
	return exchange.Assignment(s, h, func(v *fsm.VM) ([]byte, bool) {
		xml, err := n.sealer.open(v.Spec.Definition(), v.ID[:])
		if err != nil {
			n.log.Error("the definition of a VM cannot be read: its start order is held back", "vm", v.Name, "error", err)
		}
		return xml, err == nil
	})
}

// managers lists the nodes that an agent may turn to.
func (n *Node) managers() []*lifeboatv1.Manager {
	f := n.raft.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	var out []*lifeboatv1.Manager
	for _, srv := range f.Configuration().Servers {
		out = append(out, &lifeboatv1.Manager{Id: string(srv.ID), Addr: string(srv.Address)})
	}
	s := n.fsm.State()
	withdrawn := func(m *lifeboatv1.Manager) int {
		if s.Node(fsm.NodeID(m.Id)).Withdrawn() {
			return 1
		}
		return 0
	}
	slices.SortFunc(out, func(a, b *lifeboatv1.Manager) int {
		return cmp.Or(cmp.Compare(withdrawn(a), withdrawn(b)), cmp.Compare(a.Id, b.Id))
	})
	return out
}
