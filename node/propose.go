package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// maxEntry is what one entry may hold, in bytes. Batches are split at batchSize;
// a single report or definition may be larger, up to this.
const (
	maxEntry  = 512 << 10
	batchSize = 64 << 10
)

// errRejected is a command that was committed and changed nothing, with the
// state machine's reason.
type errRejected struct {
	reason string
	// void: the entry did not count at all, so what it was about is not settled.
	void bool
}

func (e *errRejected) Error() string { return e.reason }

// rejected reports whether the rules forbid a command: it counted, and changed
// nothing.
func rejected(err error) bool {
	var no *errRejected
	return errors.As(err, &no) && !no.void
}

// errUnknown is a proposal whose outcome nobody knows: look again.
var errUnknown = errors.New("the outcome is not known: the leader lost its leadership or its majority; look at the state before trying again")

// propose commits one command of this term and returns what became of it. It
// blocks until it is applied here, or ctx ends (then the outcome is unknown).
// An *errRejected means that the rules forbid it.
func (t *term) propose(ctx context.Context, actor string, cmd *logpb.Command) (fsm.Result, error) {
	f, err := t.submit(ctx, actor, cmd)
	if err != nil {
		return fsm.Result{}, err
	}
	return t.await(ctx, f)
}

// submit hands a command to Raft without waiting for what becomes of it. It
// blocks while Raft takes nothing, which is only when the disk has stalled.
func (t *term) submit(ctx context.Context, actor string, cmd *logpb.Command) (raft.ApplyFuture, error) {
	if err := t.node.fsm.Err(); err != nil {
		return nil, err // the state here is not what the others have
	}
	if s, level := t.node.fsm.State(), fsm.LevelOf(cmd); level > max(s.Level, 1) {
		return nil, t.node.needs(t, s, level) // an older member would stop at it
	}
	cmd.TimeUnixNs = t.wall()
	cmd.Actor = actor
	cmd.OnlyTerm = t.number
	data, err := proto.Marshal(cmd)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	if len(data) > maxEntry {
		return nil, refuse("the command has %d bytes, at most %d are accepted", len(data), maxEntry)
	}
	patience := canaryStall
	if end, ok := ctx.Deadline(); ok {
		patience = max(min(patience, time.Until(end)), time.Millisecond)
	}
	return t.node.gate.apply(t.node.raft, data, patience, t.era)
}

// gate lets no proposal into a Raft that is being shut down: it would neither
// be taken nor refused, ever.
type gate struct {
	mu   sync.RWMutex
	shut bool
	era  uint64         // grows when the state is replaced
	out  sync.WaitGroup // proposals without an outcome
}

func (g *gate) apply(r *raft.Raft, data []byte, patience time.Duration, era uint64) (raft.ApplyFuture, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.shut || g.era != era {
		return nil, errNoLeader
	}
	g.out.Add(1) // until await has seen the outcome
	return r.Apply(data, patience), nil
}

// turn begins another era: what was decided before is not let in any more, and
// what is out gets a moment to be applied. It says whether all of that has an outcome:
// what has none may yet be appended, after all that follows.
func (g *gate) turn(ctx context.Context) bool {
	g.mu.Lock()
	g.era++
	g.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, canaryStall)
	defer cancel()
	return g.drain(ctx)
}

// now is the era that runs.
func (g *gate) now() uint64 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.era
}

// close waits for what is out, as long as ctx allows: without a majority there
// is no outcome.
func (g *gate) close(ctx context.Context, _ error) error {
	g.mu.Lock()
	g.shut = true
	g.mu.Unlock()
	g.drain(ctx)
	return nil
}

// drain waits for what is out; false when ctx ended first.
func (g *gate) drain(ctx context.Context) bool {
	done := make(chan struct{})
	go func() { g.out.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// neverAppended: Raft has refused a proposal before it was in any log, so that
// nothing was done and nothing will be.
func neverAppended(err error) bool {
	return errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress)
}

// await is future.Error with a context: the future alone can block for as long
// as there is no majority. It is called once for everything that was submitted.
func (t *term) await(ctx context.Context, f raft.ApplyFuture) (fsm.Result, error) {
	done := make(chan error, 1)
	go func() {
		defer t.node.gate.out.Done()
		done <- f.Error()
	}()
	select {
	case <-ctx.Done():
		return fsm.Result{}, fmt.Errorf("%w (%w)", errUnknown, ctx.Err())
	case err := <-done:
		switch {
		case errors.Is(err, raft.ErrEnqueueTimeout) && ctx.Err() == nil:
			return fsm.Result{}, fmt.Errorf("%w (%w)", errUnknown, context.DeadlineExceeded)
		case neverAppended(err):
			return fsm.Result{}, errNoLeader
		case err != nil:
			return fsm.Result{}, fmt.Errorf("%w (%w)", errUnknown, err)
		}
	}
	r, ok := f.Response().(fsm.Result)
	if err, broken := f.Response().(error); broken {
		return fsm.Result{}, fmt.Errorf("%w (%w)", errUnknown, err)
	}
	if !ok {
		return fsm.Result{}, fmt.Errorf("unexpected answer %T of the state machine", f.Response())
	}
	if r.Rejected != "" {
		return r, &errRejected{reason: r.Rejected, void: r.Void}
	}
	return r, nil
}
