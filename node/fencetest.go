package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fence"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// testTimeout bounds the test of one fence level.
const testTimeout = 10 * time.Second

// checkDesk knows the checks of fence levels of one term.
type checkDesk struct {
	mu   sync.Mutex
	runs map[fsm.HostID]ha.CheckRun
}

func (d *checkDesk) set(id fsm.HostID, r ha.CheckRun) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.runs == nil {
		d.runs = map[fsm.HostID]ha.CheckRun{}
	}
	d.runs[id] = r
}

func (d *checkDesk) copy() map[fsm.HostID]ha.CheckRun {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.runs)
}

// checkFence tries the levels of a host and commits what was found.
func (t *term) checkFence(ctx context.Context, e ha.Check) {
	defer func() { t.checks.set(e.Host, ha.CheckRun{Round: e.Round, Ended: max(t.mono(), 1)}) }()
	h := t.node.fsm.State().Host(e.Host)
	if h == nil {
		return
	}
	if _, err := t.commitTests(ctx, "", h, t.testLevels(ctx, h, e.Levels)); err != nil && ctx.Err() == nil {
		t.log.Warn("the check of a host's fence levels could not be committed", "host", e.Host, "error", err)
	}
}

// tested is what the test of an active fence level found.
type tested struct {
	index   int
	level   fsm.FenceLevel
	by      string
	out     fence.Outcome
	failure string // "" = proven
	// open: nothing can be said, because the host has just gone.
	open bool
}

// testLevels tries levels of a host, all at once, without any order to it. Those
// that it has no more are left out.
func (t *term) testLevels(ctx context.Context, h *fsm.Host, levels []ha.Level) []tested {
	levels = slices.DeleteFunc(slices.Clone(levels), func(l ha.Level) bool { return l.Index >= len(h.Fence) })
	out := make([]tested, len(levels))
	var all sync.WaitGroup
	for i, l := range levels {
		out[i] = tested{index: l.Index, level: h.Fence[l.Index]}
		all.Go(func() { t.testLevel(ctx, h, l.Via, &out[i]) })
	}
	all.Wait()
	return out
}

func (t *term) testLevel(ctx context.Context, h *fsm.Host, via []string, x *tested) {
	limited, cancel := context.WithTimeout(ctx, testTimeout)
	x.out, x.by = t.use(limited, h, x.level, via, fence.TaskTest)
	cancel()
	switch {
	case x.out.Failure != "":
		x.failure = valid(x.out.Failure)
	case !fence.SameIdentity(x.out.Identity, x.level.Identity):
		x.failure = valid(fmt.Sprintf("it controls machine %s, not %s as expected", x.out.Identity, x.level.Identity))
	case otherMachine(h, x.out.Identity) && !x.level.Pinned:
		x.failure = valid(fmt.Sprintf("it controls machine %s, but the host says of itself that it is %s", x.out.Identity, h.HardwareID))
	case x.out.Last() == fence.Off:
		x.failure, x.open = t.readsOff(ctx, h)
	}
}

// otherMachine reports whether the machine itself contradicts what its power
// controller says (S9). Only system UUIDs can be compared.
func otherMachine(h *fsm.Host, identity string) bool {
	return fence.ContraryIdentity(identity, h.HardwareID)
}

// readsOff judges a controller that reads off. If the host is heard after that,
// it controls another machine; if not, the host may just have died.
func (t *term) readsOff(ctx context.Context, h *fsm.Host) (failure string, open bool) {
	if h.Status != fsm.Up {
		return "", false
	}
	read, s := t.mono(), t.node.fsm.State()
	for end := read + s.Policy.SuspectAfter(); t.mono() < end; {
		if quiet, ok := t.contacts.lastHeard(h.ID, t.mono()); ok && t.mono()-quiet > read {
			return "it reads the power as off although the host reports: it controls another machine", false
		}
		if !pause(ctx, s.Policy.Beat/4) {
			break
		}
	}
	return "the power reads off, and the host has fallen silent", true
}

// commitTests records what tests have found.
func (t *term) commitTests(ctx context.Context, actor string, h *fsm.Host, tests []tested) (fsm.Result, error) {
	c := &logpb.FenceChecked{Host: string(h.ID), Levels: checks(tests)}
	if len(c.Levels) == 0 || ctx.Err() != nil {
		return fsm.Result{}, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, absorbTimeout)
	defer cancel()
	return t.propose(ctx, actor, &logpb.Command{Body: &logpb.Command_FenceChecked{FenceChecked: c}})
}

// checks are tests as they are committed. What says nothing is left out.
func checks(tests []tested) []*logpb.LevelCheck {
	var out []*logpb.LevelCheck
	for _, x := range tests {
		if !x.open {
			out = append(out, &logpb.LevelCheck{Level: uint32(x.index), Driver: x.level.Driver, Address: x.level.Address,
				Identity: x.level.Identity, Failure: x.failure, By: x.by, LastUnixNs: x.level.Check.Checked})
		}
	}
	return out
}

func (a *adminAPI) TestFence(ctx context.Context, req *connect.Request[lifeboatv1.TestFenceRequest]) (*connect.Response[lifeboatv1.TestFenceResponse], error) {
	return forAdmin(ctx, a, req, false, (*term).testFence, lifeboatv1connect.AdminServiceClient.TestFence)
}

