package ha_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// crewLog is a log of management nodes only.
type crewLog struct {
	t     *testing.T
	m     *fsm.Machine
	index uint64
	now   int64
}

func (l *crewLog) apply(c *logpb.Command) {
	l.t.Helper()
	l.index++
	c.TimeUnixNs = l.now
	b, err := proto.Marshal(c)
	if err != nil {
		l.t.Fatal(err)
	}
	if no := l.m.Apply([]fsm.Entry{{Index: l.index, Term: 1, Data: b}})[0].Rejected; no != "" {
		l.t.Fatal(no)
	}
}

func (l *crewLog) step(id string, s fsm.NodeStep) {
	l.apply(&logpb.Command{Body: &logpb.Command_NodeSteer{NodeSteer: &logpb.NodeSteer{Id: id, RunId: "r1", Step: uint32(s), WithinNs: int64(5 * time.Minute), ForNs: int64(time.Hour)}}})
}

// newCrew has three nodes that are Up, of which n1 leads.
func newCrew(t *testing.T) (*crewLog, ha.Crew) {
	l := &crewLog{t: t, m: fsm.NewMachine(), now: dawn}
	crew := ha.Crew{Self: "n1", Peers: map[fsm.NodeID]ha.Peer{}}
	for _, id := range []string{"n1", "n2", "n3"} {
		l.apply(&logpb.Command{Body: &logpb.Command_NodeHello{NodeHello: &logpb.NodeHello{Id: id, RunId: "r1"}}})
		crew.Peers[fsm.NodeID(id)] = ha.Peer{Voter: true, Heard: true}
	}
	return l, crew
}

