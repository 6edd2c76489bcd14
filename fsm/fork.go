package fsm

// Fork copies what decisions are made of: hosts, VMs, open work, open alerts, rules,
// brakes and nodes. What was is left out: events, ended work, resolved alerts, usage and
// remembered requests. The copy shares no table with s, so that whoever has it may
// go on from it (Ahead) while s goes on elsewhere. It takes time with the number of
// hosts and VMs; memory of the VMs themselves is shared, which nobody changes.
func (s *State) Fork() *State {
	n := *s
	e := newState()
	n.shapes, n.nodes, n.hosts, n.owner, n.brakes = newShapes(), copied(s.nodes, e.nodes), copied(s.hosts, e.hosts), copied(s.owner, e.owner), copied(s.brakes, e.brakes)
	n.tokens, n.operators, n.requests, n.asked, n.events = e.tokens, e.operators, e.requests, e.asked, e.events
	n.rules, n.usage = copied(s.rules, e.rules), e.usage
	n.closed, n.settled, n.receivers, n.silences, n.outbox, n.news = e.closed, e.settled, e.receivers, e.silences, e.outbox, e.news
	n.open, n.work = copied(s.open, e.open), e.work
	for _, id := range s.open.all() {
		if w := s.Work(id); w != nil {
			n.work.set(id, w)
		}
	}
	n.raised, n.alerts = copied(s.raised, e.raised), e.alerts
	for _, id := range s.raised.all() {
		if a := s.Alert(id); a != nil {
			n.alerts.set(id, a)
		}
	}
	return &n
}

func copied[K comparable, V any](from, to table[K, V]) table[K, V] {
	for k, v := range from.all() {
		to.tree.Load(item[K, V]{k, v})
	}
	return to
}

// Ahead returns a Machine that goes on from s, a state that Fork made: what it
// applies is nobody's history, and it keeps no digest. One goroutine at a time may
// make and use machines of one fork; each of them begins at s.
func Ahead(s *State) *Machine {
	m := &Machine{level: FeatureLevel}
	n := s.clone()
	m.digester = &digester{hashes: map[string]uint64{}, dirty: &tracked{}}
	m.published.Store(n)
	return m
}
