package fsm

import (
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// Machine applies the log. Its methods may be called from one goroutine at a
// time; State may be called from any.
type Machine struct {
	published atomic.Pointer[State]
	digester  *digester
	level     uint32 // the newest feature level that it knows
}

// Result is what one command did. Rejected is a sentence for whoever asked;
// nothing was changed then, with one exception: a batch of host reports names
// the first report that was refused, and the others count.
type Result struct {
	Index    uint64
	Rejected string
	// Void: the entry as a whole did not count, whatever it says: it was decided
	// in another term, or its time is refused. What it was about is as unknown
	// as if it had never been proposed.
	Void bool
	// Repeated: the command came before, under the same request id. Nothing was
	// changed; Index and Rejected are what became of it then.
	Repeated bool
	// Told is what became of each event of usage; nil for other commands.
	Told *UsageTold
}

// Entry is one committed log entry.
type Entry struct {
	Index uint64
	Term  uint64
	Data  []byte
}

// NewMachine returns a Machine with an empty state.
func NewMachine() *Machine { return NewMachineOf(FeatureLevel) }

// NewMachineOf is NewMachine of a build that knows feature levels up to level:
// tests have older builds by it.
func NewMachineOf(level uint32) *Machine {
	m := &Machine{level: level}
	m.load(newState())
	return m
}

// load makes s the state and starts a fresh digest of it.
func (m *Machine) load(s *State) {
	m.digester = newDigester(s)
	m.published.Store(s)
}

// State is the newest published view.
func (m *Machine) State() *State { return m.published.Load() }

// Apply applies entries in order and publishes once, after the last. It panics
// on an entry that CheckEntry refuses: a replica that passes over what another
// one has applied diverges.
func (m *Machine) Apply(entries []Entry) []Result {
	s := m.State().clone()
	m.digester.track(s)
	out := make([]Result, len(entries))
	var cmd logpb.Command
	for i, e := range entries {
		proto.Reset(&cmd)
		if err := proto.Unmarshal(e.Data, &cmd); err != nil || cmd.Body == nil {
			panic(fmt.Sprintf("fsm: entry %d of term %d cannot be read by this version of lifeboat (%v): it was written by a newer one; install that version here", e.Index, e.Term, err))
		}
		if err := fits(&cmd, m.level); err != nil {
			panic(fmt.Sprintf("fsm: entry %d of term %d: %v", e.Index, e.Term, err))
		}
		out[i] = Result{Index: e.Index}
		if out[i].Rejected = void(s, e, &cmd); out[i].Rejected != "" {
			out[i].Void = true
			continue
		}
		out[i] = m.once(s, e, &cmd)
	}
	m.published.Store(s)
	return out
}

// Members tells the state which management nodes the committed raft
// configuration of an index holds: a node that is gone from it is Down.
func (m *Machine) Members(index uint64, members []NodeID) {
	s := m.State().clone()
	m.digester.track(s)
	in := make(map[NodeID]bool, len(members))
	for _, id := range members {
		in[id] = true
	}
	s.Index = max(s.Index, index)
	t := &tx{s: s, now: s.Time, index: index, actor: "raft"}
	for id, n := range s.Nodes() {
		switch {
		case in[id]:
		case n.Going != 0:
			t.nodeGone(n)
		case n.State != NodeDown:
			t.nodeDown(n, "left the cluster", Warning)
		}
	}
	m.published.Store(s)
}

const (
	// MaxClockStep is how far a command's time may lie ahead of the state's (S21).
	MaxClockStep = int64(time.Hour)
	// maxTime is nobody's clock (2116): sums with a duration stay in range.
	maxTime = int64(1) << 62
)

// tx is the application of one command.
type tx struct {
	s     *State
	now   int64
	index uint64
	actor string

	touched map[HostID]*Host // as they were before the command; from LevelPolicy on
	outcome *UsageTold
}

// void says why an entry as a whole does not count; "" when it does.
func void(s *State, e Entry, c *logpb.Command) string {
	s.Index, s.Term = e.Index, e.Term
	if c.OnlyTerm != 0 && c.OnlyTerm != e.Term {
		return fmt.Sprintf("it was decided in term %d and committed in term %d: another node has led in between", c.OnlyTerm, e.Term)
	}
	_, accept := c.Body.(*logpb.Command_AcceptTime)
	switch {
	case c.TimeUnixNs > maxTime:
		return "the leader's clock is beyond the year 2115; set it"
	case s.Time != 0 && !accept && c.TimeUnixNs > s.Time && c.TimeUnixNs-s.Time > MaxClockStep:
		return fmt.Sprintf("the leader's clock is %s ahead of the cluster's; check the clocks of the management nodes and then accept the time",
			time.Duration(c.TimeUnixNs-s.Time).Round(time.Second))
	}
	return ""
}

// apply does what a command says, and what follows for usage.
func (m *Machine) apply(s *State, e Entry, c *logpb.Command) (rejected string, told *UsageTold) {
	before := s.Time
	s.Time = max(s.Time, c.TimeUnixNs)
	t := &tx{s: s, now: s.Time, index: e.Index, actor: c.Actor}
	if t.actor == "" {
		t.actor = "leader"
	}
	rejected = m.dispatch(t, before, c)
	t.meter()
	return rejected, t.outcome
}

// dispatch does what a command says; before is the time until now.
func (m *Machine) dispatch(t *tx, before int64, c *logpb.Command) (rejected string) {
	s := t.s
	switch b := c.Body.(type) {
	case *logpb.Command_HostReports:
		return t.hostReports(b.HostReports)
	case *logpb.Command_Canary:
		t.tick()
		s.Digest = DigestAt{Index: t.index, Sum: m.digester.fold(s)}
		return ""
	case *logpb.Command_AcceptTime:
		if step := time.Duration(s.Time - before); before != 0 && step > 0 {
			t.event("CLUSTER.TIME", Warning, "cluster", "the clock was set forward by %s", step.Round(time.Second))
		}
		return ""
	case *logpb.Command_ClusterInit:
		return t.clusterInit(b.ClusterInit)
	case *logpb.Command_NodeHello:
		return t.nodeHello(b.NodeHello)
	case *logpb.Command_NodeDown:
		return t.nodeDownCommand(b.NodeDown)
	case *logpb.Command_NodeControl:
		return t.nodeControl(b.NodeControl)
	case *logpb.Command_PolicySet:
		return t.policySet(b.PolicySet)
	case *logpb.Command_Arm:
		return t.arm(b.Arm)
	case *logpb.Command_HostRegister:
		return t.hostRegister(b.HostRegister)
	case *logpb.Command_HostSuspect:
		return t.hostSuspect(b.HostSuspect)
	case *logpb.Command_HostEvidence:
		return t.hostEvidence(b.HostEvidence)
	case *logpb.Command_HostSeen:
		return t.hostSeen(b.HostSeen)
	case *logpb.Command_HostUnproven:
		return t.hostUnproven(b.HostUnproven)
	case *logpb.Command_HostDown:
		return t.hostDown(b.HostDown)
	case *logpb.Command_FenceAttempt:
		return t.fenceAttempt(b.FenceAttempt)
	case *logpb.Command_FenceResult:
		return t.fenceResult(b.FenceResult)
	case *logpb.Command_HostFenced:
		return t.hostFenced(b.HostFenced)
	case *logpb.Command_HostLeave:
		return t.hostLeave(b.HostLeave)
	case *logpb.Command_HostLease:
		return t.hostLease(b.HostLease)
	case *logpb.Command_HostControl:
		return t.hostControl(b.HostControl)
	case *logpb.Command_HostFenceLevels:
		return t.hostFenceLevels(b.HostFenceLevels)
	case *logpb.Command_FenceChecked:
		return t.fenceChecked(b.FenceChecked)
	case *logpb.Command_VmCopy:
		return t.vmCopy(b.VmCopy)
	case *logpb.Command_Brake:
		return t.brake(b.Brake)
	case *logpb.Command_VmSpecs:
		return t.vmSpecs(b.VmSpecs)
	case *logpb.Command_VmProtect:
		return t.vmProtect(b.VmProtect)
	case *logpb.Command_VmControl:
		return t.vmControl(b.VmControl)
	case *logpb.Command_VmReleased:
		return t.vmReleased(b.VmReleased)
	case *logpb.Command_VmStorage:
		return t.vmStorage(b.VmStorage)
	case *logpb.Command_Place:
		return t.place(b.Place)
	case *logpb.Command_WorkUpdate:
		return t.workUpdate(b.WorkUpdate)
	case *logpb.Command_AlertUpdate:
		return t.alertUpdate(b.AlertUpdate)
	case *logpb.Command_NodeSteer:
		return t.nodeSteer(b.NodeSteer)
	case *logpb.Command_CaSet:
		return t.caSet(b.CaSet)
	case *logpb.Command_TokenCreate:
		return t.tokenCreate(b.TokenCreate)
	case *logpb.Command_TokenRevoke:
		return t.tokenRevoke(b.TokenRevoke)
	case *logpb.Command_TokenUse:
		return t.tokenUse(b.TokenUse)
	case *logpb.Command_OperatorSet:
		return t.operatorSet(b.OperatorSet)
	case *logpb.Command_NodeAdmit:
		return t.nodeAdmit(b.NodeAdmit)
	case *logpb.Command_RuleAdd:
		return t.ruleAdd(b.RuleAdd)
	case *logpb.Command_RuleRemove:
		return t.ruleRemove(b.RuleRemove)
	case *logpb.Command_VmGuest:
		return t.vmGuest(b.VmGuest)
	case *logpb.Command_VmSet:
		return t.vmSet(b.VmSet)
	case *logpb.Command_FeatureRaise:
		return t.featureRaise(b.FeatureRaise)
	case *logpb.Command_VmMove:
		return t.vmMove(b.VmMove)
	case *logpb.Command_HostDrained:
		return t.hostDrained(b.HostDrained)
	case *logpb.Command_HostStopping:
		return t.hostStopping(b.HostStopping)
	case *logpb.Command_HostHeeds:
		return t.hostHeeds(b.HostHeeds)
	case *logpb.Command_UsageEvents:
		return t.usageEvents(b.UsageEvents)
	case *logpb.Command_UsageAccountSet:
		return t.usageAccountSet(b.UsageAccountSet)
	case *logpb.Command_UsageTypeSet:
		return t.usageTypeSet(b.UsageTypeSet)
	case *logpb.Command_UsageClose:
		return t.usageClose(b.UsageClose)
	case *logpb.Command_UsageTrim:
		return t.usageTrim(b.UsageTrim)
	case *logpb.Command_UsageOwnerSet:
		return t.usageOwnerSet(b.UsageOwnerSet)
	case *logpb.Command_UsageSync:
		return t.usageSync(b.UsageSync)
	case *logpb.Command_AlertControl:
		return t.alertControl(b.AlertControl)
	case *logpb.Command_AlertRaise:
		return t.alertRaise(b.AlertRaise)
	case *logpb.Command_NotifySet:
		return t.notifySet(b.NotifySet)
	case *logpb.Command_NotifyRemove:
		return t.notifyRemove(b.NotifyRemove)
	case *logpb.Command_SilenceSet:
		return t.silenceSet(b.SilenceSet)
	case *logpb.Command_NotifyStep:
		return t.notifyStep(b.NotifyStep)
	case *logpb.Command_EventPurge:
		return t.eventPurge(b.EventPurge)
	case *logpb.Command_Audit:
		return t.audit(b.Audit)
	}
	panic(fmt.Sprintf("fsm: entry %d holds a command this version of lifeboat does not know; install the version that wrote it", t.index))
}
