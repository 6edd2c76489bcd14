package node

import (
	"context"
	"fmt"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/notify"
)

// testReceiver sends a receiver a message that says it is a test. Of that only an event
// is in the log.
func (t *term) testReceiver(ctx context.Context, q *lifeboatv1.TestReceiverRequest) (*lifeboatv1.TestReceiverResponse, error) {
	s := t.node.fsm.State()
	r := s.Receiver(q.Name)
	if r == nil {
		return nil, notFound("there is no receiver %s; `lifeboat notify list` shows them", q.Name)
	}
	now := time.Unix(0, t.wall())
	host, _ := fsm.AlertTypeOf("OTHER")
	m := &notify.Message{ID: "test-" + newID(), Cluster: s.ClusterID, Node: t.node.cfg.ID, Time: now, Test: true, Total: 1, Notices: []notify.Notice{{
		Kind: fsm.NoticeOpened.String(), Type: host.Name, Code: host.Code, TypeID: host.ID, Severity: fsm.Info.String(), Subject: "test", Name: "test",
		Cause: "test", Text: "This is a test of lifeboat's notifications. Nothing has happened.", Count: 1, First: now, Since: now}}}
	if err := t.audit(ctx, actor(ctx), fsm.AuditNotifyTest, r.Name, fmt.Sprintf("receiver %s is sent a test (delivery %s)", r.Name, m.ID)); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, s.Policy.NotifyTimeout)
	defer cancel()
	began := t.mono()
	out := &lifeboatv1.TestReceiverResponse{Delivery: m.ID}
	if err := t.tell(limited, r, m); err != nil {
		out.Failure = valid(err.Error())
	}
	out.TookMs = (t.mono() - began).Milliseconds()
	return out, nil
}
