package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha/foresee"
)

// foresight keeps the proof that hosts may fail. It follows from the state alone, so that
// every node may answer from its own.
type foresight struct {
	mu     sync.Mutex
	prover foresee.Prover
	kept   atomic.Pointer[foresee.Outlook] // of the leader's last look; nil where nobody leads
}

// look brings the proof up to date with a state, and plays through what it leaves open
// until enough says so.
func (f *foresight) look(s *fsm.State, enough func() bool) *foresee.Outlook {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.prover.Outlook(s, foresee.ScopeOf(s.Policy))
	f.prover.Rehearse(s, o, enough)
	return o
}

const (
	// foreseeEvery is how often the leader brings the proof up to date, at the most.
	foreseeEvery = time.Second
	// foreseeThinks is how long it may play failures through at a time.
	foreseeThinks = 200 * time.Millisecond
	// foreseeShare: of that time it takes one part in so many of a core.
	foreseeShare = 10
)

// foresee keeps the proof up to date while this node leads.
func (t *term) foresee(ctx context.Context) error {
	f := &t.node.foresight
	defer f.kept.Store(nil)
	for ctx.Err() == nil {
		changed, s, began := t.node.fsm.Changed(), t.node.fsm.State(), t.mono()
		o := f.look(s, func() bool { return t.mono()-began > foreseeThinks || ctx.Err() != nil })
		f.kept.Store(o)
		if !pause(ctx, max(foreseeEvery, foreseeShare*(t.mono()-began))) {
			return nil
		}
		if o.Stopped == "" && o.Open() {
			continue
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
	return nil
}

// nPlusOne says in a sentence what the failure of one host would leave down, as far as
// that is found out in the time that a status may take.
func (n *Node) nPlusOne(ctx context.Context, s *fsm.State) string {
	began := n.clock()
	return n.foresight.look(s, func() bool { return n.clock().Sub(began) > statusThinks || ctx.Err() != nil }).Sentence()
}

// explain says what the failure of a host would leave down; "" = nothing to say.
func (f *foresight) explain(s *fsm.State, id fsm.HostID) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.prover.Explain(s, id)
}

// admitThinks is how long a command that asks for more of the cluster may wait for
// failures to be played through.
const admitThinks = 3 * time.Second

// admission is where commands wait that a policy judges, a line for each kind. Who holds
// a line looks at what his command would break, until it is written.
type admission map[foresee.Line]chan struct{}

func newAdmission() admission {
	return admission{foresee.RoomLine: make(chan struct{}, 1), foresee.PolicyLine: make(chan struct{}, 1)}
}

// admit is record for a command that a policy judges: it waits for its turn, and is
// refused when it would break what the policy keeps.
func (t *term) admit(ctx context.Context, line foresee.Line, cmd *logpb.Command, message string) (*lifeboatv1.WriteResponse, error) {
	undone := foresee.Undone(t.node.fsm.State(), cmd)
	turn := t.admission[line]
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return nil, connect.NewError(connect.CodeUnavailable, fmt.Errorf("%s: another command is still being judged; nothing was done, try again: %w", undone, context.Cause(ctx)))
	}
	began := t.mono()
	if no := foresee.Admit(t.node.fsm.State(), cmd, func() bool { return t.mono()-began > admitThinks || ctx.Err() != nil }); no != "" {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New(no))
	}
	return t.record(ctx, cmd, message)
}
