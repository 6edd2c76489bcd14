package node

import (
	"context"
	"fmt"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/notify"
)

// notifyPause joins the changes that a look at the outbox is for.
const notifyPause = 50 * time.Millisecond

// notify delivers what is in the outbox, for as long as this node leads. What is sent
// is committed before, and what has arrived after: another leader goes on with the same
// deliveries under the same ids. Each receiver has a goroutine of its own while there is
// something for it, so that one which hangs holds up no other.
func (t *term) notify(ctx context.Context) error {
	ended := make(chan string)
	busy := map[string]bool{}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		changed := t.node.fsm.Changed()
		began := t.mono()
		wait := t.deliveries(t.node.fsm.State(), busy, func(name string, work func()) {
			busy[name] = true
			t.effects.Add(1)
			go func() {
				defer t.effects.Done()
				work()
				select {
				case ended <- name:
				case <-ctx.Done():
				}
			}()
		}, ctx)
		if !pause(ctx, max(notifyPause, rest(t.mono()-began))) {
			return nil
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case name := <-ended:
			delete(busy, name)
		case <-timer.C:
		case <-changed:
		}
	}
	return nil
}

// deliveries begins what is due, and says when to look again although nothing changes.
func (t *term) deliveries(s *fsm.State, busy map[string]bool, begin func(name string, work func()), ctx context.Context) time.Duration {
	wait := time.Hour
	if s.CountNotices() == 0 || s.Waking {
		return wait
	}
	now := t.wall()
	for name, r := range s.Receivers() {
		if r.Off || busy[name] {
			continue
		}
		due, upto := due(s, r)
		if due == 0 {
			continue
		}
		if left := time.Duration(due - now); left > 0 {
			wait = min(wait, left)
			continue
		}
		begin(name, func() { t.deliver(ctx, r, upto) })
	}
	return max(wait, time.Millisecond)
}

// due is when something is to be done for a receiver, unix ns; 0 = there is nothing.
// upto is where the next delivery to it ends, if none was begun.
func due(s *fsm.State, r *fsm.Receiver) (at int64, upto fsm.NoticeID) {
	if r.Batch != nil {
		return r.Batch.NotBefore, 0
	}
	var first, last *fsm.Notice
	n := 0
	for x := range s.Pending(r) {
		if n++; first == nil {
			first = x
		}
		last = x
		if r.Repeat != 0 && n == notify.MaxNotices { // it keeps the alerts itself, and needs each of them
			break
		}
	}
	switch {
	case n == 0:
		return 0, 0
	case r.Repeat != 0:
	case n <= s.Policy.NotifyDigestAbove:
		last = first // one by one
	}
	return max(first.Time+int64(s.Policy.NotifyGather), 1), last.ID
}

// deliver makes one attempt. What goes wrong with the log is left to whoever looks
// next.
func (t *term) deliver(ctx context.Context, r *fsm.Receiver, upto fsm.NoticeID) {
	if r.Batch == nil {
		step := &logpb.NotifyStep{Receiver: r.Name, Action: fsm.NotifyBegin, After: uint64(r.Done), Upto: uint64(upto)}
		if !t.noted(ctx, step) {
			return
		}
		s := t.node.fsm.State()
		if r = s.Receiver(r.Name); r == nil || r.Batch == nil {
			return
		}
	}
	s := t.node.fsm.State()
	limited, cancel := context.WithTimeout(ctx, s.Policy.NotifyTimeout)
	err := t.tell(limited, r, t.message(s, r))
	cancel()
	if ctx.Err() != nil {
		return // the term is over, and the outcome as unknown as if nobody had sent
	}
	step := &logpb.NotifyStep{Receiver: r.Name, Action: fsm.NotifyDelivered, Delivery: r.Batch.ID}
	if err != nil {
		step.Action, step.Failure, step.Attempt = fsm.NotifyFailed, valid(err.Error()), r.Batch.Attempts+1
		t.log.Warn("a notification did not arrive", "receiver", r.Name, "delivery", r.Batch.ID, "attempt", step.Attempt, "error", err)
	}
	t.noted(ctx, step)
}

// noted commits a step; false when it did not count.
func (t *term) noted(ctx context.Context, step *logpb.NotifyStep) bool {
	_, err := t.propose(ctx, "", &logpb.Command{Body: &logpb.Command_NotifyStep{NotifyStep: step}})
	if err != nil && ctx.Err() == nil {
		t.log.Debug("a step of a delivery did not count", "receiver", step.Receiver, "error", err)
		pause(ctx, calm)
	}
	return err == nil
}

// tell opens the receiver's driver and sends.
func (t *term) tell(ctx context.Context, r *fsm.Receiver, m *notify.Message) error {
	target, err := t.node.notifyTarget(r)
	if err != nil {
		return err
	}
	d, err := t.node.deps.Notifiers.Open(target)
	if err != nil {
		return fmt.Errorf("use receiver %s: %w", r.Name, err)
	}
	return d.Send(ctx, m)
}

// notifyTarget is a receiver with its secret.
func (n *Node) notifyTarget(r *fsm.Receiver) (notify.Target, error) {
	t := notify.Target{Kind: r.Kind, Address: r.Address, Options: map[string]string{}}
	for _, o := range r.Options {
		t.Options[o.Key] = o.Value
	}
	if len(r.Secret) > 0 {
		secret, err := n.sealer.open(r.Secret, secretOfReceiver(r.Name))
		if err != nil {
			return t, fmt.Errorf("read the secret of receiver %s: %w", r.Name, err)
		}
		t.Secret = string(secret)
	}
	return t, nil
}

// secretOfReceiver is what a receiver's secret is sealed for.
func secretOfReceiver(name string) []byte { return []byte("notify " + name) }

// message is what a begun delivery says. It is the same each time, but for who sends it
// and when.
func (t *term) message(s *fsm.State, r *fsm.Receiver) *notify.Message {
	b := r.Batch
	m := &notify.Message{ID: b.ID, Cluster: s.ClusterID, Node: t.node.cfg.ID, Time: time.Unix(0, b.Begun), Sent: time.Unix(0, t.wall()), Total: int(b.Count), Lost: r.Lost}
	for n := range s.Notices(r.Name, r.Done, b.Upto) {
		if len(m.Notices) == notify.MaxNotices {
			break
		}
		m.Notices = append(m.Notices, noticeOf(s, n))
	}
	return m
}

func noticeOf(s *fsm.State, n *fsm.Notice) notify.Notice {
	a := n.Alert
	typ, _ := fsm.AlertTypeOf(a.Key.Type)
	out := notify.Notice{Kind: n.Kind.String(), Alert: uint64(a.ID), Type: a.Key.Type, Code: typ.Code, TypeID: typ.ID, Severity: a.Severity.String(),
		Subject: a.Key.Subject, Name: a.About(), Cause: a.Key.Cause, Text: a.Text, Count: a.Count, First: time.Unix(0, a.First), Since: time.Unix(0, a.Opened())}
	if n.Kind == fsm.NoticeResolved {
		out.Resolved, out.Resolution = time.Unix(0, a.Resolved), a.Resolution
	}
	for _, l := range s.LabelsOf(a) {
		if out.Labels == nil {
			out.Labels = map[string]string{}
		}
		out.Labels[l.Key] = l.Value
	}
	return out
}
