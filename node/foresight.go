package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

const (
	// admitThinks is how long a command that asks for more of the cluster may wait for
	// failures to be played through.
	admitThinks = 3 * time.Second
	// maxBreaches are named in a refusal.
	maxBreaches = 3
)

// admit is write for a command that asks for more of the cluster: where the policy wants
// it, one that would break the proof is refused. Two of them wait for each other, since
// each might leave room for one only. refused says what does not come about.
func (t *term) admit(ctx context.Context, cmd *logpb.Command, message, refused string) (*lifeboatv1.WriteResponse, error) {
	if !t.node.fsm.State().Policy.N1Admission {
		return t.write(ctx, cmd, message)
	}
	select {
	case t.admission <- struct{}{}:
		defer func() { <-t.admission }()
	case <-ctx.Done():
		return nil, connect.NewError(connect.CodeUnavailable, fmt.Errorf("%s: another command is still being judged by n1_admission; nothing was done, try again: %w", refused, context.Cause(ctx)))
	}
	s, began := t.node.fsm.State(), t.mono()
	all := foresee.Gate(s, cmd, foresee.ScopeOf(s.Policy), func() bool { return t.mono()-began > admitThinks || ctx.Err() != nil })
	if len(all) > 0 {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New(refused+": "+breachText(all)+
			". Make room first (one more host, or fewer VMs); while `lifeboat policy set n1_admission=false` stands it is done all the same"))
	}
	return t.write(ctx, cmd, message)
}

func breachText(all []foresee.Breach) string {
	var why []string
	for i, b := range all {
		if i == maxBreaches {
			why = append(why, fmt.Sprintf("and so would %d more", len(all)-i))
			break
		}
		why = append(why, b.String())
	}
	return "afterwards " + strings.Join(why, "; ")
}
