package ha_test

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// box is a host: a machine, its power controller, its agent and its guests.
type box struct {
	w  *world
	id fsm.HostID

	rack     string
	levels   []string // ipmi, redfish, lease, manual
	watchdog fsm.Watchdog
	storages map[string]bool
	bound    bool // its VMs have a local disk
	memory   uint64

	power   bool
	agent   bool // runs
	network bool // the agent reaches the leader
	seen    bool // peers reach the machine
	bmc     string
	boot    int
	session int

	epoch  uint64
	seq    uint64
	lease  int64 // runs out at; 0 = none
	guests map[fsm.VMID]*guest
	absent map[fsm.VMID]int

	failing map[fsm.VMID]int // starts that will fail
	hangs   bool             // starts never end
	deaf    bool             // orders are not followed
}

type guest struct {
	on      bool
	reason  fsm.Reason
	inc     fsm.Incarnation
	refused fsm.Incarnation
	failed  fsm.Incarnation
	begun   fsm.Incarnation // a start is under way

	answers bool  // its agent has answered the agent of the host
	silent  int64 // since when its agent is asked in vain; 0 = it is not
	fired   int64 // when its watchdog fired; 0 = it has not
	paused  bool  // its watchdog has paused it
	cured   bool  // a start makes it well again
}

// newBox is a healthy host with a BMC and a lease, and these guests.
func newBox(id string, vms ...int) *box {
	b := &box{id: fsm.HostID(id), levels: []string{"ipmi", "lease"}, watchdog: fsm.WatchdogHardware, storages: map[string]bool{"nfs": true},
		memory: 256 << 30, power: true, agent: true, network: true, seen: true, bmc: "ok", boot: 1, session: 1,
		guests: map[fsm.VMID]*guest{}, absent: map[fsm.VMID]int{}, failing: map[fsm.VMID]int{}}
	for _, n := range vms {
		b.guests[vmID(n)] = &guest{on: true, reason: fsm.ReasonBooted}
	}
	return b
}

func (b *box) fenced(levels ...string) *box { b.levels = levels; return b }
func (b *box) in(rack string) *box          { b.rack = rack; return b }

func (b *box) fenceLevels() *logpb.HostFenceLevels {
	c := &logpb.HostFenceLevels{Host: string(b.id)}
	for _, l := range b.levels {
		c.Levels = append(c.Levels, &logpb.FenceLevel{Driver: l, Address: "bmc-" + string(b.id)})
	}
	return c
}

// Faults.

func (b *box) die() {
	b.w.note("* power of %s fails", b.id)
	b.power, b.seen, b.lease = false, false, 0
	for _, g := range b.guests {
		g.on, g.begun = false, 0
	}
}

func (b *box) back() {
	b.w.note("* %s boots", b.id)
	b.power, b.seen, b.agent, b.network = true, true, true, true
	b.boot++
	b.session++
	for id, g := range b.guests {
		g.on, g.begun = false, 0
		if g.refused == 0 && g.failed == 0 {
			delete(b.guests, id)
		}
	}
}

func (b *box) cut() { b.w.note("* network of %s is cut", b.id); b.network, b.seen = false, false }

// mute: the agent hangs, the host is seen alive.
func (b *box) mute()   { b.w.note("* agent of %s hangs", b.id); b.network = false }
func (b *box) unmute() { b.w.note("* agent of %s works again", b.id); b.network, b.seen = true, true }

// stop is a clean stop of the agent.
func (b *box) stop() {
	h := b.w.host(b.id)
	b.w.apply(&logpb.HostLeave{Host: string(b.id), Epoch: h.Epoch, Session: h.Session, Reason: "stopped"})
	b.agent, b.lease = false, 0
}

// beats reports every second, and dies by its watchdog when its lease runs out.
func (b *box) beats() {
	b.w.after(b.w.state().Policy.Beat, func() {
		b.watch()
		if b.power && b.agent && b.network && !b.w.frozen {
			b.beat()
		}
		b.beats()
	})
}

func (b *box) watch() {
	if b.power && b.lease != 0 && b.w.now >= b.lease {
		b.w.note("* watchdog of %s bites", b.id)
		b.die()
	}
}

func (b *box) contact(f func(*ha.Contact)) {
	c := b.w.soft.Hosts.Of(b.id)
	if c.Epoch != b.epoch {
		c = ha.Contact{Epoch: b.epoch, Knocked: c.Knocked}
	}
	f(&c)
	b.w.soft.Hosts.Set(b.id, c)
}

