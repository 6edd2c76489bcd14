package foresee

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

const (
	// listened is for how long the leader is taken to have led when the plan begins:
	// longer than anything that it waits for in the first moments of a term.
	listened = 24 * time.Hour
	// idle is how long nothing may happen before that is taken to be the end.
	idle = 15 * time.Second
	// maxRounds bounds how often the leader is asked.
	maxRounds = 20_000
)

// rehearsal is a cluster in virtual time.
type rehearsal struct {
	m       *fsm.Machine
	soft    ha.Soft
	began   int64 // unix ns
	now     int64
	assumed Assumed
	dead    map[fsm.HostID]bool // from which nothing is heard any more
	repairs bool                // what rules ask for is part of it
	enough  func() bool         // ends it; nil: nothing does
	cut     bool                // it was ended

	queue []happening
	known map[fsm.OrderID]bool // orders that a host is carrying out
	plan  *Plan
	at    map[fsm.VMID]int // its step in the plan
	last  int64            // when something happened
}

// happening is what comes about by itself.
type happening struct {
	at    int64
	host  fsm.HostID // whose order it is the end of
	order fsm.OrderID
	do    func() // else
}

// rehearse begins a plan. base is a fork that belongs to this goroutine.
func rehearse(base *fsm.State, a Assumed, hosts []fsm.HostID) *rehearsal {
	r := &rehearsal{m: fsm.Ahead(base), began: base.Time, now: base.Time, last: base.Time, assumed: a,
		dead: map[fsm.HostID]bool{}, known: map[fsm.OrderID]bool{}, at: map[fsm.VMID]int{}, plan: &Plan{Hosts: hosts, Assumed: a}}
	r.soft = ha.Soft{Executor: "foresight", Memo: &ha.Memo{}}
	return r
}

func (r *rehearsal) state() *fsm.State { return r.m.State() }

func (r *rehearsal) since() time.Duration { return time.Duration(r.now - r.began) }

// after plans something; what is planned for one moment comes in the order in which
// it was planned.
func (r *rehearsal) after(d time.Duration, h happening) {
	h.at = r.now + int64(d)
	i := len(r.queue)
	for i > 0 && r.queue[i-1].at > h.at {
		i--
	}
	r.queue = slices.Insert(r.queue, i, h)
}

// run goes on until nothing changes any more.
func (r *rehearsal) run() {
	r.listen()
	r.orders()
	for range maxRounds {
		if r.enough != nil && r.enough() {
			break
		}
		p := r.assumed.decide(r.state(), &r.soft, ha.Now{Wall: r.now, Mono: r.mono()})
		if r.carryOut(p.Commands) {
			r.last = r.now
			continue
		}
		next := r.began + int64(p.Wake-listened)
		if next <= r.now || p.Wake == time.Duration(1<<63-1) {
			next = r.now + int64(time.Second) // it waits for something that does not come here
		}
		if len(r.queue) == 0 {
			if end := max(r.last+int64(idle), r.gated()); r.now >= end {
				return
			}
		} else if at := r.queue[0].at; at <= next {
			r.now = at
			r.happen()
			continue
		}
		r.now = next
		r.listen()
	}
	r.cut = true
	r.plan.Notes = append(r.plan.Notes, fmt.Sprintf("the plan was cut off after %s: what comes later is not in it", r.since().Round(time.Second)))
}

func (r *rehearsal) mono() time.Duration { return listened + r.since() }

// listen has all hosts report that live.
func (r *rehearsal) listen() {
	r.soft.Proven = r.mono()
	for id, h := range r.state().Hosts() {
		if h.Status == fsm.Up && !r.dead[id] {
			// Heard long in advance, so that nobody is asked for it again.
			r.soft.Hosts.Set(id, ha.Contact{Epoch: h.Epoch, Heard: r.mono() + time.Hour, Absorbed: r.now, Looked: r.now})
		}
	}
}

// gated is until when some VM waits for those that it depends on.
func (r *rehearsal) gated() (until int64) {
	s := r.state()
	for w := range s.OpenWork() {
		v, _ := s.VM(w.VM)
		if v == nil || w.Gated == 0 || w.Step != fsm.Scheduled {
			continue
		}
		for _, id := range v.Order().DependsOn {
			if x, _ := s.VM(id); x != nil {
				until = max(until, w.Gated+int64(x.Order().Timeout)+int64(idle))
			}
		}
	}
	return until
}

