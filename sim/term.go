package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
	"lifeboat/ha/foresee"
)

// term is one leadership of a manager. It mirrors node's term: what that one
// does in goroutines happens here in events, which the end of the term drops.
type term struct {
	m      *manager
	number uint64
	start  time.Duration
	began  int64 // by this machine's clock then, unix ns
	over   bool

	since, proven time.Duration // see ha.Soft
	hosts         map[fsm.HostID]*contact
	order         []*contact // by id
	told          told
	view          ha.Contacts   // hosts, for ha
	news          []*contact    // those of which the view is not what they are
	looked        time.Duration // when decide last looked
	memo          ha.Memo
	idle          bool                               // and found nothing to do or to wait for
	proof         uint64                             // index of the newest canary
	waiting       map[uint64]func(fsm.Result, error) // proposals, by index
	running       map[string]bool                    // effects
	checks        map[fsm.HostID]ha.CheckRun
	nonce         uint64
	admission     [foresee.PolicyLine + 1]docket
	probes        map[uint64]probeWait
	heard         map[fsm.NodeID]time.Duration // of managers
	offset        map[fsm.NodeID]time.Duration

	ticked   time.Duration // last sign that the process was not frozen
	busy     bool          // decisions are on their way into the log
	poked    bool          // a look is planned
	wake     int
	newsSoon bool
}

const (
	canaryEvery  = time.Second
	canaryStall  = 5 * time.Second
	gapAfter     = time.Second
	calm         = 200 * time.Millisecond
	membersEvery = 250 * time.Millisecond
	wakePause    = 2 * time.Millisecond
	maxSkew      = 2 * time.Second
	maxAhead     = 10 * time.Second
)

// serveTerm begins when everything earlier terms committed is applied.
func (m *manager) serveTerm() {
	t := &term{m: m, number: m.raft.term, start: m.w.now, began: m.clock(), proven: -1,
		hosts: map[fsm.HostID]*contact{}, waiting: map[uint64]func(fsm.Result, error){}, running: map[string]bool{}, checks: map[fsm.HostID]ha.CheckRun{},
		probes: map[uint64]probeWait{}, heard: map[fsm.NodeID]time.Duration{}, offset: map[fsm.NodeID]time.Duration{}}
	m.listening = t
	last, st := m.raft.lastContact, t.state()
	quiet := m.w.now - last + maxAhead + canaryStall
	if len(m.w.managers) == 1 || st.Time == 0 || time.Duration(m.clock()-st.Time) < quiet {
		t.serveNow()
		return
	}
	// Its clock does not fit what the last leader committed: the others are asked
	// before the first entry (S21).
	t.compareClocks(t.mono() + clockPatience)
}

// clockPatience is how long a new leader waits for other nodes' clocks.
const clockPatience = 1500 * time.Millisecond

func (t *term) compareClocks(end time.Duration) {
	m := t.m
	if t.over || !m.raft.leads || m.listening != t {
		return
	}
	if t.mono() < end && len(t.offset) < len(m.w.managers)-1 {
		t.later(10*time.Millisecond, func() { t.compareClocks(end) })
		return
	}
	if why := t.clockProblem(t.state()); why != "" {
		m.listening = nil
		t.fail("leadership must go to another node: "+why, false)
		return
	}
	t.serveNow()
}

// serveNow begins the term.
func (t *term) serveNow() {
	m := t.m
	m.listening, m.term = nil, t
	t.since, t.ticked = t.mono(), t.mono() // until here nobody could be heard
	if t.state().ClusterID == "" {
		t.propose("", &logpb.Command{Body: &logpb.Command_ClusterInit{ClusterInit: &logpb.ClusterInit{ClusterId: "sim", FeatureLevel: fsm.FeatureLevel}}}, ignore)
	}
	t.canary(1, t.mono())
	t.watchMembers()
	t.again()
}

func ignore(fsm.Result, error) {}

func (m *manager) endTerm(string) {
	if l := m.listening; l != nil {
		m.listening, l.over = nil, true
	}
	t := m.term
	if t == nil {
		return
	}
	m.w.rouseAll()
	m.term, t.over = nil, true
	ids := make([]uint64, 0, len(t.waiting))
	for i := range t.waiting {
		ids = append(ids, i)
	}
	slices.Sort(ids)
	for _, i := range ids {
		t.waiting[i](fsm.Result{}, errUnknown)
	}
	t.waiting = nil
	for _, x := range t.order {
		x.wake()
	}
}

func (t *term) mono() time.Duration { return t.m.w.now - t.start }

// wall is the time of the log: a clock that is set during a term does not get
// into it.
func (t *term) wall() int64 { return t.began + int64(t.mono()) }

func (t *term) state() *fsm.State { return t.m.state() }

// later does something in this term only.
func (t *term) later(d time.Duration, do func()) {
	t.m.later(d, func() {
		if !t.over {
			do()
		}
	})
}

