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
	d     *decision
	rooms []room             // in natural order of their names; those of line
	at    map[fsm.HostID]int // their ranks
	left  int                // starts the cluster may still begin
	rules *ruling            // nil when there are no rules
	asked *asked             // of the VM that was looked at last
	loads *loads             // nil until asked for
	line  *lineup
	racks map[string][]int // ranks of rooms; see rack
}

// room is what a host still has.
type room struct {
	h      *fsm.Host
	rank   int
	no     string // why it takes nothing; "" = it may
	closed string // why it takes no VM that is not its own
	starts int    // start orders that stand
	vms    int    // VMs that run, start or may run there
	total  uint64 // bytes of memory for VMs
	free   int64  // of them; less than none where more was promised than there is
	cpus   uint32 // of the host
	cores  int64  // virtual CPUs that it may still promise
	used   int64  // virtual CPUs of its VMs
	busy   bool   // orders to remove something stand
}

// placer is built when the first VM waits: most runs have none.
func (d *decision) placer() *placer {
	if d.room != nil {
		return d.room
	}
	d.memo.rank()
	p := &placer{d: d, left: d.p.StartsPerCluster, at: d.memo.ranks, line: d.memo.lineUp(d)}
	p.rooms = p.line.rooms
	for i := range d.memo.order {
		p.left -= d.memo.order[i].starts
	}
	p.rules = p.ruling()
	d.room = p
	return p
}

// newRoom is what a host has as it is now.
func (d *decision) newRoom(at *standing) (r room) {
	h := at.h
	r = room{h: h, rank: at.rank, no: d.takesNothing(h, at.silent), closed: d.takesNoOther(h)}
	if h.Status == fsm.Up { // else what it was told to start starts elsewhere or not at all
		for _, o := range h.Orders {
			switch o.Kind {
			case fsm.OrderStart:
				r.starts++
			case fsm.OrderDestroy:
				r.busy = true
			}
		}
	}
	if r.no == "" {
		r.fill(d.p, &at.load)
		if in := d.moving().to[h.ID]; in.vms > 0 {
			r.reserve(in)
		}
	}
	return r
}

// takesNothing says why no VM is started on a host.
func (d *decision) takesNothing(h *fsm.Host, silent bool) string {
	switch {
	case h.Status != fsm.Up:
		return "it is " + h.Status.String()
	case h.Resource != fsm.Enabled:
		return "it is " + h.Resource.String()
	case h.Stopping != fsm.StaysUp:
		return "it is " + h.Stopping.String()
	case silent:
		return "it is silent"
	case h.Inventory == nil:
		return "what it has is not known"
	}
	return ""
}

// takesNoOther says why a host takes no VM that is not its own already: one
// that is started again where it was is no worse off than before.
func (d *decision) takesNoOther(h *fsm.Host) string {
	switch {
	case h.Inventory == nil:
	case h.Inventory.LibvirtGuests:
		return "libvirt-guests is enabled there and could start VMs behind our back (systemctl disable libvirt-guests)" // S8
	case !d.p.PlaceUnfenced && !h.Fenceable(d.p):
		return "nothing could prove it dead (give it a fence level, or set the policy place_unfenced)" // S25
	}
	return ""
}

// place finds a host and takes the room there. why says why that one, or why
// none; full: a budget is spent, and it is only a matter of time: then why says nothing.
func (p *placer) place(j job) (t *fsm.Host, why string, full bool) {
	r, why, full := p.find(j)
	if r == nil {
		return nil, why, full
	}
	p.left--
	p.line.change(r, func() {
		r.starts++
		if !j.counted(r.h) && !p.rules.holds(j.vm.ID, r.h.ID) {
			r.take(j.vm.Spec)
		}
	})
	p.placed(p.asked, j.vm.ID, r.h.ID)
	p.loads = nil
	return r.h, why, false
}

// counted reports whether the VM is counted among those of a host already.
func (j job) counted(h *fsm.Host) bool {
	if h.ID != j.owner.ID {
		return j.work.Type == fsm.WorkRelocation && j.work.Target == h.ID // room is reserved for it; see moving
	}
	return j.fenced == nil && j.vm.Occupies()
}

// find is place without taking.
func (p *placer) find(j job) (best *room, why string, full bool) {
	if j.vm.Spec == nil || !j.vm.Spec.Defines() {
		return nil, "its definition has never been read", false
	}
	home := &p.rooms[p.at[j.owner.ID]]
	asks := p.asks(j)
	p.asked = asks
	if asks.no != "" {
		return nil, asks.no, false
	}
	if p.plain(j, home, asks) {
		best, fit, full := p.line.best(p, j, asks)
		switch {
		case best != nil && p.left <= 0:
			return nil, spent, true
		case best != nil:
			return best, asks.decided(best) + p.why(best, fit), false
		case full:
			return nil, "", true
		}
	}
	lacks, fit := p.line.of(j.vm.Spec).lacks, 0
	for i := range p.rooms {
		r := &p.rooms[i]
		switch {
		case !j.gone && r != home: // refused
		case p.refuses(r, j, lacks[i]) != "" || asks.refuses(r) != "":
			continue
		case r.starts >= p.d.p.StartsPerHost:
			full = true
		case p.left <= 0:
			return nil, spent, true
		default:
			fit++
			if asks.note(r); best == nil || p.prefers(r, best, home, j, asks) {
				best = r
			}
		}
	}
	switch {
	case best == nil && full:
		return nil, "", true
	case best == nil:
		var no refusals
		for i := range p.rooms {
			if why := cmp.Or(p.refuses(&p.rooms[i], j, lacks[i]), asks.refuses(&p.rooms[i])); why != "" {
				no.add(why, p.rooms[i].h.ID)
			}
		}
		return nil, no.String(), false
	case best == home:
		return best, "restarted in place", false
	}
	return best, asks.decided(best) + p.why(best, fit), false
}

