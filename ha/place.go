package ha

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/fsm"
)

// placer chooses hosts under budgets. What it gave away in this run counts.
type placer struct {
	d      *decision
	hosts  []*room
	left   int // starts the cluster may still begin
	byHost map[fsm.HostID]*room
	fit    []*room // of the last search
}

// room is what a host still has.
type room struct {
	h      *fsm.Host
	no     string // why it takes nothing; "" = it may
	starts int    // start orders that stand
	vms    int    // VMs that run, start or may run there
	free   uint64 // bytes of memory
}

// placer is built when the first VM waits: most runs have none.
func (d *decision) placer() *placer {
	if d.room != nil {
		return d.room
	}
	p := &placer{d: d, left: d.p.StartsPerCluster, byHost: map[fsm.HostID]*room{}}
	for _, h := range d.s.Hosts() {
		r := &room{h: h, no: d.takesNothing(h)}
		p.hosts = append(p.hosts, r)
		p.byHost[h.ID] = r
		if h.Status != fsm.Up {
			continue // what it was told to start starts elsewhere or not at all
		}
		for _, o := range h.Orders {
			if o.Kind == fsm.OrderStart {
				r.starts++
				p.left--
			}
		}
		if r.no != "" {
			continue
		}
		used := uint64(0)
		for _, v := range h.VMs {
			if v.Occupies() {
				r.vms++
				if v.Spec != nil {
					used += v.Spec.MemoryBytes
				}
			}
		}
		r.free = h.Inventory.MemoryBytes - min(used, h.Inventory.MemoryBytes)
	}
	d.room = p
	return p
}

// takesNothing says why no VM is started on a host.
func (d *decision) takesNothing(h *fsm.Host) string {
	c := d.contact(h)
	switch {
	case h.Status != fsm.Up:
		return "it is " + h.Status.String()
	case h.Resource != fsm.Enabled:
		return "it is " + h.Resource.String()
	case d.silent(c):
		return "it is silent"
	case h.Inventory == nil:
		return "what it has is not known"
	case h.Inventory.LibvirtGuests:
		return "libvirt-guests is enabled there and could start VMs behind our back (systemctl disable libvirt-guests)" // S8
	case !d.p.PlaceUnfenced && !h.Fenceable(d.p):
		return "nothing could prove it dead (give it a fence level, or set the policy place_unfenced)" // S25
	}
	return ""
}

// place finds a host and takes the room there. why says why that one, or why
// none; full: a budget is spent, and it is only a matter of time.
func (p *placer) place(j job) (t *fsm.Host, why string, full bool) {
	t, why, full = p.find(j)
	if t == nil {
		return nil, why, full
	}
	r := p.byHost[t.ID]
	r.starts++
	p.left--
	if !j.counted(t) {
		r.vms++
		r.free -= min(r.free, j.vm.Spec.MemoryBytes)
	}
	return t, why, false
}

// counted reports whether the VM is counted among those of a host already.
func (j job) counted(h *fsm.Host) bool {
	return h.ID == j.owner.ID && j.fenced == nil && j.vm.Occupies()
}

// find is place without taking.
func (p *placer) find(j job) (t *fsm.Host, why string, full bool) {
	if j.vm.Spec == nil || len(j.vm.Spec.Definition()) == 0 {
		return nil, "its definition has never been read", false
	}
	fit := p.fit[:0]
	var no refusals
	for _, r := range p.hosts {
		switch why := p.refuses(r, j); {
		case why != "":
			no.add(why, r.h.ID)
		case r.starts >= p.d.p.StartsPerHost:
			full = true
		default:
			fit = append(fit, r)
		}
	}
	p.fit = fit // the next one uses its memory
	if len(fit) == 0 {
		return nil, no.String(), full
	}
	if p.left <= 0 {
		return nil, "the cluster's budget of starts is spent", true
	}
	if i := slices.IndexFunc(fit, func(r *room) bool { return r.h.ID == j.owner.ID }); i >= 0 {
		// refuses says no as soon as its own limit of restarts is spent.
		return fit[i].h, "restarted in place", false
	}
	best := slices.MinFunc(fit, p.order(j))
	return best.h, p.why(best, len(fit)), false
}

// order compares hosts by the placement policy; ties go by name, h2 before h10.
func (p *placer) order(j job) func(a, b *room) int {
	share := func(r *room) float64 {
		return float64(r.free) / float64(max(r.h.Inventory.MemoryBytes, 1))
	}
	return func(a, b *room) int {
		tried := cmp.Compare(j.work.TriedOn(a.h.ID), j.work.TriedOn(b.h.ID))
		var c int
		switch p.d.p.Placement {
		case "spread":
			c = cmp.Compare(share(b), share(a))
		case "pack":
			c = cmp.Compare(share(a), share(b))
		default:
			c = cmp.Or(cmp.Compare(a.vms, b.vms), cmp.Compare(share(b), share(a)))
		}
		return cmp.Or(tried, c, natural(string(a.h.ID), string(b.h.ID)))
	}
}

func (p *placer) why(r *room, fit int) string {
	var first string
	switch p.d.p.Placement {
	case "spread":
		first = "largest free share of memory"
	case "pack":
		first = "smallest free share of memory that fits"
	default:
		first = fmt.Sprintf("fewest VMs (%d)", r.vms)
	}
	return fmt.Sprintf("%s of %d hosts that can take it", first, fit)
}

