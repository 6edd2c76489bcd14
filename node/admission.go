package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"lifeboat/fsm"
	"lifeboat/transport"
)

// authorize decides who may connect: management nodes only while they are
// members, whatever certificate they hold, and never somebody else on the raft
// side.
func (n *Node) authorize(proto string, id transport.Identity) error {
	if proto == transport.ProtoRaft && id.Kind != transport.KindNode {
		return fmt.Errorf("only management nodes take part in Raft, not %s", id)
	}
	if n.stranger(id) {
		return fmt.Errorf("node %s is not a member of this cluster", id.Name)
	}
	return nil
}

// stranger is a management node that is no member, and was not admitted to be one. A
// node that is cut off or behind does not know the newest members: it takes part in
// nothing that counts. One that has just joined knows nobody yet, and has to hear
// whoever leads.
func (n *Node) stranger(id transport.Identity) bool {
	if id.Kind != transport.KindNode || !n.joined.Load() || n.isMember(fsm.NodeID(id.Name)) {
		return false
	}
	if servers, err := n.servers(); err == nil && len(servers) == 0 {
		return false
	}
	x := n.fsm.State().Node(fsm.NodeID(id.Name))
	return x == nil || !x.Invited
}

const expelEvery = 250 * time.Millisecond

// expel closes the connections of nodes that have been taken out, and says once
// when this node is one of them.
func (n *Node) expel(ctx context.Context) error {
	said := false
	var last []raft.Server
	for pause(ctx, expelEvery) {
		f := n.raft.GetConfiguration() // its index is not filled in by the library
		if f.Error() != nil || slices.Equal(f.Configuration().Servers, last) {
			continue
		}
		last = f.Configuration().Servers
		if k := n.listener.CloseConns(n.stranger) + n.streams.CloseConns(n.stranger); k > 0 {
			n.log.Info("connections of nodes that are no members any more were closed", "connections", k)
		}
		if !said && !n.isMember(n.self()) {
			said = true
			n.log.Warn("this node is not a member of the cluster any more; it answers nobody. Stop it for good, and remove its data directory before it is used again", "data_dir", n.cfg.DataDir)
		}
	}
	return nil
}

// nameOf says which node is at an address; "" when it is not known.
func (n *Node) nameOf(addr string) string {
	if n.joined.Load() {
		if f := n.raft.GetConfiguration(); f.Error() == nil {
			for _, s := range f.Configuration().Servers {
				if string(s.Address) == addr {
					return string(s.ID)
				}
			}
		}
	}
	for _, hints := range []map[string]string{n.cfg.InitialCluster, n.cfg.Join} {
		for id, a := range hints {
			if a == addr {
				return id
			}
		}
	}
	return ""
}