func (b *box) beat() {
	w := b.w
	if h := w.state().Host(b.id); h == nil || h.Epoch != b.epoch || h.Session != b.run() || h.Status == fsm.Down || h.Status == fsm.Disconnected || h.Status == fsm.Removed {
		b.register()
		return
	}
	b.seq++
	b.contact(func(c *ha.Contact) { c.Heard, c.Guests = w.mono(), b.sick() })
	b.arm()
	if r := b.report(); r != nil {
		w.apply(&logpb.HostReports{Reports: []*logpb.HostReport{r}})
	}
	b.contact(func(c *ha.Contact) { c.Absorbed = w.now })
	h := w.host(b.id)
	if h.Lease == nil {
		b.lease = 0 // withdrawn
	} else if h.Status == fsm.Up {
		b.lease = w.now + h.Lease.DurationNS + h.Lease.BoundNS
	}
	b.protect()
	b.obey()
}

func (b *box) run() string { return fmt.Sprintf("s%d", b.session) }

func (b *box) register() {
	w := b.w
	c := w.soft.Hosts.Of(b.id)
	c.Knocked = w.mono()
	w.soft.Hosts.Set(b.id, c)
	r := &logpb.HostRegister{Id: string(b.id), MachineId: "machine of " + string(b.id), BootId: fmt.Sprint(b.boot), Session: b.run(), Version: "1",
		ProbeAddrs: []string{"10.0.0.1"}, Inventory: b.inventory(), Watchdog: uint32(b.watchdog), WatchdogBoundNs: int64(5 * time.Second), Vms: b.entries(nil)}
	if b.rack != "" {
		r.Labels = []*logpb.Label{{Key: "rack", Value: b.rack}}
	}
	if no := w.try(r); no != "" {
		w.note("%s may not register: %s", b.id, no)
		return
	}
	w.settle() // the leader looks before the registration is answered
	b.epoch, b.seq, b.lease = w.host(b.id).Epoch, 0, 0
	b.contact(func(c *ha.Contact) { c.Heard, c.Absorbed = max(w.mono(), 1), w.now })
}

func (b *box) inventory() *logpb.Inventory {
	inv := &logpb.Inventory{Cpus: 64, MemoryBytes: b.memory, Networks: []string{"bridge:br0"}}
	for _, id := range []string{"nfs", "san"} {
		if up, ok := b.storages[id]; ok {
			inv.Storages = append(inv.Storages, &logpb.Storage{Id: id, Up: up})
		}
	}
	return inv
}

// arm commits the lease that the agent runs under (S12).
func (b *box) arm() {
	s := b.w.state()
	h := s.Host(b.id)
	if h.HasLevel(fsm.DriverLease) && s.Armed && h.Lease == nil && s.Policy.ProvesDeath(b.watchdog) {
		b.w.apply(&logpb.HostLease{Host: string(b.id), Epoch: h.Epoch, Armed: true, BootId: h.BootID, DurationNs: int64(s.Policy.Lease),
			Watchdog: uint32(b.watchdog), BoundNs: int64(s.Policy.WatchdogBound)})
	}
}

// protect sends the definitions of VMs that have none.
func (b *box) protect() {
	h := b.w.host(b.id)
	var specs []*logpb.Spec
	for i := range h.VMs {
		v := &h.VMs[i]
		if v.Spec == nil && b.guests[v.ID] != nil {
			x := spec(int(v.ID[14])<<8 | int(v.ID[15]))
			if b.bound {
				x.Local = []string{"disk /var/lib/local.qcow2"}
			}
			specs = append(specs, x)
		}
	}
	if len(specs) > 0 {
		b.w.apply(&logpb.VMSpecs{Host: string(b.id), Epoch: h.Epoch, Specs: specs})
	}
}

func spec(n int) *logpb.Spec {
	return &logpb.Spec{Id: vmBytes(n), Name: fmt.Sprintf("vm%d", n), Cpus: 2, MemoryBytes: 4 << 30, Hash: bytes.Repeat([]byte{byte(n)}, 32),
		Definition: []byte("<domain/>"), Disks: []*logpb.Disk{{Path: "/nfs/disk", Storage: "nfs"}}, Networks: []string{"bridge:br0"},
		Protect: &logpb.Protection{On: true}}
}

// said is one VM as the agent reports it.
func (g *guest) said() (fsm.Power, fsm.Reason) {
	switch {
	case g.begun != 0:
		return fsm.PowerStarting, fsm.ReasonNone
	case g.on:
		return fsm.PowerOn, g.reason
	}
	return fsm.PowerOff, g.reason
}