// testFence tries every level of a host for an operator. What it finds counts as
// a check.
func (t *term) testFence(ctx context.Context, q *lifeboatv1.TestFenceRequest) (*lifeboatv1.TestFenceResponse, error) {
	s := t.node.fsm.State()
	h := s.Host(fsm.HostID(q.Host))
	if h == nil || h.Status == fsm.Removed {
		return nil, notFound("there is no host %s; `lifeboat host list` shows them", q.Host)
	}
	if len(h.Fence) == 0 {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf(
			"host %s has no fence level: nothing proves it dead but an operator; give it one with `lifeboat host fence set %s`", h.ID, h.ID))
	}
	if err := t.audit(ctx, actor(ctx), fsm.AuditFenceTest, string(h.ID), fmt.Sprintf("the %d fence levels of host %s are tested", len(h.Fence), h.ID)); err != nil {
		return nil, err
	}
	tests := t.testLevels(ctx, h, ha.Active(s, t.soft(), t.now(), h))
	done, err := t.commitTests(ctx, actor(ctx), h, tests)
	if err != nil && !rejected(err) {
		return nil, fmt.Errorf("record what was found: %w", err)
	}
	r := &lifeboatv1.TestFenceResponse{Host: string(h.ID), Index: done.Index}
	for i, l := range h.Fence {
		v := &lifeboatv1.FenceTestView{Level: uint32(i + 1), Driver: l.Driver, Address: l.Address}
		switch l.Driver {
		case fsm.DriverLease:
			t.viewLease(s, h, v)
		case fsm.DriverManual:
			v.Text = "it waits for an operator to confirm the death"
			v.Action = fmt.Sprintf("if the host dies, make sure of it and run `lifeboat host confirm-dead %s`", h.ID)
		}
		r.Levels = append(r.Levels, v)
	}
	for _, x := range tests {
		viewTest(h, x, r.Levels[x.index])
	}
	return r, nil
}

func viewTest(h *fsm.Host, x tested, v *lifeboatv1.FenceTestView) {
	v.By, v.Proven = x.by, x.failure == ""
	if v.Proven {
		v.Text = valid(fmt.Sprintf("machine %s, power read twice as %s, no order given", x.out.Identity, x.out.Last()))
		if otherMachine(h, x.out.Identity) {
			v.Action = fmt.Sprintf("the host says of itself that it is %s, but an operator has named the other identity; make sure that both are one machine", h.HardwareID)
		}
		return
	}
	v.Text = x.failure
	switch x.out.Reason {
	case fence.Unreachable, fence.Deadline:
		v.Action = "check its address, network and power, or have somebody execute the level who reaches it (--executor)"
	case fence.AuthFailed:
		v.Action = "set the level again with the right user and password"
	case fence.NoProgram:
		v.Action = "install the program where this level is executed, or have another executor (--executor)"
	case fence.IdentityMismatch, fence.IdentityUnknown, "":
		v.Action = fmt.Sprintf("correct the address; if this controller is right, name its machine: `lifeboat host fence set %s %s,identity=...`", h.ID, x.level.Driver)
	default:
		v.Action = "check the controller's log and the options of the level"
	}
	if x.open {
		v.Action = "look at the host; then test again"
	}
}

// viewLease says whether a host's lease would prove its death today (S12).
func (t *term) viewLease(s *fsm.State, h *fsm.Host, v *lifeboatv1.FenceTestView) {
	kind := h.Watchdog
	if h.Lease != nil && h.Lease.Armed {
		kind = h.Lease.Watchdog
	}
	dog := fmt.Sprintf("%s watchdog", kind)
	if kind == fsm.WatchdogNone {
		dog = "no watchdog"
	}
	switch proves := s.Policy.ProvesDeath(kind); {
	case !proves && kind == fsm.WatchdogSoft:
		v.Text = "its watchdog is soft: a host that freezes comes back with its VMs, so the lease proves nothing"
		v.Action = "set watchdog.kind to hardware or external in its agent's configuration, or accept the risk with the policy accept_soft_watchdog"
	case !proves:
		v.Text = "its agent has no watchdog, so the lease proves nothing"
		v.Action = "set watchdog.kind to hardware or external in its agent's configuration"
	case h.Lease != nil && h.Lease.Armed:
		v.Proven = true
		v.Text = fmt.Sprintf("armed for %s, %s: proves death %s after the last contact", time.Duration(h.Lease.DurationNS), dog, s.Policy.Takeover)
	case !s.Armed:
		v.Text, v.Action = "not armed, because HA is disarmed ("+dog+")", "run `lifeboat ha arm`"
	case h.Status != fsm.Up:
		v.Text, v.Action = fmt.Sprintf("not armed: the host is %s (%s)", h.Status, dog), "see `lifeboat host show "+string(h.ID)+"`"
	default:
		v.Text, v.Action = "not armed yet ("+dog+")", "wait a few seconds and test again; else see the log of its agent"
	}
}

// maxNamed is how many hosts a sentence names.
const maxNamed = 5

// unprovenPaths says in status which hosts could perhaps not be fenced.
func (n *Node) unprovenPaths(s *fsm.State) []string {
	var names []string
	count, now := 0, n.clock().UnixNano()
	for id, h := range s.Hosts() {
		if h.Status == fsm.Removed || h.PathProblem(s.Policy, now) == "" {
			continue
		}
		if count++; count <= maxNamed {
			names = append(names, string(id))
		}
	}
	if count == 0 {
		return nil
	}
	text := strings.Join(names, ", ")
	if count > maxNamed {
		text += fmt.Sprintf(" and %d more", count-maxNamed)
	}
	return []string{fmt.Sprintf("the fence path of %d hosts is not proven to work: %s; `lifeboat fence test HOST` says why", count, text)}
}
