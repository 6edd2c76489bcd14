package node

import (
	"context"
	"fmt"

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

// auditSnapshot notes that a node has handed out a snapshot. What was noted is no news.
func (t *term) auditSnapshot(ctx context.Context, node string, x *lifeboatv1.HandedOut) error {
	return t.audit(ctx, valid(x.Actor), fsm.AuditSnapshot, node, fmt.Sprintf("snapshot %s of log index %d (%d bytes) was read from node %s", valid(x.Id), x.Index, x.Bytes, node))
}