// entries are the guests for which keep holds, sorted.
func (b *box) entries(keep func(fsm.VMID, *guest) bool) *logpb.VMEntries {
	ids := make([]fsm.VMID, 0, len(b.guests))
	for id, g := range b.guests {
		if keep == nil || keep(id, g) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	slices.SortFunc(ids, func(x, y fsm.VMID) int { return bytes.Compare(x[:], y[:]) })
	e := &logpb.VMEntries{}
	for i, id := range ids {
		g := b.guests[id]
		p, r := g.said()
		e.Ids = append(e.Ids, id[:]...)
		e.Power, e.Reason = append(e.Power, byte(p)), append(e.Reason, byte(r))
		e.Incarnations = append(e.Incarnations, uint64(g.inc))
		x := &logpb.VMDetail{Pos: uint32(i), Name: fmt.Sprintf("vm%d", int(id[14])<<8|int(id[15])), Refused: uint64(g.refused), Failed: uint64(g.failed), GuestAnswers: g.answers && g.on}
		if g.failed != 0 {
			x.Failure = "no such disk"
		}
		e.Details = append(e.Details, x)
	}
	return e
}

// report is what the leader would commit of a full report; nil = nothing.
func (b *box) report() *logpb.HostReport {
	s := b.w.state()
	h := s.Host(b.id)
	r := &logpb.HostReport{Host: string(b.id), Epoch: b.epoch, Seq: b.seq}
	r.Vms = b.entries(func(id fsm.VMID, g *guest) bool {
		p, reason := g.said()
		v := h.VM(id)
		return s.Changes(h, id, p, reason, g.inc, g.refused, g.failed) || v != nil && s.GuestChanges(v, p, g.inc, g.answers)
	})
	for i := range h.VMs {
		v := &h.VMs[i]
		if b.guests[v.ID] != nil {
			delete(b.absent, v.ID)
		} else if b.absent[v.ID]++; b.absent[v.ID] >= 2 && s.Changes(h, v.ID, fsm.PowerReportMissing, 0, v.Incarnation, 0, 0) {
			r.Missing = append(r.Missing, v.ID[:]...)
		}
	}
	want := b.inventory()
	for _, st := range h.Inventory.Storages {
		if up, ok := b.storages[st.ID]; !ok || up != st.Up {
			r.Inventory = want
		}
	}
	if r.Vms == nil && r.Missing == nil && r.Inventory == nil {
		return nil
	}
	return r
}

// obey follows the orders that the answer to a report carries.
func (b *box) obey() {
	h := b.w.host(b.id)
	for i := range h.VMs {
		v := &h.VMs[i]
		if g := b.guests[v.ID]; g != nil && g.on && v.Power == fsm.PowerOn && h.Status == fsm.Up {
			g.inc = max(g.inc, v.Incarnation)
		}
	}
	if b.deaf || h.Status != fsm.Up {
		return
	}
	for _, o := range h.Orders {
		g := b.guests[o.VM]
		if g == nil {
			if o.Kind == fsm.OrderResume || o.Kind == fsm.OrderStop {
				continue // there is no such domain
			}
			g = &guest{}
			b.guests[o.VM] = g
		}
		switch o.Kind {
		case fsm.OrderStart:
			b.start(o, g)
		case fsm.OrderStop:
			g.on, g.reason = false, fsm.ReasonOrdered
		case fsm.OrderResume:
			if g.on && g.inc == o.Incarnation && b.storages["nfs"] {
				g.reason = fsm.ReasonBooted
			}
		case fsm.OrderDestroy:
			if g.inc <= o.Incarnation {
				g.on, g.begun = false, 0
			}
			g.refused = max(g.refused, o.Incarnation)
		}
	}
}

func (b *box) start(o *fsm.Order, g *guest) {
	if o.Incarnation <= g.refused || o.Incarnation <= g.inc || g.begun != 0 {
		return
	}
	g.inc = o.Incarnation
	switch {
	case b.failing[o.VM] > 0:
		b.failing[o.VM]--
		g.failed = o.Incarnation
		return
	}
	g.begun = o.Incarnation
	if b.hangs {
		return
	}
	boot := b.boot
	b.w.after(time.Second, func() {
		if g.begun == o.Incarnation && b.power && b.boot == boot && g.refused < o.Incarnation {
			b.w.note("* %s runs %s at %s", b.id, o.Name, o.Incarnation)
			g.on, g.reason, g.begun, g.failed = true, fsm.ReasonBooted, 0, 0
			if g.answers, g.fired, g.paused = false, 0, false; g.cured {
				g.silent = 0
			}
		}
	})
}

// start does an effect of the leader, once in its term.
func (w *world) start(e ha.Effect) {
	switch e := e.(type) {
	case ha.Investigate:
		key := fmt.Sprintf("investigate %s/%d/%d", e.Host, e.Epoch, e.Round)
		if !w.running[key] {
			w.running[key] = true
			w.investigate(e)
		}
	case ha.Fence:
		key := fmt.Sprintf("fence %s/%d/%d", e.Host, e.Epoch, e.Attempt)
		if !w.running[key] {
			w.running[key] = true
			w.fence(e)
		}
	case ha.Check:
		w.check(e)
	}
}