// spent says that it is not a matter of hosts.
const spent = "the cluster's budget of starts is spent"

// prefers reports whether a is to be taken rather than b. The VM's own host is
// preferred until its own limit of restarts is spent (see refuses), and is the
// last choice where the VM lost its storage.
func (p *placer) prefers(a, b, home *room, j job, asks *asked) bool {
	if wish := j.work.Target; j.work.Type == fsm.WorkRelocation && j.work.Attempt == 0 && wish != "" && (a.h.ID == wish) != (b.h.ID == wish) {
		return a.h.ID == wish
	}
	if a == home || b == home {
		lost := j.work.Cause == fsm.CauseStorage && j.work.From == home.h.ID
		return (a == home) != lost
	}
	return p.better(a, b, j, asks)
}

// better compares two hosts: by the rules of the VM in their order, then by the
// placement policy. Of equal ones the first by name is taken.
func (p *placer) better(a, b *room, j job, asks *asked) bool {
	if len(j.work.Tried) > 0 {
		if x, y := j.work.TriedOn(a.h.ID), j.work.TriedOn(b.h.ID); x != y {
			return x < y
		}
	}
	if x := asks.compare(a, b); x != 0 {
		return x > 0
	}
	if p.d.p.Placement == fsm.PlaceLoad {
		return p.load().with(a, asks) < p.load().with(b, asks)
	}
	return prefer(p.d.p.Placement, a.place(), b.place()) < 0
}

// share is the part of the memory that is free.
func (r *room) share() float64 { return float64(max(r.free, 0)) / float64(max(r.total, 1)) }

func (p *placer) why(r *room, fit int) string {
	var first string
	switch p.d.p.Placement {
	case "spread":
		first = "largest free share of memory"
	case fsm.PlaceLoad:
		first = fmt.Sprintf("least load (memory %.0f %%, CPU %.0f %% in use)", 100*r.memoryShare(0), 100*r.cpuShare(0))
	case "pack":
		first = "smallest free share of memory that fits"
	default:
		first = fmt.Sprintf("fewest VMs (%d)", r.vms)
	}
	return fmt.Sprintf("%s of %d hosts that can take it", first, fit)
}

// refuses says why a host cannot start a VM; "" means it can. lacks is what it
// lacks as another host than the VM's own.
func (p *placer) refuses(r *room, j job, lacks string) string {
	if r.no != "" {
		return r.no
	}
	v, here := j.vm, r.h.ID == j.owner.ID
	switch {
	case !here && !j.gone:
		return fmt.Sprintf("it may still be on host %s", j.owner.ID) // S2
	case !here && r.closed != "":
		return r.closed
	case here && !j.gone && v.Power != fsm.PowerOff:
		return "it is not known to be off there"
	case len(r.h.Copies) > 0 && r.h.Copy(v.ID) != nil:
		return "another domain with its UUID runs there"
	case r.busy && removing(r.h, v):
		return "an older copy is still being removed there"
	}
	if len(j.work.Tried) > 0 {
		tried := j.work.TriedOn(r.h.ID)
		if restarts, _ := p.d.p.Limits(v); tried > restarts {
			if j.work.Cause.Hang() {
				return fmt.Sprintf("it hung there, or failed to start, %d times", tried)
			}
			return fmt.Sprintf("%d starts failed there", tried)
		}
	}
	switch {
	case here:
		lacks = broken(r.h.Inventory, v.Spec.Disks())
	case len(v.Spec.Local) > 0:
		return "the VM is bound to its host: " + strings.Join(v.Spec.Local, ", ")
	}
	if lacks != "" {
		return lacks
	}
	if !j.counted(r.h) && !p.rules.holds(v.ID, r.h.ID) {
		return r.fits(v.Spec.MemoryBytes, v.Spec.CPUs)
	}
	return ""
}

// broken says what a VM's own host, which has had it all, has lost.
func broken(inv *fsm.Inventory, disks []fsm.Disk) string {
	for _, disk := range disks {
		if disk.Network || disk.Storage == "" {
			continue
		}
		if slices.ContainsFunc(inv.Storages, func(x fsm.Storage) bool { return x.ID == disk.Storage && !x.Up }) {
			return "storage " + disk.Storage + " is not reached"
		}
	}
	return ""
}

// lacks says what a VM needs and a host does not have.
func lacks(inv *fsm.Inventory, s *fsm.Shape, disks []fsm.Disk) string {
	if no := broken(inv, disks); no != "" {
		return no
	}
	for _, disk := range disks {
		if disk.Network || disk.Storage == "" {
			continue
		}
		if !slices.ContainsFunc(inv.Storages, func(x fsm.Storage) bool { return x.ID == disk.Storage }) {
			return "no storage " + disk.Storage
		}
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