// refuses says why a host cannot start a VM; "" means it can.
func (p *placer) refuses(r *room, j job) string {
	v, h := j.vm, r.h
	here := h.ID == j.owner.ID
	restarts, _ := p.d.p.Limits(v)
	switch {
	case r.no != "":
		return r.no
	case !here && !j.gone:
		return fmt.Sprintf("it may still be on host %s", j.owner.ID)
	case here && !j.gone && v.Power != fsm.PowerOff:
		return "it is not known to be off there"
	case j.work.TriedOn(h.ID) > restarts:
		return fmt.Sprintf("%d starts failed there", j.work.TriedOn(h.ID))
	}
	if removing(h, v) {
		return "an older copy is still being removed there"
	}
	if !here && len(v.Spec.Local) > 0 {
		return "the VM is bound to its host: " + strings.Join(v.Spec.Local, ", ")
	}
	if no := lacks(h.Inventory, v.Spec, here); no != "" {
		return no
	}
	if !j.counted(h) && v.Spec.MemoryBytes > r.free {
		return fmt.Sprintf("less than %d MiB of memory free", v.Spec.MemoryBytes>>20)
	}
	return ""
}

// lacks says what a VM needs and a host does not have. Its own host has had it
// all; only what is known to be broken there counts.
func lacks(inv *fsm.Inventory, s *fsm.Spec, here bool) string {
	for _, disk := range s.Disks() {
		if disk.Network || disk.Storage == "" {
			continue
		}
		i := slices.IndexFunc(inv.Storages, func(x fsm.Storage) bool { return x.ID == disk.Storage })
		switch {
		case i < 0 && !here:
			return "no storage " + disk.Storage
		case i >= 0 && !inv.Storages[i].Up:
			return "storage " + disk.Storage + " is not reached"
		}
	}
	if here {
		return ""
	}
	for _, n := range s.Networks {
		if !slices.Contains(inv.Networks, n) {
			return "no " + n // "network:default", "bridge:br0"
		}
	}
	switch {
	case s.Machine != "" && len(inv.Machines) > 0 && !slices.Contains(inv.Machines, s.Machine):
		return "no machine type " + s.Machine
	case s.CPUModel != "" && len(inv.CPUModels) > 0 && !slices.Contains(inv.CPUModels, s.CPUModel):
		return "no CPU model " + s.CPUModel
	case s.CPUs > inv.CPUs:
		return fmt.Sprintf("fewer than %d CPUs", s.CPUs)
	}
	return ""
}

// refusals are reasons, each with the hosts it holds for.
type refusals []refusal

type refusal struct {
	why   string
	first []fsm.HostID
	n     int
}

const (
	maxReasons = 6 // that are told
	maxNamed   = 3 // hosts that are named for one reason
)

func (no *refusals) add(why string, h fsm.HostID) {
	i := slices.IndexFunc(*no, func(r refusal) bool { return r.why == why })
	if i < 0 {
		if len(*no) == maxReasons {
			why = "other reasons"
		}
		if len(*no) > maxReasons {
			i = maxReasons
		} else {
			i = len(*no)
			*no = append(*no, refusal{why: why})
		}
	}
	r := &(*no)[i]
	if r.n++; r.n <= maxNamed {
		r.first = append(r.first, h)
	}
}

// String writes them as "no storage nfs1 (h2, h3, h4 and 12 more); ...".
func (no refusals) String() string {
	if len(no) == 0 {
		return "there is no host"
	}
	var out []string
	for _, r := range no {
		var names []string
		for _, h := range r.first {
			names = append(names, string(h))
		}
		text := strings.Join(names, ", ")
		if more := r.n - len(r.first); more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		out = append(out, fmt.Sprintf("%s (%s)", r.why, text))
	}
	return strings.Join(out, "; ")
}

// natural compares names as people do: h2 before h10.
func natural(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		n, m := digits(x), digits(y)
		if n == 0 || m == 0 {
			if x[0] != y[0] {
				return cmp.Compare(x[0], y[0])
			}
			x, y = x[1:], y[1:]
			continue
		}
		p, q := strings.TrimLeft(x[:n], "0"), strings.TrimLeft(y[:m], "0")
		if c := cmp.Or(cmp.Compare(len(p), len(q)), strings.Compare(p, q)); c != 0 {
			return c
		}
		x, y = x[n:], y[m:]
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(a, b))
}

// digits is how many bytes of s are digits from its start.
func digits(s string) int {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}

// WorstCase is how long the start order of a VM may take after its host died,
// by the policy's timeouts alone: with a BMC that answers at once, and by the
// lease alone.
func WorstCase(p *fsm.Policy) (bmc, lease time.Duration) {
	found := p.SuspectAfter() + p.Beat
	bmc = found + p.Investigate + powerReadings
	lease = max(p.Beat+leaseWait(p, p.Lease+p.WatchdogBound), found+p.Investigate)
	return bmc, lease
}

// powerReadings are the two readings of "off" that prove a death, one second
// apart, and the command before them (S9).
const powerReadings = 3 * time.Second