// What the leader makes of each situation of the nodes, step by step.
func TestSteerNodes(t *testing.T) {
	const maintain, ready, prepare, stop, over = fsm.StepMaintain, fsm.StepNothingLeft, fsm.StepPrepareStop, fsm.StepStop, fsm.StepDeadline
	for name, c := range map[string]struct {
		who   string
		steps []fsm.NodeStep
		later time.Duration
		tweak func(l *crewLog, crew ha.Crew)

		want     fsm.NodeStep // 0 = none
		reason   string
		handOver fsm.NodeID
	}{
		"all are Up":                       {},
		"it carries nothing":               {who: "n2", steps: []fsm.NodeStep{maintain}, want: ready},
		"the same, late":                   {who: "n2", steps: []fsm.NodeStep{maintain}, later: time.Hour, want: ready},
		"it has not applied it":            {who: "n2", steps: []fsm.NodeStep{maintain}, tweak: peer("n2", func(p *ha.Peer) { p.State = 3 })},
		"it has not been heard":            {who: "n2", steps: []fsm.NodeStep{maintain}, tweak: peer("n2", func(p *ha.Peer) { *p = ha.Peer{Voter: true} })},
		"agents come to it":                {who: "n2", steps: []fsm.NodeStep{prepare}, later: 5*time.Minute - 1, tweak: peer("n2", func(p *ha.Peer) { p.Agents = 2 })},
		"agents come to it, too late":      {who: "n2", steps: []fsm.NodeStep{prepare}, later: 5 * time.Minute, tweak: peer("n2", func(p *ha.Peer) { p.Agents = 2 }), want: over, reason: "it was not ready within 5m0s: the agents of 2 hosts come to it"},
		"an agent comes to it, too late":   {who: "n2", steps: []fsm.NodeStep{maintain}, later: 5 * time.Minute, tweak: peer("n2", func(p *ha.Peer) { p.Agents = 1 }), want: over, reason: "it was not ready within 5m0s: the agent of one host comes to it"},
		"it does not say, too late":        {who: "n2", steps: []fsm.NodeStep{maintain}, later: 5 * time.Minute, tweak: peer("n2", func(p *ha.Peer) { p.State = 3 }), want: over, reason: "it was not ready within 5m0s: it has not said yet what it carries"},
		"in maintenance":                   {who: "n2", steps: []fsm.NodeStep{maintain, ready}, later: time.Hour - 1},
		"the maintenance is over":          {who: "n2", steps: []fsm.NodeStep{maintain, ready}, later: time.Hour, want: over, reason: "the time of its maintenance, 1h0m0s, is over"},
		"agents in maintenance":            {who: "n2", steps: []fsm.NodeStep{maintain, ready}, tweak: peer("n2", func(p *ha.Peer) { p.Agents = 2 })},
		"ready":                            {who: "n2", steps: []fsm.NodeStep{prepare, ready}, later: 4 * time.Minute},
		"ready, forgotten":                 {who: "n2", steps: []fsm.NodeStep{prepare, ready}, later: 5 * time.Minute, want: over, reason: "nobody shut it down within 5m0s"},
		"it shuts down":                    {who: "n2", steps: []fsm.NodeStep{prepare, ready, stop}, later: 4 * time.Minute},
		"it does not stop":                 {who: "n2", steps: []fsm.NodeStep{prepare, ready, stop}, later: 5 * time.Minute, want: over, reason: "it did not stop within 5m0s; look at its log"},
		"the leader":                       {who: "n1", steps: []fsm.NodeStep{maintain}, handOver: "n2"},
		"the leader, to the newest":        {who: "n1", steps: []fsm.NodeStep{maintain}, tweak: peer("n2", func(p *ha.Peer) { p.Lag = 7 }), handOver: "n3"},
		"the leader, to one that is heard": {who: "n1", steps: []fsm.NodeStep{maintain}, tweak: peer("n2", func(p *ha.Peer) { p.Quiet = 3 * time.Second }), handOver: "n3"},
		"the leader, to a voter":           {who: "n1", steps: []fsm.NodeStep{prepare}, tweak: peer("n2", func(p *ha.Peer) { p.Voter = false }), handOver: "n3"},
		"the leader, to one that is Up":    {who: "n1", steps: []fsm.NodeStep{prepare}, tweak: func(l *crewLog, _ ha.Crew) { l.step("n2", maintain); l.step("n2", ready) }, handOver: "n3"},
		"elected in maintenance":           {who: "n1", steps: []fsm.NodeStep{maintain, ready}, handOver: "n2"},
		"nobody else could lead":           {who: "n1", steps: []fsm.NodeStep{maintain}, tweak: nobodyElse},
		"nobody else could lead, too late": {who: "n1", steps: []fsm.NodeStep{maintain}, tweak: nobodyElse, later: 5 * time.Minute, want: over, reason: "it was not ready within 5m0s: it leads, and no other node that is Up could"},
	} {
		t.Run(name, func(t *testing.T) {
			l, crew := newCrew(t)
			for _, s := range c.steps {
				l.step(c.who, s)
			}
			if c.tweak != nil {
				c.tweak(l, crew)
			}
			said := crew.Peers[fsm.NodeID(c.who)]
			if n := l.m.State().Node(fsm.NodeID(c.who)); n != nil && said.Heard && said.State == 0 {
				said.State = n.Index
				crew.Peers[n.ID] = said
			}
			plan := ha.SteerNodes(l.m.State(), crew, l.now+int64(c.later))
			var got *logpb.NodeSteer
			for _, x := range plan.Commands {
				if s := x.GetNodeSteer(); s.Id == c.who {
					got = s
				}
			}
			if fsm.NodeStep(got.GetStep()) != c.want || got.GetReason() != c.reason || plan.HandOver != c.handOver {
				t.Fatalf("step %d (%q), hand over to %q; want %d (%q), %q", got.GetStep(), got.GetReason(), plan.HandOver, c.want, c.reason, c.handOver)
			}
			if got != nil { // and the state takes it, once
				l.now += int64(c.later)
				l.apply(&logpb.Command{Body: &logpb.Command_NodeSteer{NodeSteer: got}})
				for _, x := range ha.SteerNodes(l.m.State(), crew, l.now).Commands {
					if x.GetNodeSteer().Id == c.who {
						t.Errorf("and then %v", x)
					}
				}
			}
		})
	}
}

func peer(id fsm.NodeID, change func(*ha.Peer)) func(*crewLog, ha.Crew) {
	return func(_ *crewLog, crew ha.Crew) {
		p := crew.Peers[id]
		change(&p)
		crew.Peers[id] = p
	}
}

// nobodyElse: one node is Down, the other in maintenance.
func nobodyElse(l *crewLog, _ ha.Crew) {
	l.apply(&logpb.Command{Body: &logpb.Command_NodeDown{NodeDown: &logpb.NodeDown{Id: "n2", RunId: "r1", Reason: "silent"}}})
	l.step("n3", fsm.StepMaintain)
	l.step("n3", fsm.StepNothingLeft)
}
