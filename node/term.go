package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// term is one leadership of this node: from the barrier to the first sign that
// it is over.
type term struct {
	node     *Node
	log      hclog.Logger
	number   uint64
	era      uint64     // of the gate: the state was not replaced since the term began
	job      *restoring // what the term ends for; its loop's own until all have ended
	start    time.Time
	contacts *contacts
	members  *members
	reports  chan *pending
	probes   *probeDesk
	proxies  *proxyDesk
	checks   checkDesk

	admission     admission
	confirmations confirmations
	poke          chan struct{} // capacity 1: decide again
	ticked        atomic.Int64  // mono of the last tick of watch
	over          <-chan struct{}

	effects sync.WaitGroup
	running map[string]bool // effects started in this term; decide's own
	memo    ha.Memo         // decide's own
}

const (
	watchEvery = 200 * time.Millisecond
	// gapAfter is how late watch may be before the process counts as frozen.
	gapAfter = time.Second
	// calm is the pause after a round in which the state machine refused
	// something, so that a disagreement does not become a busy loop.
	calm = 200 * time.Millisecond
)

var (
	// errTransfer: another node must lead.
	errTransfer = errors.New("leadership must go to another node")
	// errOver: the leadership was lost before it was begun.
	errOver = errors.New("the leadership is over")
)

// lead runs one term. It returns when the term is over: ctx's end is not an
// error, ErrStalled says that this node must end, errTransfer that it must give
// leadership away.
func (n *Node) lead(ctx context.Context) error {
	number := n.raft.CurrentTerm()
	if err := n.begin(ctx, number); err != nil {
		return err
	}
	if n.raft.CurrentTerm() != number || n.fsm.Err() != nil {
		return errOver
	}
	t := &term{
		node: n, log: n.log.With("term", number), number: number, era: n.gate.now(), start: time.Now(),
		contacts: newContacts(), reports: make(chan *pending), probes: newProbeDesk(), proxies: newProxyDesk(),
		poke: make(chan struct{}, 1), admission: newAdmission(), running: map[string]bool{},
	}
	t.members = newMembers(t)
	n.heard.Store(t.members)
	if err := t.members.compareClocks(ctx); err != nil {
		return err
	}
	t.contacts.gap(t.mono()) // until here nobody could be heard
	g, gctx := errgroup.WithContext(ctx)
	t.over = gctx.Done()
	g.Go(func() error { return t.canary(gctx) })
	g.Go(func() error { return t.watch(gctx) })
	g.Go(func() error { return t.batch(gctx) })
	g.Go(func() error { return t.members.watch(gctx) })
	g.Go(func() error { return t.members.shape(gctx) })
	g.Go(func() error { return t.found(gctx) })
	g.Go(func() error { return t.adoptCA(gctx) })
	g.Go(func() error { return t.decide(gctx) })
	g.Go(func() error { return t.restores(gctx) })
	g.Go(func() error { return t.usage(gctx) })
	g.Go(func() error { return t.notify(gctx) })
	g.Go(func() error { return t.foresee(gctx) })
	g.Go(func() error { return t.measure(gctx) })
	n.term.Store(t)
	t.log.Info("leading", "node", n.cfg.ID)
	err := g.Wait()
	n.term.CompareAndSwap(t, nil)
	t.contacts.wakeAll()
	t.effects.Wait() // they ended with gctx (S10)
	var restore *errRestoring
	ended := ctx.Err() != nil // asked once: either this answers the job, or who gets the error does
	if t.job != nil && (ended || !errors.As(err, &restore)) {
		t.job.done <- restored{err: errNoLeader}
	}
	if ended {
		return nil
	}
	return err
}

// mono is the time since the term began, on a monotonic clock.
func (t *term) mono() time.Duration { return time.Since(t.start) }

// wall is the time of the log in this term, unix ns: this machine's clock as the
// term began, carried on by the monotonic one. A clock that jumps while its node
// leads must not get into the log, or no node with a right one could lead (S21).
func (t *term) wall() int64 { return t.start.Add(t.node.deps.faults.clock + t.mono()).UnixNano() }

func (t *term) now() ha.Now { return ha.Now{Wall: t.wall(), Mono: t.mono()} }

// again makes decide look at once.
func (t *term) again() {
	select {
	case t.poke <- struct{}{}:
	default:
	}
}

