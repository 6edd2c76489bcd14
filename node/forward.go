package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/transport"
)

const (
	// headerBehalf names who asked the node that passes a request on. It counts
	// only from management nodes.
	headerBehalf = "Lifeboat-On-Behalf-Of"
	// forwardTimeout bounds a passed-on request without a deadline of its own.
	forwardTimeout = 15 * time.Second
	maxRequest     = 8 << 20 // bytes, after decompression
	// worthPacking is the size in bytes from which on an answer is compressed: most
	// answers to agents have less than a hundred, and packing them costs more than
	// everything else that is done for them.
	worthPacking = 1 << 10
)

var errNoLeader = connect.NewError(connect.CodeUnavailable, errors.New("there is no leader at the moment; try again in a second"))

// noLeader is errNoLeader for an agent: it says in a header that any other node most
// likely says the same.
func noLeader() *connect.Error { return leaderless(errors.New(errNoLeader.Message())) }

// leaderless is a refusal by a node that reaches no leader.
func leaderless(why error) *connect.Error {
	err := connect.NewError(connect.CodeUnavailable, why)
	err.Meta().Set(lifeboatv1.HeaderNoLeader, "true")
	return err
}

// errNoMember is a node that was taken out and runs on.
var errNoMember = connect.NewError(connect.CodeUnavailable, errors.New("this node is not a member of the cluster any more; ask another one"))

// errNotYet is a node that has joined and has heard nobody yet.
var errNotYet = connect.NewError(connect.CodeUnavailable, errors.New("this node has joined the cluster and waits to hear from its leader; ask another one"))

// handler is the API on the mutual-TLS port.
func (n *Node) handler() http.Handler {
	mux := http.NewServeMux()
	limit := connect.WithHandlerOptions(connect.WithReadMaxBytes(maxRequest), connect.WithCompressMinBytes(worthPacking))
	path, agents := lifeboatv1connect.NewAgentServiceHandler(&agentAPI{n}, limit)
	mux.Handle(path, n.fromAgents(agents))
	mux.Handle(lifeboatv1connect.NewAdminServiceHandler(&adminAPI{n}, limit))
	mux.Handle(lifeboatv1connect.NewNodeServiceHandler(nodeAPI{n}, limit))
	mux.Handle(lifeboatv1connect.NewJoinServiceHandler(joinAPI{n: n}, connect.WithReadMaxBytes(maxJoin)))
	return n.calls.counted(n.identify(mux))
}

type behalfKey struct{}

// identify puts who really asks into the context: the peer, or whom a
// management node speaks for.
func (n *Node) identify(next http.Handler) http.Handler {
	refusal := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		behalf := r.Header.Get(headerBehalf)
		if peer, ok := transport.IdentityFromContext(ctx); ok && peer.Kind == transport.KindNode && behalf != "" {
			if !n.isMember(fsm.NodeID(peer.Name)) {
				// Unavailable: nothing was done, and another node does it.
				_ = refusal.Write(w, r, connect.NewError(connect.CodeUnavailable, fmt.Errorf("node %s is not a member of this cluster and speaks for nobody; ask another one", peer.Name)))
				return
			}
			id, err := transport.ParseIdentity(behalf)
			if err != nil {
				http.Error(w, "the header "+headerBehalf+" is not valid", http.StatusBadRequest)
				return
			}
			ctx = context.WithValue(transport.WithIdentity(ctx, id), behalfKey{}, true)
		}
		ctx, err := withRequestID(ctx, r.Header)
		if err != nil {
			_ = refusal.Write(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// caller is who asks, if it is of one of the kinds.
func caller(ctx context.Context, kinds ...transport.Kind) (transport.Identity, error) {
	id, ok := transport.IdentityFromContext(ctx)
	if !ok {
		return id, connect.NewError(connect.CodeUnauthenticated, errors.New("no certificate was shown"))
	}
	for _, k := range kinds {
		if id.Kind == k {
			return id, nil
		}
	}
	return id, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("%s may not do this; it takes a certificate of an %s", id, kinds[0]))
}

// onward answers here when this node leads (or the request wants this node's own
// view), else passes the request on to the leader. local is told the term, nil
// when this node does not lead.
func onward[Q, R, C any](ctx context.Context, n *Node, req *connect.Request[Q], here bool,
	local func(*term, context.Context, *Q) (*R, error),
	dial func(connect.HTTPClient, string, ...connect.ClientOption) C,
	remote func(C, context.Context, *connect.Request[Q]) (*connect.Response[R], error),
) (*connect.Response[R], error) {
	t := n.term.Load()
	if t != nil || here {
		r, err := local(t, ctx, req.Msg)
		if err != nil {
			return nil, answerError(err)
		}
		return connect.NewResponse(r), nil
	}
	if err := n.outside(); err != nil {
		return nil, err
	}
	id, _ := transport.IdentityFromContext(ctx)
	addr, leader := n.raft.LeaderWithID()
	if ctx.Value(behalfKey{}) != nil || addr == "" || string(leader) == n.cfg.ID {
		return nil, noLeader() // never pass on twice
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, forwardTimeout)
		defer cancel()
	}
	out := connect.NewRequest(req.Msg)
	out.Header().Set(headerBehalf, id.String())
	if id := requestID(ctx); id != "" {
		out.Header().Set(lifeboatv1.HeaderRequestID, id)
	}
	var sent atomic.Bool // the leader may have received it
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})
	r, err := remote(dial(n.client, "https://"+string(addr)), ctx, out)
	switch {
	case err != nil && !sent.Load():
		// Most likely it has just died, and the other nodes know no better.
		return nil, leaderless(fmt.Errorf("the leader, node %s, cannot be reached from here, so nothing was done; try again in a second: %w", leader, err))
	case err != nil:
		return nil, passOn(err)
	}
	return connect.NewResponse(r.Msg), nil
}

// outside says why this node speaks for no cluster, nil when it is a member of one.
func (n *Node) outside() error {
	if n.isMember(n.self()) {
		return nil
	}
	if servers, err := n.servers(); err == nil && len(servers) == 0 {
		return errNotYet
	}
	return errNoMember
}

// passOn keeps an answer of the leader. A connection to it that broke leaves the
// outcome unknown: callers may repeat what they read, not what they wrote.
func passOn(err error) error {
	var answered *connect.Error
	if errors.As(err, &answered) && connect.IsWireError(err) {
		if answered.Meta().Get(lifeboatv1.HeaderNoLeader) != "" {
			return leaderless(errors.New(answered.Message()))
		}
		return connect.NewError(answered.Code(), errors.New(answered.Message()))
	}
	return connect.NewError(connect.CodeUnknown, fmt.Errorf("the leader does not answer, so the outcome is not known; look at the state before trying again: %w", err))
}

// answerError gives an error the code that callers act on.
func answerError(err error) error {
	var coded *connect.Error
	var no *errRejected
	switch {
	case errors.As(err, &coded):
		return coded
	case errors.As(err, &no) && no.void:
		return connect.NewError(connect.CodeUnavailable, err)
	case errors.As(err, &no):
		return connect.NewError(connect.CodeFailedPrecondition, err)
	case errors.Is(err, errUnknown), errors.Is(err, context.Canceled):
		// Not Unavailable: that promises that nothing was done.
		return connect.NewError(connect.CodeUnknown, err)
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, err)
	}
	return connect.NewError(connect.CodeInternal, err)
}
