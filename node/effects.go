package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fence"
	"lifeboat/fsm"
	"lifeboat/ha"
)

// ensure starts the effects that have not been started in this term. They end
// with ctx.
func (t *term) ensure(ctx context.Context, effects []ha.Effect) {
	for _, e := range effects {
		key := fmt.Sprintf("%T %v", e, e)
		var run func()
		switch e := e.(type) {
		case ha.Investigate:
			key = fmt.Sprintf("investigate %s/%d/%d", e.Host, e.Epoch, e.Round)
			run = func() { t.investigate(ctx, e) }
			delete(t.running, fmt.Sprintf("investigate %s/%d/%d", e.Host, e.Epoch, e.Round-1))
		case ha.Fence:
			key = fmt.Sprintf("fence %s/%d/%d", e.Host, e.Epoch, e.Attempt)
			run = func() { t.fence(ctx, e) }
			delete(t.running, fmt.Sprintf("fence %s/%d/%d", e.Host, e.Epoch, e.Attempt-1))
		case ha.Check:
			key = fmt.Sprintf("check %s/%d", e.Host, e.Round)
			run = func() { t.checkFence(ctx, e) }
			delete(t.running, fmt.Sprintf("check %s/%d", e.Host, e.Round-1))
		}
		if run == nil || t.running[key] {
			continue
		}
		t.running[key] = true
		// Noted here and not there: the next look must see that it runs.
		switch e := e.(type) {
		case ha.Investigate:
			t.contacts.of(e.Host, e.Epoch).checking(e.Round, t.mono())
		case ha.Check:
			t.checks.set(e.Host, ha.CheckRun{Round: e.Round})
		}
		t.effects.Add(1)
		go func() {
			defer t.effects.Done()
			run()
			t.again()
		}()
	}
}

// investigate asks peers and power controllers about a silent host, all at
// once.
func (t *term) investigate(ctx context.Context, e ha.Investigate) {
	ctx, cancel := context.WithTimeout(ctx, e.For)
	defer cancel()
	h := t.node.fsm.State().Host(e.Host)
	if h == nil || h.Epoch != e.Epoch {
		return
	}
	x := t.contacts.of(e.Host, e.Epoch)
	var all sync.WaitGroup
	ask := func(find func(context.Context) []ha.Finding) {
		all.Add(1)
		go func() {
			defer all.Done()
			x.found(e.Round, find(ctx)...)
			t.again()
		}()
	}
	for _, peer := range e.Peers {
		ask(func(ctx context.Context) []ha.Finding { return t.askPeer(ctx, peer, h, e.Beats) })
	}
	for _, level := range e.BMC {
		ask(func(ctx context.Context) []ha.Finding { return []ha.Finding{t.readPower(ctx, h, level)} })
	}
	all.Wait()
	x.checked(e.Round)
}

// askPeer has another host try to reach the silent one, and look for its
// heartbeat in the directories that both share.
func (t *term) askPeer(ctx context.Context, peer fsm.HostID, h *fsm.Host, beats []string) []ha.Finding {
	f := ha.Finding{Source: "peer " + string(peer)}
	nonce, answer := t.probes.expect(peer)
	defer t.probes.forget(nonce)
	if !t.contacts.ask(peer, &lifeboatv1.Probe{HostId: string(h.ID), Addrs: h.ProbeAddrs, Nonce: nonce, Beats: beats, BootId: h.BootID}) {
		f.Detail = "it could not be asked"
		return []ha.Finding{f}
	}
	seen := []ha.Finding{}
	select {
	case <-ctx.Done():
		f.Detail = "it gave no answer in time"
	case r := <-answer:
		switch r.Verdict {
		case lifeboatv1.ProbeVerdict_PROBE_VERDICT_ALIVE, lifeboatv1.ProbeVerdict_PROBE_VERDICT_REFUSED:
			f.Verdict = fsm.Alive
			f.Detail = "it reaches " + valid(r.Detail)
		default:
			f.Detail = "it cannot reach it"
			if r.Detail != "" {
				f.Detail += ": " + valid(r.Detail)
			}
		}
		seen = beatsSeen(peer, r.Beats, beats)
	}
	return append(seen, f)
}

// beatsSeen is what a peer read of a silent host's heartbeats. One that goes on
// is a sign of life; everything else says nothing (S20).
func beatsSeen(peer fsm.HostID, seen []*lifeboatv1.BeatSeen, asked []string) []ha.Finding {
	var out []ha.Finding
	for _, b := range seen {
		if !slices.Contains(asked, b.GetStorage()) {
			continue
		}
		f := ha.Finding{Source: "storage " + valid(b.Storage) + " seen by " + string(peer), Detail: valid(b.Detail)}
		if b.Moved {
			f.Verdict = fsm.Alive
		}
		out = append(out, f)
	}
	return out
}

// readPower reads a host's power state from one of its controllers. Power that
// is on says nothing about what runs on it.
func (t *term) readPower(ctx context.Context, h *fsm.Host, level ha.Level) ha.Finding {
	if level.Index >= len(h.Fence) {
		return ha.Finding{Source: "power", Detail: "its fence levels have just been changed"}
	}
	l := h.Fence[level.Index]
	f := ha.Finding{Source: "power (" + l.Driver + " at " + l.Address + ")"}
	o, by := t.use(ctx, h, l, level.Via, fence.TaskProbe)
	switch {
	case o.Failure != "":
		f.Detail = valid(o.Failure)
		return f
	case !fence.SameIdentity(o.Identity, l.Identity):
		f.Detail = "its executor read another machine"
		return f
	case o.Last() == fence.Off:
		f.Verdict, f.Detail = fsm.Dead, "the power is off"
	default:
		f.Detail = "the power reads " + string(o.Last())
	}
	f.Detail += through(by)
	return f
}

