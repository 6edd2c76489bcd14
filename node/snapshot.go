package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
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
		free, err := n.pack(ctx)
		if err != nil {
			return nil, err
		}
		defer free()
		x := n.outgoing.open(now)
		id = x.id
		s := n.fsm.State()
		if err := archive.Write(&x.data, s, n.deps.Version, n.cfg.ID, n.clock()); err != nil {
			return nil, fmt.Errorf("write snapshot: %w", err)
		}
		if err := n.noteHandedOut(ctx, t, q.Stale, &lifeboatv1.HandedOut{Id: id, Actor: actor(ctx), Index: s.Index, Bytes: int64(x.data.Len())}); err != nil {
			return nil, err
		}
	}
	data, size, err := n.outgoing.piece(id, q.Offset, now)
	if err != nil {
		return nil, err
	}
	return &lifeboatv1.ReadSnapshotResponse{Id: id, NodeId: n.cfg.ID, Size: size, Data: data}, nil
}

// pack waits for its turn to write or to read an archive. It must be freed.
func (n *Node) pack(ctx context.Context) (free func(), err error) {
	select {
	case n.packing <- struct{}{}:
		return func() { <-n.packing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// unpack takes an archive that has been sent in, and reads and checks all of it.
func (n *Node) unpack(ctx context.Context, id string, sum []byte) (meta archive.Meta, s *fsm.State, err error) {
	free, err := n.pack(ctx)
	if err != nil {
		return meta, nil, err
	}
	defer free()
	raw, err := n.incoming.take(id, sum, time.Now())
	if err != nil {
		return meta, nil, err
	}
	if meta, s, err = archive.Read(bytes.NewReader(raw), FeatureLevel); err != nil {
		return meta, nil, refuse("%w; nothing was changed", err)
	}
	return meta, s, nil
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
