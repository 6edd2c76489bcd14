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
		for _, o := range h.Orders {
			if o.Kind == fsm.OrderStart {
				r.starts++
				p.left--
			}
		}
		p.hosts = append(p.hosts, r)
		p.byHost[h.ID] = r
		if r.no != "" {
			continue
		}
		for _, v := range h.VMs {
			if v.Occupies() {
				r.vms++
			}
		}
		if used := h.MemoryUsed(); h.Inventory != nil && h.Inventory.MemoryBytes > used {
			r.free = h.Inventory.MemoryBytes - used
		}
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
	if !j.vm.Occupies() || j.owner.ID != t.ID {
		r.vms++
		if s := j.vm.Spec; s != nil {
			r.free -= min(r.free, s.MemoryBytes)
		}
	}
	return t, why, false
}

// find is place without taking.
func (p *placer) find(j job) (t *fsm.Host, why string, full bool) {
	if j.vm.Spec == nil || len(j.vm.Spec.Definition) == 0 {
		return nil, "its definition has never been read", false
	}
	var fit []*room
	var refused []string
	for _, r := range p.hosts {
		no := p.refuses(r, j)
		switch {
		case no != "":
			refused = append(refused, fmt.Sprintf("%s: %s", r.h.ID, no))
		case r.starts >= p.d.p.StartsPerHost:
			full = true
		default:
			fit = append(fit, r)
		}
	}
	if len(fit) == 0 {
		return nil, shorten(refused), full
	}
	if p.left <= 0 {
		return nil, "the cluster's budget of starts is spent", true
	}
	if i := slices.IndexFunc(fit, func(r *room) bool { return r.h.ID == j.owner.ID }); i >= 0 && p.inPlace(j) {
		return fit[i].h, "restarted in place", false
	}
	best := slices.MinFunc(fit, p.order(j))
	return best.h, p.why(best, len(fit)), false
}

// inPlace reports whether the VM's own host is preferred: it is, while its own
// limit of restarts is not spent.
func (p *placer) inPlace(j job) bool {
	restarts, _ := p.d.p.Limits(j.vm)
	return j.work.TriedOn(j.owner.ID) <= restarts
}

// order compares hosts by the placement policy; ties go by id.
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
			c = cmp.Compare(a.free, b.free)
		default:
			c = cmp.Or(cmp.Compare(a.vms, b.vms), cmp.Compare(share(b), share(a)))
		}
		return cmp.Or(tried, c, strings.Compare(string(a.h.ID), string(b.h.ID)))
	}
}

func (p *placer) why(r *room, fit int) string {
	var first string
	switch p.d.p.Placement {
	case "spread":
		first = "largest free share of memory"
	case "pack":
		first = "smallest free memory that fits"
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
	for _, o := range h.Orders {
		if o.VM == v.ID && o.Kind == fsm.OrderDestroy {
			return "an older copy is still being removed there"
		}
	}
	if here {
		return ""
	}
	return lacks(h.Inventory, v.Spec, r.free)
}

// lacks says what a VM needs and a host does not have.
func lacks(inv *fsm.Inventory, s *fsm.Spec, free uint64) string {
	if len(s.Local) > 0 {
		return "the VM is bound to its host: " + strings.Join(s.Local, ", ")
	}
	for _, disk := range s.Disks {
		if disk.Network || disk.Storage == "" {
			continue
		}
		if !slices.ContainsFunc(inv.Storages, func(x fsm.Storage) bool { return x.ID == disk.Storage && x.Up }) {
			return "no storage " + disk.Storage
		}
	}
	for _, n := range s.Networks {
		if !slices.Contains(inv.Networks, n) {
			return "no " + n
		}
	}
	switch {
	case s.Machine != "" && len(inv.Machines) > 0 && !slices.Contains(inv.Machines, s.Machine):
		return "no machine type " + s.Machine
	case s.CPUModel != "" && len(inv.CPUModels) > 0 && !slices.Contains(inv.CPUModels, s.CPUModel):
		return "no CPU model " + s.CPUModel
	case s.CPUs > inv.CPUs:
		return fmt.Sprintf("%d CPUs for %d vCPUs", inv.CPUs, s.CPUs)
	case s.MemoryBytes > free:
		return fmt.Sprintf("%d MiB of memory free, %d MiB needed", free>>20, s.MemoryBytes>>20)
	}
	return ""
}

// shorten lists at most five reasons.
func shorten(reasons []string) string {
	if len(reasons) == 0 {
		return "there is no host"
	}
	const most = 5
	if n := len(reasons) - most; n > 0 {
		return strings.Join(reasons[:most], "; ") + fmt.Sprintf("; and %d more", n)
	}
	return strings.Join(reasons, "; ")
}

// WorstCase is how long the start order of a VM may take after its host died,
// by the policy's timeouts alone: with a BMC that answers at once, and by the
// lease alone.
func WorstCase(p *fsm.Policy) (bmc, lease time.Duration) {
	found := p.SuspectAfter() + p.Beat
	bmc = found + p.Investigate + powerReadings
	lease = max(p.Beat+p.Takeover, found+p.Investigate)
	return bmc, lease
}

// powerReadings are the two readings of "off" that prove a death, one second
// apart, and the command before them (S9).
const powerReadings = 3 * time.Second
