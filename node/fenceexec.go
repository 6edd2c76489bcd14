package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fence"
	"lifeboat/fence/wire"
	"lifeboat/fsm"
)

// use does a task at the power controller of one of a host's fence levels, by
// those who execute the level: one after the other, until one of them has
// reached the controller (S25). It blocks at most until ctx ends; then nothing
// is under way any more, here or where it was given to. by names who had the
// last word.
func (t *term) use(ctx context.Context, h *fsm.Host, l fsm.FenceLevel, via []string, task fence.Task) (o fence.Outcome, by string) {
	target, err := t.node.target(h.ID, l)
	if err != nil {
		return fence.Outcome{Failure: err.Error(), Reason: fence.NoProgram}, fsm.ViaLeader
	}
	if len(via) == 0 {
		via = []string{fsm.ViaLeader}
	}
	job := fence.Job{Task: task, Target: target, Expect: fence.Expect{Identity: l.Identity}}
	if end, ok := ctx.Deadline(); ok && len(via) > 1 {
		// Who does not reach it must leave time for the others.
		job.Expect.Reach = time.Until(end) / time.Duration(len(via))
	}
	var failures []string
	for _, by = range via {
		o = t.useBy(ctx, by, h, job)
		if o.Failure == "" {
			return o, by
		}
		failures = append(failures, by+": "+valid(o.Failure))
		if !o.Elsewhere() || ctx.Err() != nil {
			break
		}
	}
	if len(failures) > 1 || by != fsm.ViaLeader {
		o.Failure = strings.Join(failures, "; ")
	}
	return o, by
}

func (t *term) useBy(ctx context.Context, by string, h *fsm.Host, job fence.Job) fence.Outcome {
	if id, ok := strings.CutPrefix(by, fsm.ViaNode); ok {
		return t.byNode(ctx, id, h, job)
	}
	if id, ok := strings.CutPrefix(by, fsm.ViaHost); ok {
		return t.byHost(ctx, fsm.HostID(id), h, job)
	}
	return t.node.deps.Fences.Do(ctx, job)
}

// unasked is the outcome of a job that nobody has begun, as far as is known. It
// lets the next one try: should it have been begun after all, it ends by the
// deadline that was committed for all of them (S10).
func unasked(format string, args ...any) fence.Outcome {
	return fence.Outcome{Failure: fmt.Sprintf(format, args...), Reason: fence.Unreachable, Stage: fence.StageIdentity}
}

// byNode gives a job to another manager. Its time runs from the ticket, which was
// issued before its answer arrived here: the job ends before our deadline
// although nobody's clock is compared (S10).
func (t *term) byNode(ctx context.Context, id string, h *fsm.Host, job fence.Job) fence.Outcome {
	addr := t.node.addrOf(id)
	if addr == "" {
		return unasked("it is no member of this cluster")
	}
	end, ok := ctx.Deadline()
	if !ok {
		return unasked("the job has no deadline")
	}
	c := lifeboatv1connect.NewNodeServiceClient(t.node.client, "https://"+addr)
	asking, cancel := context.WithTimeout(ctx, ticketTimeout)
	ticket, err := c.FenceTicket(asking, connect.NewRequest(&lifeboatv1.FenceTicketRequest{Term: t.number}))
	cancel()
	if err != nil {
		return unasked("it could not be asked: %v", message(err))
	}
	p := wire.Job(string(h.ID), 0, job)
	p.WithinMs = time.Until(end).Milliseconds()
	r, err := c.RunFence(ctx, connect.NewRequest(&lifeboatv1.RunFenceRequest{Ticket: ticket.Msg.Ticket, Term: t.number, Job: p}))
	if err != nil {
		return unasked("it gave no outcome: %v", message(err))
	}
	return wire.ReadOutcome(r.Msg)
}

// ticketTimeout is how long another manager may take to say that it is there.
const ticketTimeout = 2 * time.Second

func message(err error) string {
	var e *connect.Error
	if errors.As(err, &e) {
		return e.Message()
	}
	return err.Error()
}

// addrOf is where a member is reached; "" when it is none.
func (n *Node) addrOf(id string) string {
	f := n.raft.GetConfiguration()
	if f.Error() != nil {
		return ""
	}
	for _, s := range f.Configuration().Servers {
		if string(s.ID) == id {
			return string(s.Address)
		}
	}
	return ""
}

// byHost gives a job to the agent of another host.
func (t *term) byHost(ctx context.Context, peer fsm.HostID, h *fsm.Host, job fence.Job) fence.Outcome {
	if peer == "" {
		return unasked("no other host is Up whose agent could be asked")
	}
	s := t.node.fsm.State()
	patience := s.Policy.SuspectAfter()
	heard := func() bool {
		quiet, ok := t.contacts.lastHeard(peer, t.mono())
		return ok && quiet < patience
	}
	if p := s.Host(peer); p == nil || p.Status != fsm.Up || !heard() {
		return unasked("its agent is not there to be asked")
	}
	end, ok := ctx.Deadline()
	if !ok {
		return unasked("the job has no deadline")
	}
	nonce, answer := t.proxies.give(peer, t.mono()+time.Until(end), wire.Job(string(h.ID), 0, job))
	defer func() {
		if t.proxies.withdraw(nonce) {
			t.contacts.wake(peer)
		}
	}()
	t.contacts.wake(peer)
	look := time.NewTicker(patience / 4)
	defer look.Stop()
	for {
		select {
		case o := <-answer:
			return wire.ReadOutcome(o)
		case <-ctx.Done():
			return fence.Outcome{Failure: "it gave no outcome in time", Reason: fence.Deadline, Stage: fence.StagePower}
		case <-look.C:
			if !heard() {
				return unasked("its agent is silent since it was asked")
			}
		}
	}
}
