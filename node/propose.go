package node

import (
	"context"
	"errors"
	"fmt"

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
type errRejected struct{ reason string }

func (e *errRejected) Error() string { return e.reason }

// errUnknown is a proposal whose outcome nobody knows: look again.
var errUnknown = errors.New("the outcome is not known: the leader lost its leadership or its majority; look at the state before trying again")

// propose commits one command of this term and returns what became of it. It
// blocks until it is applied here, or ctx ends (then the outcome is unknown).
// An *errRejected means that the rules forbid it.
func (t *term) propose(ctx context.Context, actor string, cmd *logpb.Command) (fsm.Result, error) {
	f, err := t.submit(actor, cmd)
	if err != nil {
		return fsm.Result{}, err
	}
	return t.await(ctx, f)
}

// submit hands a command to Raft without waiting.
func (t *term) submit(actor string, cmd *logpb.Command) (raft.ApplyFuture, error) {
	cmd.TimeUnixNs = t.node.clock().UnixNano()
	cmd.Actor = actor
	cmd.OnlyTerm = t.number
	data, err := proto.Marshal(cmd)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	if len(data) > maxEntry {
		return nil, fmt.Errorf("the command has %d bytes, at most %d are accepted", len(data), maxEntry)
	}
	return t.node.raft.Apply(data, 0), nil
}

// await is future.Error with a context: the future alone can block for as long
// as there is no majority.
func (t *term) await(ctx context.Context, f raft.ApplyFuture) (fsm.Result, error) {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case <-ctx.Done():
		return fsm.Result{}, fmt.Errorf("%w (%w)", errUnknown, ctx.Err())
	case err := <-done:
		if err != nil {
			return fsm.Result{}, fmt.Errorf("%w (%w)", errUnknown, err)
		}
	}
	r, ok := f.Response().(fsm.Result)
	if !ok {
		return fsm.Result{}, fmt.Errorf("unexpected answer %T of the state machine", f.Response())
	}
	if r.Rejected != "" {
		return r, &errRejected{r.Rejected}
	}
	return r, nil
}
