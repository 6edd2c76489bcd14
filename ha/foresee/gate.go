package foresee

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// Breach is a failure that the cluster stands today, and would not stand after a change.
type Breach struct {
	Name string // "host h1" or "rack a"
	Down []Stay // VMs that it would leave down then, and does not today
	// Unproven: it is not known of which, since there was no time to play it through.
	Unproven bool
}

// String says it as the second half of a sentence.
func (b Breach) String() string {
	if len(b.Down) == 0 {
		return fmt.Sprintf("%s's failure, which is stood today, might leave VMs down: there was no time to play it through", b.Name)
	}
	vms := "VMs"
	if len(b.Down) == 1 {
		vms = "VM"
	}
	return fmt.Sprintf("%s's failure would leave %d %s down that it would not today: %s", b.Name, len(b.Down), vms, downText(b.Down))
}

// Gate says which failures of the scope the cluster would not stand any more once it has done what a command asks and has come to
// rest. What is not stood today is no reason to refuse anything. A command that the state
// machine refuses changes nothing, and breaches nothing. Failures that the proof leaves
// open are played through until enough says so.
func Gate(s *fsm.State, c *logpb.Command, scope Scope, enough func() bool) []Breach {
	if !s.Armed {
		return nil // no failure is stood
	}
	unknown := []Breach{{Name: "some host", Unproven: true}}
	if s.CountOpenWork() > 0 { // what is under way anyway is not the command's doing
		var done bool
		if s, done = afterwards(s, nil, enough); !done {
			return unknown
		}
	}
	then, done := afterwards(s, c, enough)
	if !done {
		return unknown
	}
	var now, next Prover
	before, after := now.Outlook(s, scope), next.Outlook(then, scope)
	was := make(map[string]*Verdict, len(before.All))
	for w := range before.each() {
		was[w.Name()] = w
	}
	var out []Breach
	if before.Unlisted == 0 && after.Unlisted > 0 {
		out = append(out, Breach{Name: "some hosts together", Unproven: true})
	}
	for v := range after.each() {
		if v.Safe() {
			continue
		}
		w := was[v.Name()]
		if len(v.Hosts) > 1 && v.Domain == "" { // what one of them leaves down by itself included, as in v once it is played
			w = now.about(s, v.Hosts)
		}
		if w == nil {
			continue
		}
		if now.settle(s, w, enough); w.Unproven {
			continue
		}
		next.settle(then, v, enough)
		b := Breach{Name: v.Name(), Unproven: v.Unproven && w.Safe()}
		for _, x := range v.Down {
			if !slices.ContainsFunc(w.Down, func(y Stay) bool { return y.VM == x.VM }) {
				b.Down = append(b.Down, x)
			}
		}
		if b.Unproven || len(b.Down) > 0 {
			out = append(out, b)
		}
	}
	return out
}

// about is the verdict about hosts that fail together; nil = one of them cannot fail.
func (p *Prover) about(s *fsm.State, hosts []fsm.HostID) *Verdict {
	var set []*view
	for _, id := range hosts {
		v := p.views[id]
		if v == nil || v.gone {
			return nil
		}
		set = append(set, v)
	}
	v := p.verdict(s, "", set)
	return &v
}

// settle plays one failure through, if it is open.
func (p *Prover) settle(s *fsm.State, v *Verdict, enough func() bool) {
	one := &Outlook{All: []Verdict{*v}}
	p.Rehearse(s, one, enough)
	*v = one.All[0]
}

// afterwards is the state in which a command, nil for none, leaves the cluster once the
// leader and the hosts have done what follows from it. done: there was time for all of it.
func afterwards(s *fsm.State, c *logpb.Command, enough func() bool) (then *fsm.State, done bool) {
	base := s.Fork()
	r := rehearse(base, Assumed{}.filled(s), nil)
	r.repairs, r.enough = true, enough
	if c != nil {
		r.apply(proto.CloneOf(c))
	}
	r.run()
	return r.state(), !r.cut
}
