package fsm

// Difference is how one kind of records differs between two states.
type Difference struct {
	Added, Removed, Changed int
	First                   []string // names, in order: "+web" added, "-web" removed, "~web" changed
}

// maxNamed records of a kind are named in a comparison.
const maxNamed = 10

func (d *Difference) note(sign, name string) {
	switch sign {
	case "+":
		d.Added++
	case "-":
		d.Removed++
	default:
		d.Changed++
	}
	if len(d.First) < maxNamed {
		d.First = append(d.First, sign+name)
	}
}

// Comparison is what changes for people when a state is replaced.
type Comparison struct {
	Hosts, VMs, Work, Alerts Difference
	Policy                   []string // "key: old → new"
}

// Compare says what changes when s is replaced by next: hosts with their settings,
// VMs with their owner and protection, open work and open alerts.
func Compare(s, next *State) *Comparison {
	c := &Comparison{}
	is := func(h *Host) bool { return h != nil && h.Status != Removed }
	for id, h := range s.Hosts() {
		switch n := next.Host(id); {
		case is(h) && !is(n):
			c.Hosts.note("-", string(id))
		case is(h) && (h.Resource != n.Resource || len(h.Fence) != len(n.Fence) || len(h.VMs) != len(n.VMs)):
			c.Hosts.note("~", string(id))
		}
		for i := range h.VMs {
			v := &h.VMs[i]
			switch n, at := next.VM(v.ID); {
			case n == nil:
				c.VMs.note("-", v.Name)
			case at.ID != id || n.Name != v.Name || n.Protected() != v.Protected() || n.Wanted != v.Wanted || n.Incarnation != v.Incarnation:
				c.VMs.note("~", v.Name)
			}
		}
	}
	for id, h := range next.Hosts() {
		if is(h) && !is(s.Host(id)) {
			c.Hosts.note("+", string(id))
		}
		for i := range h.VMs {
			if old, _ := s.VM(h.VMs[i].ID); old == nil {
				c.VMs.note("+", h.VMs[i].Name)
			}
		}
	}
	for w := range s.OpenWork() {
		c.Work.note("-", w.VMName) // none survives a restore
	}
	for k, id := range s.raised.all() {
		if _, kept := next.raised.get(k); !kept {
			c.Alerts.note("-", k.Cause+" of "+s.Alert(id).About())
		}
	}
	for k, id := range next.raised.all() {
		if _, had := s.raised.get(k); !had {
			c.Alerts.note("+", k.Cause+" of "+next.Alert(id).About())
		}
	}
	for _, k := range PolicySettings() {
		if a, b := k.Get(s.Policy), k.Get(next.Policy); a != b {
			c.Policy = append(c.Policy, k.Key+": "+a+" → "+b)
		}
	}
	return c
}