// applied is told of every entry of this manager's log.
func (t *term) applied(index uint64, r fsm.Result) {
	if done := t.waiting[index]; done != nil {
		delete(t.waiting, index)
		var err error
		if r.Rejected != "" {
			err = &rejected{r.Rejected}
		}
		done(r, err)
	}
	if t.over {
		return
	}
	if t.idle && index == t.proof {
		return // a canary, and nothing waits for one
	}
	t.again()
	if !t.newsSoon {
		t.newsSoon = true
		t.later(wakePause, func() {
			t.newsSoon = false
			t.wakeNews()
		})
	}
}

// rejected is a command that was committed and changed nothing.
type rejected struct{ reason string }

func (e *rejected) Error() string { return e.reason }

// canary proves every second that this term commits (S14).
func (t *term) canary(seq uint64, last time.Duration) {
	proposed, ended := t.mono(), false
	t.propose("", &logpb.Command{Body: &logpb.Command_Canary{Canary: &logpb.Canary{Node: t.m.name, Term: t.number, Seq: seq}}}, func(_ fsm.Result, err error) {
		ended = true
		var no *rejected
		switch {
		case t.over:
			return
		case errors.As(err, &no):
			// The cluster's time stands still (S21): nothing is renewed meanwhile.
			t.later(canaryEvery, func() { t.canary(seq+1, t.mono()) })
			return
		case err != nil:
			return
		}
		t.proven = max(t.proven, proposed)
		now := t.mono()
		t.later(canaryEvery-(now-proposed), func() { t.canary(seq+1, now) })
	})
	t.proof = uint64(len(t.m.raft.log))
	most := max(canaryStall, t.state().Policy.Lease/4)
	t.later(max(canaryStall-(proposed-last), canaryStall-2*canaryEvery), func() {
		switch silent := t.mono() - last; {
		case ended:
		case t.m.disk != diskOK:
			t.fail("nothing could be written for "+canaryStall.String(), true)
		default: // the others take no entry
			t.later(most-silent, func() {
				if !ended {
					t.fail("the other nodes took no entry for "+most.String(), true)
				}
			})
		}
	})
}

// fail ends the term from inside: somebody else must lead. stalled: or nobody
// from here.
func (t *term) fail(why string, stalled bool) {
	m := t.m
	m.w.note([]string{m.name}, "the term of %s ends: %s", m.name, why)
	m.endTerm(why)
	if stalled {
		m.kill() // a transfer would need the loop of Raft that hangs
		m.restart()
		return
	}
	if !m.giveAway() {
		m.later(time.Second, func() {
			if m.raft.leads && m.term == nil && m.listening == nil {
				m.serveTerm()
			}
		})
	}
}

// restart is systemd's.
func (m *manager) restart() {
	m.w.after(restartWait, func() {
		if !m.up && !m.left {
			if m.disk != diskOK {
				m.restart()
				return
			}
			m.start()
		}
	})
}

// listened restarts detection when the process has just been away.
func (t *term) listened() {
	now := t.mono()
	if now-t.ticked > gapAfter {
		t.since = now
	}
	t.ticked = now
}

// again makes decide look soon.
func (t *term) again() {
	if t.poked || t.busy || t.over {
		return
	}
	t.poked = true
	// A look at ten thousand hosts takes its time, and what changes meanwhile is
	// seen with the next.
	t.later(t.looked+t.m.w.thinks-t.mono(), func() {
		t.poked = false
		t.decide()
	})
}

func (t *term) soft() *ha.Soft {
	for _, x := range t.news {
		x.fresh = true
		if t.hosts[x.id] != x {
			continue // of an earlier epoch
		}
		d := x.drift()
		t.view.Set(x.id, ha.Contact{Epoch: x.epoch, Heard: x.heard + d, Absorbed: x.absorbed + int64(d), Looked: x.arrivals.Looked() + int64(d), Copies: x.memory.Copies(), Coming: x.memory.Coming(), Guests: x.memory.Guests(), Check: x.check, Fence: x.fence})
	}
	t.news = t.news[:0]
	s := &ha.Soft{Executor: fmt.Sprintf("%s in term %d", t.m.name, t.number), Node: fsm.NodeID(t.m.name), Since: t.since, Proven: t.proven, Checks: t.checks,
		Hosts: t.view, Memo: &t.memo}
	if t.m.on != nil {
		s.Machine = fsm.HostID(t.m.on.name)
	}
	return s
}

