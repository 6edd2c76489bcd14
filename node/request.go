package node

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/transport"
)

type (
	requestIDKey struct{}
	askedKey     struct{}
)

// asked is a write that has a request id.
type asked struct {
	id   string
	mark []byte
	// prior is what became of it when it came before; nil = it has not.
	prior *fsm.Request
}

// withRequestID puts the id of a request into its context.
func withRequestID(ctx context.Context, h http.Header) (context.Context, error) {
	values := h.Values(lifeboatv1.HeaderRequestID)
	if len(values) == 0 {
		return ctx, nil
	}
	id := values[0]
	for _, c := range []byte(id) {
		if c <= ' ' || c > '~' {
			id = ""
		}
	}
	if len(values) > 1 || id == "" || len(id) > fsm.MaxRequestID {
		return ctx, refuse("a request id has 1 to %d visible ASCII characters and is given once; nothing was changed", fsm.MaxRequestID)
	}
	return context.WithValue(ctx, requestIDKey{}, id), nil
}

// requestID is the id of the request that is being answered, "" = none.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// askedIn is the write that is being answered, nil when it has no request id.
func askedIn(ctx context.Context) *asked {
	a, _ := ctx.Value(askedKey{}).(*asked)
	return a
}

// actor is who asks, as it stands in the log.
func actor(ctx context.Context) string {
	id, _ := transport.IdentityFromContext(ctx)
	return string(id.Kind) + "/" + id.Name
}

// forWrite is forAdmin for what changes something by an entry of the log.
func forWrite[Q any](ctx context.Context, a *adminAPI, req *connect.Request[Q],
	local func(*term, context.Context, *Q) (*lifeboatv1.WriteResponse, error),
	remote func(client, context.Context, *connect.Request[Q]) (*connect.Response[lifeboatv1.WriteResponse], error),
) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forAdmin(ctx, a, req, false, remembered(req.Spec().Procedure, local), remote)
}

// remembered is local for a leader that remembers requests. What came before with the
// same request id is answered before anything is looked at: by now the state is
// another, and would give another answer.
func remembered[Q any](procedure string, local func(*term, context.Context, *Q) (*lifeboatv1.WriteResponse, error)) func(*term, context.Context, *Q) (*lifeboatv1.WriteResponse, error) {
	return func(t *term, ctx context.Context, q *Q) (*lifeboatv1.WriteResponse, error) {
		id := requestID(ctx)
		if id == "" {
			return local(t, ctx, q)
		}
		s := t.node.fsm.State()
		switch {
		case s.ClusterID == "":
			return nil, errNoLeader // it is being founded
		case s.Level < fsm.LevelRequests:
			// A code of its own: callers may leave the id out, and then must not repeat.
			return nil, connect.NewError(connect.CodeUnimplemented, fmt.Errorf(
				"the cluster's feature level is %d, and request ids are remembered from level %d on; nothing was changed: raise it when every node has a newer version, or leave the id out", s.Level, fsm.LevelRequests))
		}
		x := &asked{id: id, mark: t.node.sealer.mark(procedure, any(q)), prior: s.Request(actor(ctx), id)}
		if x.prior != nil {
			if no := x.prior.Refuses(x.mark); no != "" {
				return nil, &errRejected{reason: no}
			}
			if !resumes(any(q)) {
				return doneBefore(x.prior.Index, x.prior.Rejected)
			}
		}
		return local(t, context.WithValue(ctx, askedKey{}, x), q)
	}
}

// resumes reports whether a write goes on after its entry, with a change of the
// members: then its repetition does what is left of it.
func resumes(q any) bool {
	c, ok := q.(*lifeboatv1.ControlNodeRequest)
	return ok && (c.Action == "leave" || c.Action == "remove")
}

// doneBefore answers with what became of a request when it came first.
func doneBefore(index uint64, rejected string) (*lifeboatv1.WriteResponse, error) {
	if rejected != "" {
		return nil, &errRejected{reason: rejected}
	}
	return &lifeboatv1.WriteResponse{Index: index, DoneBefore: true, Message: fmt.Sprintf("this was done already, at log index %d, by an earlier request with the same id", index)}, nil
}

// under puts the request id into a command, if what is being answered has one.
func (a *asked) under(cmd *logpb.Command) {
	if a != nil {
		cmd.RequestId, cmd.RequestMark = a.id, a.mark
	}
}

// markSize is how many bytes of a keyed hash tell one request from another.
const markSize = 16

// mark is a keyed hash of what is asked. Requests hold passwords: without the key it
// helps nobody to guess them.
func (s *sealer) mark(procedure string, q any) []byte {
	h := hmac.New(sha256.New, s.marks)
	h.Write([]byte(procedure + "\x00"))
	if m, ok := q.(proto.Message); ok {
		if b, err := (proto.MarshalOptions{Deterministic: true}).Marshal(m); err == nil {
			h.Write(b)
		}
	}
	return h.Sum(nil)[:markSize]
}
