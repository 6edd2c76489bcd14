package node

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm/logpb"
)

// confirmations prove to linearizable reads that this node leads. One entry serves
// all reads that came before it was proposed.
type confirmations struct {
	mu   sync.Mutex
	next *confirmation // not proposed yet; nil = nobody waits for one
	busy bool          // somebody proposes
}

type confirmation struct {
	done chan struct{} // closed when err is set
	err  error
}

// confirm waits until an entry that was proposed after the call has been committed
// and applied here: from then on the state holds everything that was confirmed to
// anybody before the call. Raft's own word (VerifyLeader) is no proof: it takes an
// answer that lay in a buffer while this process was frozen (S14).
func (t *term) confirm(ctx context.Context) error {
	c := &t.confirmations
	c.mu.Lock()
	if c.next == nil {
		c.next = &confirmation{done: make(chan struct{})}
	}
	x := c.next
	if !c.busy {
		c.busy = true
		go t.confirmAll()
	}
	c.mu.Unlock()
	select {
	case <-x.done:
		if x.err != nil {
			return connect.NewError(connect.CodeUnavailable, fmt.Errorf("node %s could not confirm that it leads: %w", t.node.cfg.ID, x.err))
		}
		return nil
	case <-t.over:
		return errNoLeader
	case <-ctx.Done():
		return fmt.Errorf("confirm that node %s leads: %w", t.node.cfg.ID, ctx.Err())
	}
}

// confirmAll proposes one entry after the other until nobody waits for one. Each
// ends within canaryStall.
func (t *term) confirmAll() {
	c := &t.confirmations
	for {
		c.mu.Lock()
		x := c.next
		c.next = nil // who comes from here on came after the proposal
		if x == nil {
			c.busy = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), canaryStall)
		_, x.err = t.propose(ctx, "", &logpb.Command{Body: &logpb.Command_Canary{Canary: &logpb.Canary{Node: t.node.cfg.ID, Term: t.number}}})
		cancel()
		var no *errRejected
		if errors.As(x.err, &no) {
			x.err = nil // it changed nothing, and was committed and applied all the same
		}
		close(x.done)
	}
}

// reading is a request that only looks.
type reading interface {
	GetStale() bool
	GetConsistency() lifeboatv1.Consistency
}

// consistencyOf is what a read asks for.
func consistencyOf(q reading) (lifeboatv1.Consistency, error) {
	c := q.GetConsistency()
	switch {
	case lifeboatv1.Consistency_name[int32(c)] == "":
		return c, refuse("this node does not know consistency %d; it knows leader (0), stale (1) and linearizable (2)", c)
	case q.GetStale() && c == lifeboatv1.Consistency_CONSISTENCY_LINEARIZABLE:
		return c, refuse("a read is stale or linearizable, not both")
	case q.GetStale():
		return lifeboatv1.Consistency_CONSISTENCY_STALE, nil
	}
	return c, nil
}

// forRead is forAdmin for what only looks: with the consistency that is asked for,
// and with a word of where the answer comes from.
func forRead[Q, R any](ctx context.Context, a *adminAPI, req *connect.Request[Q],
	local func(*term, context.Context, *Q) (*R, error),
	remote func(client, context.Context, *connect.Request[Q]) (*connect.Response[R], error),
) (*connect.Response[R], error) {
	want := lifeboatv1.Consistency_CONSISTENCY_LEADER
	if q, ok := any(req.Msg).(reading); ok {
		var err error
		if want, err = consistencyOf(q); err != nil {
			return nil, err
		}
	}
	own := want == lifeboatv1.Consistency_CONSISTENCY_STALE
	return forAdmin(ctx, a, req, own, func(t *term, ctx context.Context, q *Q) (*R, error) {
		if want == lifeboatv1.Consistency_CONSISTENCY_LINEARIZABLE {
			if err := t.confirm(ctx); err != nil {
				return nil, err
			}
		}
		answered := &lifeboatv1.Answered{NodeId: a.n.cfg.ID, Index: a.n.fsm.State().Index, Consistency: want, LastContactMs: a.n.lastContact()}
		r, err := local(t, ctx, q)
		if err == nil {
			sign(any(r), answered)
		}
		return r, err
	}, remote)
}

// sign puts into an answer where it comes from. Where the answer says itself which
// index it is of, that counts.
func sign(r any, answered *lifeboatv1.Answered) {
	msg, ok := r.(proto.Message)
	if !ok {
		return
	}
	m := msg.ProtoReflect()
	fields := m.Descriptor().Fields()
	for _, name := range []string{"index", "applied_index"} {
		if f := fields.ByName(protoreflect.Name(name)); f != nil {
			answered.Index = m.Get(f).Uint()
		}
	}
	if f := fields.ByName("answered"); f != nil {
		m.Set(f, protoreflect.ValueOfMessage(answered.ProtoReflect()))
	}
}
