package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fence/wire"
	"lifeboat/fsm"
	"lifeboat/transport"
)

// tickets are the promises of this node to do a job at a power controller for
// the leader. Each is good for one job, for a while.
type tickets struct {
	mu     sync.Mutex
	issued map[uint64]time.Time
}

const (
	maxTickets = 64
	ticketLife = time.Minute
)

// issue returns a new ticket; false when too many are out.
func (t *tickets) issue(now time.Time) (uint64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, at := range t.issued {
		if now.Sub(at) > ticketLife {
			delete(t.issued, k)
		}
	}
	if len(t.issued) >= maxTickets {
		return 0, false
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	k := binary.NativeEndian.Uint64(b[:])
	if t.issued == nil {
		t.issued = map[uint64]time.Time{}
	}
	t.issued[k] = now
	return k, true
}

// redeem says when a ticket was issued. It is good once: a request that is sent
// twice is carried out once.
func (t *tickets) redeem(k uint64) (time.Time, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, ok := t.issued[k]
	delete(t.issued, k)
	return at, ok
}

// fromLeader checks that a member asks which leads, as far as this node knows.
func (n *Node) fromLeader(ctx context.Context, term uint64) error {
	id, err := caller(ctx, transport.KindNode)
	if err != nil {
		return err
	}
	if !n.isMember(fsm.NodeID(id.Name)) {
		return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("node %s is no member of this cluster", id.Name))
	}
	if now := n.raft.CurrentTerm(); now > term {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("node %s led in term %d and now it is %d: its term is over", id.Name, term, now))
	}
	return nil
}

func (a nodeAPI) FenceTicket(ctx context.Context, req *connect.Request[lifeboatv1.FenceTicketRequest]) (*connect.Response[lifeboatv1.FenceTicketResponse], error) {
	if err := a.n.fromLeader(ctx, req.Msg.Term); err != nil {
		return nil, err
	}
	k, ok := a.n.tickets.issue(time.Now())
	if !ok {
		return nil, connect.NewError(connect.CodeResourceExhausted, errors.New("this node is busy at too many power controllers"))
	}
	return connect.NewResponse(&lifeboatv1.FenceTicketResponse{Ticket: k}), nil
}

// RunFence does a job at a power controller for the leader. It ends with the
// call, at the deadline, and as soon as this node hears of a later term (S10).
func (a nodeAPI) RunFence(ctx context.Context, req *connect.Request[lifeboatv1.RunFenceRequest]) (*connect.Response[lifeboatv1.FenceOutcome], error) {
	n, q := a.n, req.Msg
	if err := n.fromLeader(ctx, q.Term); err != nil {
		return nil, err
	}
	issued, ok := n.tickets.redeem(q.Ticket)
	if !ok {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("its ticket is not, or no longer, good"))
	}
	left := wire.Within(q.Job) - time.Since(issued)
	if left <= 0 {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("it came too late: its deadline has passed"))
	}
	if q.Job.GetHostId() == n.cfg.Host {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("node %s runs on host %s itself", n.cfg.ID, n.cfg.Host))
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	go n.untilTerm(ctx, q.Term, end)
	return connect.NewResponse(wire.Outcome(q.Job, q.Term, n.deps.Fences.Do(ctx, wire.ReadJob(q.Job)))), nil
}

// termEvery is how often an executor looks whether its leader's term is over.
const termEvery = 200 * time.Millisecond

var errTermOver = errors.New("the term of the leader that asked is over")

func (n *Node) untilTerm(ctx context.Context, term uint64, end context.CancelCauseFunc) {
	for pause(ctx, termEvery) {
		if n.raft.CurrentTerm() > term {
			end(errTermOver)
			return
		}
	}
}
