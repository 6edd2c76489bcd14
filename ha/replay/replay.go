package replay

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// Kind is what became of a decision.
type Kind string

// The kinds of findings.
const (
	Reproduced Kind = "reproduced" // the log's target is decided again
	Differs    Kind = "differs"    // another one is, or none
	Refused    Kind = "refused"    // it is not, and Apply did not grant the log's either: nothing came of it
	Changed    Kind = "changed"    // the settings that are asked about make another one
	Shifted    Kind = "shifted"    // they move something in time
)

// Finding is what was found out about one decision of an entry.
type Finding struct {
	Kind Kind   `json:"kind"`
	VM   string `json:"vm,omitempty"`
	Host string `json:"host,omitempty"` // that the log names
	Text string `json:"text"`
}

// Replay follows a log. The zero value is not usable; see New.
type Replay struct {
	set     []fsm.Setting
	recent  []*fsm.State // before the next entry, newest last
	silence map[fsm.HostID]silence
}

// silence is since when a host was silent, and when that was noticed; unix ns.
type silence struct{ since, suspect int64 }

// decidedWithin is how many entries may have come between the state that a leader
// decided on and its entry.
const decidedWithin = 16

// New begins before the first entry after s. set are settings whose effect is asked for;
// ones that the policy of s refuses are an error, a sentence.
func New(s *fsm.State, set []fsm.Setting) (*Replay, error) {
	if len(set) > 0 {
		if _, err := s.Policy.With(set); err != nil {
			return nil, err
		}
	}
	return &Replay{set: set, recent: []*fsm.State{s}, silence: map[fsm.HostID]silence{}}, nil
}

// Step takes in an entry that changed the state to after. An entry that did not count
// (void or refused) has no findings.
func (r *Replay) Step(c *logpb.Command, after *fsm.State, counted bool) (out []Finding) {
	if counted {
		switch b := c.Body.(type) {
		case *logpb.Command_Place:
			for _, p := range b.Place.Placements {
				out = append(out, r.placed(c, p.Vm, p.Target, after))
			}
			out = append(out, r.otherwise(c, out)...)
		case *logpb.Command_HostFenced:
			for _, p := range b.HostFenced.Placements {
				out = append(out, r.placed(c, p.Vm, p.Target, after))
			}
			out = append(out, r.otherwise(c, out)...)
			out = append(out, r.fencedAt(b.HostFenced, after)...)
		case *logpb.Command_HostSuspect:
			out = r.suspected(fsm.HostID(b.HostSuspect.Host), after)
		case *logpb.Command_HostSeen:
			delete(r.silence, fsm.HostID(b.HostSeen.Host))
		case *logpb.Command_HostRegister:
			delete(r.silence, fsm.HostID(b.HostRegister.Id))
		}
	}
	if r.recent = append(r.recent, after); len(r.recent) > decidedWithin {
		r.recent = slices.Delete(r.recent, 0, 1)
	}
	return out
}

// before is the state before the entry that is looked at.
func (r *Replay) before() *fsm.State { return r.recent[len(r.recent)-1] }

// placed decides a placement again, on the states before it: the leader decided on one
// of them.
func (r *Replay) placed(c *logpb.Command, vm []byte, target string, after *fsm.State) Finding {
	var id fsm.VMID
	copy(id[:], vm)
	name := id.String()
	if v, _ := r.before().VM(id); v != nil {
		name = v.Name
	}
	f := Finding{Kind: Reproduced, VM: name, Host: target}
	var newest targets
	for back := range r.recent {
		t := decide(r.recent[len(r.recent)-1-back], c, nil)
		if back == 0 {
			newest = t
		}
		if t[id] == fsm.HostID(target) {
			f.Text = fmt.Sprintf("%s on host %s is decided again", name, target)
			if back > 0 {
				f.Text += fmt.Sprintf(" on the state %d entries before", back)
			}
			return f
		}
	}
	if _, owner := after.VM(id); owner == nil || owner.ID != fsm.HostID(target) {
		f.Kind = Refused
		f.Text = fmt.Sprintf("%s was to be placed on host %s, which was not granted: the state before says %s", name, target, newest.of(id))
		return f
	}
	f.Kind = Differs
	f.Text = fmt.Sprintf("%s was placed on host %s, and the state before says %s: the leader knew what is not in the log (a host that was silent, a second copy), or decided by other rules, or the log was changed", name, target, newest.of(id))
	return f
}

// otherwise says which placements of an entry the asked settings change.
func (r *Replay) otherwise(c *logpb.Command, placed []Finding) (out []Finding) {
	if len(r.set) == 0 || len(placed) == 0 {
		return nil
	}
	s := r.before()
	was, is := decide(s, c, nil), decide(s, c, r.set)
	for _, id := range sorted(was) {
		if was[id] == is[id] {
			continue
		}
		v, _ := s.VM(id)
		out = append(out, Finding{Kind: Changed, VM: v.Name, Host: string(was[id]),
			Text: fmt.Sprintf("%s would have been placed: %s instead of on host %s", v.Name, is.of(id), was[id])})
	}
	return out
}

func sorted(t targets) []fsm.VMID {
	var ids []fsm.VMID
	for id := range t {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b fsm.VMID) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// targets are the hosts that VMs are placed on.
type targets map[fsm.VMID]fsm.HostID

func (t targets) of(id fsm.VMID) string {
	if h, ok := t[id]; ok {
		return "on host " + string(h)
	}
	return "nowhere yet"
}

// decide says where VMs go in a state, at the time of an entry. A proof that the entry
// holds is taken as given.
func decide(s *fsm.State, c *logpb.Command, set []fsm.Setting) targets {
	m := fsm.Ahead(s.Fork())
	apply := func(x *logpb.Command) {
		x.TimeUnixNs, x.Actor = c.TimeUnixNs, c.Actor
		if data, err := proto.Marshal(x); err == nil {
			m.Apply([]fsm.Entry{{Index: m.State().Index + 1, Term: m.State().Term, Data: data}})
		}
	}
	if len(set) > 0 {
		p := &logpb.PolicySet{}
		for _, x := range set {
			p.Settings = append(p.Settings, &logpb.Setting{Key: x.Key, Value: x.Value})
		}
		apply(&logpb.Command{Body: &logpb.Command_PolicySet{PolicySet: p}})
	}
	if f := c.GetHostFenced(); f != nil {
		bare := proto.Clone(f).(*logpb.HostFenced)
		bare.Placements = nil
		apply(&logpb.Command{Body: &logpb.Command_HostFenced{HostFenced: bare}})
	}
	next := m.State()
	const now = 24 * time.Hour // into a term: all have been heard out
	wall := max(c.TimeUnixNs, next.Time)
	soft := &ha.Soft{Executor: "replay", Proven: now}
	for id, h := range next.Hosts() {
		if h.Status == fsm.Up {
			soft.Hosts.Set(id, ha.Contact{Epoch: h.Epoch, Heard: now, Absorbed: wall, Looked: wall})
		}
	}
	t := targets{}
	for _, x := range ha.Decide(next, soft, ha.Now{Wall: wall, Mono: now}).Commands {
		for _, p := range x.GetPlace().GetPlacements() {
			t[fsm.VMID(p.Vm)] = fsm.HostID(p.Target)
		}
	}
	return t
}