// fence runs one committed attempt (S10).
func (t *term) fence(ctx context.Context, e ha.Fence) {
	x := t.contacts.of(e.Host, e.Epoch)
	x.fencing(ha.FenceRun{Attempt: e.Attempt})
	run := ha.FenceRun{Attempt: e.Attempt}
	proof, by, err := t.cut(ctx, e)
	if ctx.Err() != nil {
		return // the term is over, and so is this; the next leader tries anew
	}
	run.Ended = max(t.mono(), 1)
	if err != nil {
		run.Failure = valid(err.Error())
		t.log.Warn("a fence attempt failed", "host", e.Host, "attempt", e.Attempt, "error", err)
	} else {
		run.Proof = &ha.Finding{Source: proof.Driver + " at " + proof.Address + through(by), Verdict: fsm.Dead, Detail: proofText(proof)}
	}
	x.fencing(run)
}

func (t *term) cut(ctx context.Context, e ha.Fence) (proof fence.Proof, by string, err error) {
	h := t.node.fsm.State().Host(e.Host)
	if h == nil || h.Epoch != e.Epoch || int(e.Level) >= len(h.Fence) {
		return fence.Proof{}, "", fmt.Errorf("host %s has changed since", e.Host)
	}
	l := h.Fence[e.Level]
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	ctx, callOff := context.WithCancelCause(ctx)
	defer callOff(nil)
	go t.watchFence(ctx, e, callOff)
	o, by := t.use(ctx, h, l, e.Via, fence.TaskOff)
	proof, err = o.Proof(fence.Endpoint{Driver: l.Driver, Address: l.Address}, fence.Expect{Identity: l.Identity}, time.Now())
	return proof, by, err
}

// through says who did something with a power controller, if not the leader.
func through(by string) string {
	if by == "" || by == fsm.ViaLeader {
		return ""
	}
	return " through " + by
}

// errCalledOff ends an attempt that nobody wants any more.
var errCalledOff = errors.New("called off: the host is back, proven dead otherwise, or HA was disarmed")

// watchFence calls an attempt off as soon as the state does not ask for it any
// more. What was sent by then may still happen, which is why the host is held
// back until the attempt's deadline (S10).
func (t *term) watchFence(ctx context.Context, e ha.Fence, callOff context.CancelCauseFunc) {
	for {
		changed := t.node.fsm.Changed()
		s := t.node.fsm.State()
		h := s.Host(e.Host)
		if !s.Armed || h == nil || h.Epoch != e.Epoch || h.HA != fsm.HAFencing || h.Attempt == nil || h.Attempt.Number != e.Attempt {
			callOff(errCalledOff)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func proofText(p fence.Proof) string {
	first, last := p.Readings[0].At, p.Readings[len(p.Readings)-1].At
	for i := len(p.Readings) - 1; i >= 0 && p.Readings[i].State == fence.Off; i-- {
		first = p.Readings[i].At
	}
	how := "after an order to switch off"
	if p.AlreadyOff {
		how = "without an order of ours"
	}
	return fmt.Sprintf("power read as off twice, %s apart, %s; machine %s", last.Sub(first).Round(10*time.Millisecond), how, valid(p.Identity))
}

// target is the power controller of a fence level, with its password.
func (n *Node) target(host fsm.HostID, l fsm.FenceLevel) (fence.Target, error) {
	target := fence.Target{Driver: l.Driver, Address: l.Address, User: l.User, Options: map[string]string{}}
	for _, o := range l.Options {
		target.Options[o.Key] = o.Value
	}
	if len(l.Secret) > 0 {
		password, err := n.sealer.open(l.Secret, secretOf(host))
		if err != nil {
			return fence.Target{}, fmt.Errorf("read the password of %s for host %s: %w", l.Driver, host, err)
		}
		target.Password = fence.NewSecret(string(password))
	}
	return target, nil
}

// secretOf is what a BMC password is sealed for.
func secretOf(host fsm.HostID) []byte { return []byte("fence " + string(host)) }

// probeDesk matches the answers of peers with who waits for them.
type probeDesk struct {
	mu      sync.Mutex
	nonce   uint64
	waiting map[uint64]waitingProbe
}

type waitingProbe struct {
	peer   fsm.HostID
	answer chan *lifeboatv1.ProbeResult // capacity 1
}

func newProbeDesk() *probeDesk { return &probeDesk{waiting: map[uint64]waitingProbe{}} }

func (d *probeDesk) expect(peer fsm.HostID) (uint64, <-chan *lifeboatv1.ProbeResult) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nonce++
	w := waitingProbe{peer, make(chan *lifeboatv1.ProbeResult, 1)}
	d.waiting[d.nonce] = w
	return d.nonce, w.answer
}

func (d *probeDesk) forget(nonce uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.waiting, nonce)
}

// deliver takes an answer; one that nobody asked this peer for is dropped.
func (d *probeDesk) deliver(from fsm.HostID, r *lifeboatv1.ProbeResult) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w, ok := d.waiting[r.Nonce]; ok && w.peer == from {
		delete(d.waiting, r.Nonce)
		w.answer <- r
	}
}
