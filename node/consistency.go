package node

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

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