// found creates the cluster's identity in the first term of all.
func (t *term) found(ctx context.Context) error {
	for t.node.fsm.State().ClusterID == "" {
		_, err := t.propose(ctx, "", &logpb.Command{Body: &logpb.Command_ClusterInit{ClusterInit: &logpb.ClusterInit{
			ClusterId: newID(), FeatureLevel: t.node.level(), Version: t.node.deps.Version}}})
		var no *errRejected
		if err != nil && !errors.As(err, &no) {
			return err
		}
		if !pause(ctx, calm) {
			return nil
		}
	}
	return nil
}

// watch notices that the process was frozen: then the silence of the hosts is
// its own.
func (t *term) watch(ctx context.Context) error {
	t.ticked.Store(int64(t.mono()))
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			t.listened()
			t.ticked.Store(int64(t.mono()))
		}
	}
}

// listened restarts detection when the process has just been away.
func (t *term) listened() {
	now := t.mono()
	if last := time.Duration(t.ticked.Load()); now-last > gapAfter {
		t.log.Warn("this process was frozen; silence is counted anew", "for", (now - last).Round(time.Millisecond))
		t.contacts.gap(now)
		t.ticked.Store(int64(now))
	}
}

// decide makes the state true, as ha says, whenever something has changed.
func (t *term) decide(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		changed := t.node.fsm.Changed()
		s, began := t.node.fsm.State(), t.mono()
		t.listened()
		soft, now := t.soft(), t.now()
		plan := ha.Decide(s, soft, now)
		cost := t.mono() - began
		if plan.Transfer != "" {
			return fmt.Errorf("%w: %s", errTransfer, plan.Transfer)
		}
		t.ensure(ctx, plan.Effects)
		calmly, err := t.carryOut(ctx, plan.Commands)
		if err != nil {
			return err
		}
		wait := plan.Wake - t.mono()
		if calmly {
			wait = max(wait, calm)
		} else if len(plan.Commands) > 0 {
			continue
		}
		if !pause(ctx, rest(cost)) {
			return nil
		}
		timer.Reset(max(wait-rest(cost), time.Millisecond))
		if calmly {
			changed = nil
		}
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-t.poke:
		case <-changed:
		}
	}
	return nil
}

// soft is what this term knows and the log does not.
func (t *term) soft() *ha.Soft {
	soft := t.contacts.soft()
	soft.Executor = fmt.Sprintf("%s in term %d", t.node.cfg.ID, t.number)
	soft.Machine = fsm.HostID(t.node.cfg.Host)
	soft.Memo = &t.memo
	soft.Node = fsm.NodeID(t.node.cfg.ID)
	soft.Checks = t.checks.copy()
	return soft
}

// carryOut proposes commands in order and waits for all of them. refused: the
// state machine said no to one of them, which happens when the state has moved
// on since.
func (t *term) carryOut(ctx context.Context, commands []*logpb.Command) (refused bool, err error) {
	futures := make([]raft.ApplyFuture, 0, len(commands))
	for _, c := range commands {
		f, failed := t.submit(ctx, "", c)
		if failed != nil {
			err = failed
			break
		}
		futures = append(futures, f)
	}
	for _, f := range futures {
		switch _, failed := t.await(ctx, f); {
		case rejected(failed):
			refused = true
			t.log.Debug("the state machine refused a decision", "reason", failed)
		case failed != nil && err == nil:
			err = failed
		}
	}
	if ctx.Err() != nil {
		return refused, nil
	}
	return refused, err
}

// wakeParked answers agents that wait for news as soon as there is some.
func (n *Node) wakeParked(ctx context.Context) error {
	for {
		changed, began := n.fsm.Changed(), time.Now()
		if t := n.term.Load(); t != nil {
			t.contacts.wakeNews(n.fsm.State())
		}
		cost := time.Since(began)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		if !pause(ctx, max(wakePause, rest(cost))) { // many entries, one look
			return nil
		}
	}
}

// rest is the pause after a look at all hosts that took so long: where there are ten
// thousand and one of them says something every millisecond, looking again at once
// would take a core, and what they all wait for with it.
func rest(cost time.Duration) time.Duration {
	if cost < time.Millisecond {
		return 0
	}
	return min(4*cost, 200*time.Millisecond)
}

// wakePause joins the news of entries that come close together.
const wakePause = 2 * time.Millisecond

// pause waits; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
