package node

import (
	"context"
	"fmt"
	"slices"
	"sync"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// audit commits an event about what an operator does that changes nothing else. Before
// the feature level that knows it there is none.
func (t *term) audit(ctx context.Context, actor string, action uint32, subject, text string) error {
	if t.node.fsm.State().Level < fsm.LevelPolicy {
		return nil
	}
	_, err := t.propose(ctx, actor, &logpb.Command{Body: &logpb.Command_Audit{Audit: &logpb.Audit{Action: action, Subject: subject, Text: text}}})
	if err != nil {
		return fmt.Errorf("note it for the audit: %w", err)
	}
	return nil
}

func (t *term) auditSnapshot(ctx context.Context, actor, node, id string, index uint64, bytes int64) error {
	return t.audit(ctx, actor, fsm.AuditSnapshot, node, fmt.Sprintf("snapshot %s of log index %d (%d bytes) was read from node %s", id, index, bytes, node))
}

// noteHandedOut notes that an operator gets a snapshot: with a leader at hand before any
// of it is given, else as soon as there is one.
func (n *Node) noteHandedOut(ctx context.Context, t *term, x *lifeboatv1.HandedOut) error {
	if t != nil {
		return t.auditSnapshot(ctx, x.Actor, n.cfg.ID, x.Id, x.Index, x.Bytes)
	}
	n.handed.add(x)
	return nil
}

// handedOut is which snapshots this node has given while it did not lead, until a leader
// has noted them. One that was noted and not confirmed is told twice, with its id.
type handedOut struct {
	mu      sync.Mutex
	waiting []*lifeboatv1.HandedOut
}

// maxHandedOut bounds what is remembered through a time without a leader; the oldest go.
const maxHandedOut = 100

func (h *handedOut) add(x *lifeboatv1.HandedOut) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting = append(h.waiting, x)
	h.waiting = h.waiting[max(0, len(h.waiting)-maxHandedOut):]
}

func (h *handedOut) list() []*lifeboatv1.HandedOut {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.waiting)
}

func (h *handedOut) noted(told []*lifeboatv1.HandedOut) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting = slices.DeleteFunc(h.waiting, func(x *lifeboatv1.HandedOut) bool { return slices.Contains(told, x) })
}