// decide makes the state true, as ha says.
func (t *term) decide() {
	if t.busy || t.over {
		return
	}
	t.listened()
	t.looked = t.mono()
	plan := ha.Decide(t.state(), t.soft(), ha.Now{Wall: t.wall(), Mono: t.mono()})
	if plan.Transfer != "" {
		t.fail("leadership must go to another node: "+plan.Transfer, false)
		return
	}
	t.ensure(plan.Effects)
	t.idle = len(plan.Commands)+len(plan.Effects) == 0 && plan.Wake-t.mono() > longAway
	if len(plan.Commands) == 0 {
		t.wakeIn(max(plan.Wake-t.mono(), time.Millisecond))
		return
	}
	t.busy = true
	left, refused := len(plan.Commands), false
	for _, c := range plan.Commands {
		t.propose("", c, func(_ fsm.Result, err error) {
			var no *rejected
			refused = refused || errors.As(err, &no)
			if left--; left > 0 || t.over {
				return
			}
			if refused {
				t.wakeCalmly(max(plan.Wake-t.mono(), calm))
				return
			}
			t.busy = false
			t.again()
		})
	}
}

// wakeCalmly looks again after a refusal, and not because of what else changes
// meanwhile.
func (t *term) wakeCalmly(d time.Duration) {
	t.later(min(d, calm), func() {
		t.busy = false
		t.again()
	})
}

func (t *term) wakeIn(d time.Duration) {
	t.wake++
	n := t.wake
	d = max(d, t.looked+t.m.w.thinks-t.mono())
	// The tick shows that the process is not frozen meanwhile.
	t.later(min(d, gapAfter/2), func() {
		switch {
		case t.wake != n:
		case d > gapAfter/2:
			t.listened()
			t.wakeIn(d - gapAfter/2)
		default:
			t.decide()
		}
	})
}

// longAway is when ha wants to be asked again in a large world in which nothing is
// to be done.
const longAway = time.Minute

// hello is a manager's sign of life; it is committed only when it is news.
func (t *term) hello(h hello, done func(error)) {
	id := fsm.NodeID(h.from.name)
	if no := t.state().Node(id).Outdated(h.run, h.began); no != "" {
		done(&rejected{no})
		return
	}
	t.noteClock(h)
	end := func(_ fsm.Result, err error) { done(err) }
	if h.leaving {
		t.propose("node/"+h.from.name, &logpb.Command{Body: &logpb.Command_NodeDown{NodeDown: &logpb.NodeDown{
			Id: h.from.name, RunId: h.run, Reason: "it was stopped", Left: true}}}, end)
		return
	}
	if n := t.state().Node(id); n != nil && n.State != fsm.NodeDown && n.RunID == h.run {
		done(nil)
		return
	}
	machine := ""
	if h.from.on != nil {
		machine = h.from.on.name
	}
	t.propose("node/"+h.from.name, &logpb.Command{Body: &logpb.Command_NodeHello{NodeHello: &logpb.NodeHello{
		Id: h.from.name, Addr: h.from.name, RunId: h.run, StartedUnixNs: h.began, Version: "sim", FeatureLevel: fsm.FeatureLevel, Machine: machine}}}, end)
}

func (t *term) noteClock(h hello) {
	id := fsm.NodeID(h.from.name)
	t.heard[id] = t.mono()
	t.offset[id] = time.Duration(h.clock - t.m.clock())
}

// watchMembers marks managers Down that are silent, and ends the term when this
// clock is not fit to lead (S21).
func (t *term) watchMembers() {
	t.later(membersEvery, func() {
		s := t.state()
		for _, n := range s.Nodes() {
			quiet := t.mono() - t.heard[n.ID]
			if n.State == fsm.NodeDown || n.ID == fsm.NodeID(t.m.name) || quiet < s.Policy.NodeDownAfter {
				continue
			}
			t.propose("", &logpb.Command{Body: &logpb.Command_NodeDown{NodeDown: &logpb.NodeDown{
				Id: string(n.ID), RunId: n.RunID, Reason: fmt.Sprintf("nothing was heard of it for %.1f s", quiet.Seconds())}}}, ignore)
		}
		if why := t.clockProblem(s); why != "" {
			t.fail("leadership must go to another node: "+why, false)
			return
		}
		t.watchMembers()
	})
}

func (t *term) clockProblem(s *fsm.State) string {
	if ahead := time.Duration(s.Time - t.m.clock()); ahead > maxAhead {
		return fmt.Sprintf("this node's clock is %s behind the cluster's time", ahead.Round(time.Second))
	}
	if off := t.skew(); off > maxSkew || off < -maxSkew {
		return fmt.Sprintf("this node's clock differs by %s from most nodes'", off.Round(100*time.Millisecond))
	}
	return ""
}

// skew is the median of the managers' clocks against ours.
func (t *term) skew() time.Duration {
	all := []time.Duration{0}
	for id, off := range t.offset {
		if id != fsm.NodeID(t.m.name) {
			all = append(all, off)
		}
	}
	slices.Sort(all)
	low, high := all[(len(all)-1)/2], all[len(all)/2]
	if low.Abs() < high.Abs() {
		return low
	}
	return high
}