// carryOut applies what of the leader's commands belongs to a plan; false: nothing.
func (r *rehearsal) carryOut(commands []*logpb.Command) bool {
	var mine []*logpb.Command
	for _, c := range commands {
		if r.belongs(c) {
			mine = append(mine, c)
		}
	}
	if len(mine) == 0 {
		return false
	}
	before := r.state()
	r.apply(mine...)
	for _, c := range mine {
		r.note(before, c)
	}
	r.orders()
	return true
}

// belongs: what is found out about other hosts, which are as they are, does not; nor
// does what is moved for its own sake.
func (r *rehearsal) belongs(c *logpb.Command) bool {
	switch b := c.Body.(type) {
	case *logpb.Command_Place, *logpb.Command_VmReleased, *logpb.Command_HostDrained:
		return true
	case *logpb.Command_WorkUpdate:
		return b.WorkUpdate.Action != fsm.WorkStuck
	case *logpb.Command_VmMove:
		cause := fsm.Cause(b.VmMove.Cause)
		return cause == fsm.CauseMaintenance || cause == fsm.CauseHostStops || cause == fsm.CauseRule && r.repairs
	}
	return false
}

func (r *rehearsal) apply(commands ...*logpb.Command) {
	entries := make([]fsm.Entry, len(commands))
	for i, c := range commands {
		c.TimeUnixNs = r.now
		data, err := proto.Marshal(c)
		if err != nil {
			continue // not valid UTF-8: refused at the door of a real log too
		}
		entries[i] = fsm.Entry{Index: r.state().Index + uint64(i) + 1, Term: r.state().Term, Data: data}
	}
	r.m.Apply(slices.DeleteFunc(entries, func(e fsm.Entry) bool { return e.Data == nil }))
}

// note writes a command's steps into the plan, as far as they came about.
func (r *rehearsal) note(before *fsm.State, c *logpb.Command) {
	s := r.state()
	switch b := c.Body.(type) {
	case *logpb.Command_Place:
		for _, p := range b.Place.Placements {
			v, from, w := find(before, p.Vm)
			n, to, after := find(s, p.Vm)
			if v == nil || n == nil || after == nil || w == nil || n.Incarnation == v.Incarnation || w.Type == fsm.WorkRelocation {
				continue
			}
			if w.From != "" && before.Host(w.From) != nil {
				from = before.Host(w.From)
			}
			r.step(v, from.ID, to.ID, Starts, p.Why)
		}
	case *logpb.Command_VmMove:
		v, from, _ := find(before, b.VmMove.Vm)
		if n, _, w := find(s, b.VmMove.Vm); n == nil || w == nil || !w.Type.Moves() || string(w.Target) != b.VmMove.Target {
			return
		}
		how := Migrates
		if b.VmMove.Kind == fsm.MoveRelocate {
			how = Relocates
		}
		r.step(v, from.ID, fsm.HostID(b.VmMove.Target), how, b.VmMove.Why)
	}
}

func find(s *fsm.State, id []byte) (*fsm.VM, *fsm.Host, *fsm.Work) {
	if len(id) != len(fsm.VMID{}) {
		return nil, nil, nil
	}
	v, h := s.VM(fsm.VMID(id))
	if v == nil {
		return nil, nil, nil
	}
	return v, h, s.Work(v.Work)
}

func (r *rehearsal) step(v *fsm.VM, from, to fsm.HostID, how, why string) {
	r.at[v.ID] = len(r.plan.Steps)
	r.plan.Steps = append(r.plan.Steps, Step{VM: v.ID, Name: v.Name, Tier: v.HAPolicy().Priority, From: from, To: to, How: how, At: r.since(), Why: why})
}

// done notes that a VM runs where it was to be.
func (r *rehearsal) done(id fsm.VMID, at fsm.HostID) {
	if i, ok := r.at[id]; ok {
		x := &r.plan.Steps[i]
		x.To, x.Done = at, r.since()
		r.plan.Took = max(r.plan.Took, x.Done)
	}
}
