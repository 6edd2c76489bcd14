package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm/archive"
)

// readSnapshot hands out the state as an archive, in pieces. The leader takes it
// after a barrier: it holds everything that was acknowledged before the request.
func (n *Node) readSnapshot(t *term, ctx context.Context, q *lifeboatv1.ReadSnapshotRequest) (*lifeboatv1.ReadSnapshotResponse, error) {
	now := time.Now()
	id := q.Id
	if id == "" {
		if !q.Stale && t != nil {
			if err := n.barrier(ctx); errors.Is(err, errOver) {
				return nil, errNoLeader
			} else if err != nil {
				return nil, err
			}
		}
		x := n.outgoing.open(now)
		id = x.id
		if err := n.pack(x); err != nil {
			return nil, err
		}
	}
	data, size, err := n.outgoing.piece(id, q.Offset, now)
	if err != nil {
		return nil, err
	}
	return &lifeboatv1.ReadSnapshotResponse{Id: id, NodeId: n.cfg.ID, Size: size, Data: data}, nil
}

// pack writes the archive; nobody else knows the parcel yet.
func (n *Node) pack(x *parcel) error {
	if err := archive.Write(&x.data, n.fsm.State(), n.deps.Version, n.cfg.ID, n.clock()); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

// writeSnapshot takes a piece of an archive that is to be restored.
func (t *term) writeSnapshot(_ context.Context, q *lifeboatv1.WriteSnapshotRequest) (*lifeboatv1.WriteSnapshotResponse, error) {
	in, id := &t.node.incoming, q.Id
	if id == "" {
		id = in.open(time.Now()).id
	}
	size, err := in.add(id, q.Offset, q.Data, time.Now())
	if err != nil {
		return nil, err
	}
	return &lifeboatv1.WriteSnapshotResponse{Id: id, Size: size}, nil
}
