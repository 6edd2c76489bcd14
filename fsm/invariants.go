package fsm

import (
	"errors"
	"fmt"
	"slices"
)

// Check looks for violations of what must hold in every state, whatever the
// log held. It returns all it finds as one error, each line beginning with the
// rule, or nil. It reads the whole state and is meant for tests, `lifeboat
// backup verify` and support, not for every entry.
func (s *State) Check() error {
	c := &checker{s: s, ids: make([]uint64, s.seq/64+1)}
	c.hosts()
	c.index()
	c.allWork()
	c.allAlerts()
	c.cluster()
	return errors.Join(c.errs...)
}

// Check looks for violations in the published state and in the rolling digest.
// Like Apply it may be called from one goroutine at a time.
func (m *Machine) Check() error {
	s := m.State()
	err := s.Check()
	if rolling, sum := m.digester.fold(s), s.Sum(); rolling != sum {
		err = errors.Join(err, fmt.Errorf("digest: rolling %016x, from scratch %016x", rolling, sum))
	}
	return err
}

type checker struct {
	s    *State
	ids  []uint64 // a bit for each id that was minted: somebody has it
	errs []error
}

// must notes a violation unless ok.
func (c *checker) must(ok bool, rule, format string, args ...any) {
	if !ok {
		c.fail(rule, format, args...)
	}
}

// fail notes a violation.
func (c *checker) fail(rule, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s: %s", rule, fmt.Sprintf(format, args...)))
}

// minted checks an id that came from the state's one counter.
func (c *checker) minted(id uint64, what string) {
	if id == 0 || id > c.s.seq {
		c.fail("ids", "%s %d was never minted (last id %d)", what, id, c.s.seq)
		return
	}
	at, bit := id/64, uint64(1)<<(id%64)
	if c.ids[at]&bit != 0 {
		c.fail("ids", "%s %d has the id of something else", what, id)
	}
	c.ids[at] |= bit
}

// past checks a time that Apply has written down.
func (c *checker) past(at int64, what string) {
	if at > c.s.Time {
		c.fail("S21", "%s lies in the future", what)
	}
}

// pastHost is past for a field of a host. What is right costs nothing: no text is
// made of it.
func (c *checker) pastHost(at int64, field string, id HostID) {
	if at > c.s.Time {
		c.fail("S21", "%s of host %s lies in the future", field, id)
	}
}

// pastOf is past for what has an id.
func (c *checker) pastOf(at int64, what string, id uint64) {
	if at > c.s.Time {
		c.fail("S21", "%s %d lies in the future", what, id)
	}
}

func (c *checker) hosts() {
	for id, h := range c.s.Hosts() {
		if !(h.ID == id) {
			c.fail("hosts", "host %s stands under the id %s", h.ID, id)
		}
		if !(h.Epoch > 0) {
			c.fail("hosts", "host %s has never registered", id)
		}
		if !(h.Inventory != nil) {
			c.fail("hosts", "host %s has no inventory", id)
		}
		if !(h.Assigned <= c.s.Index && (h.Settled == 0 || h.DownIndex <= h.Settled) && h.Settled <= c.s.Index) {
			c.fail("hosts", "host %s was changed at an index to come", id)
		}
		c.pastHost(h.Since, "since", id)
		c.pastHost(h.Silent, "silent", id)
		c.hostState(h)
		c.lease(h)
		c.orders(h)
		c.copies(h)
		for i := range h.VMs {
			v := &h.VMs[i]
			if !(h.Stalled || !v.Stalled()) {
				c.fail("S18", "VM %s is paused on an I/O error, and host %s does not say so", v.Name, id)
			}
			if !(i == 0 || lessVM(h.VMs[i-1].ID, v.ID)) {
				c.fail("S2", "the VMs of host %s are out of order at %s", id, v.ID)
			}
			c.vm(h, v)
		}
	}
}

// hostStates are the combinations of Status and HA that Apply makes.
func hostStates(st Status) []HAState {
	switch st {
	case Connecting:
		return []HAState{HARecovering}
	case Up, Disconnected:
		return []HAState{HAAvailable}
	case Alert:
		return []HAState{HASuspect, HAChecking, HADegraded}
	case Down:
		return []HAState{HAFencing, HAFenced}
	case Removed:
		return []HAState{HADisabled}
	}
	return nil
}

func (c *checker) hostState(h *Host) {
	if !(slices.Contains(hostStates(h.Status), h.HA)) {
		c.fail("hosts", "host %s is %s and %s at once", h.ID, h.Status, h.HA)
	}
	if !(h.Resource >= Enabled && h.Resource <= Degraded) {
		c.fail("hosts", "host %s has resource state %d", h.ID, h.Resource)
	}
	if !(h.Watchdog <= WatchdogSoft || h.Lease == nil) {
		c.fail("S12", "host %s has a lease under watchdog %d", h.ID, h.Watchdog)
	}
	switch h.Status {
	case Up:
		if h.inFlight(c.s.Time) {
			c.fail("S10", "host %s is Up while fence attempt %d may be in flight", h.ID, attemptNumber(h))
		}
	case Down:
		if !(h.DownIndex > 0) {
			c.fail("S10", "host %s is Down since no index", h.ID)
		}
		if !((h.HA == HAFenced) == (h.Proof != nil)) {
			c.fail("S9", "host %s is %s with proof %v", h.ID, h.HA, h.Proof)
		}
	case Removed:
		if len(h.VMs) > 0 || len(h.Orders) > 0 {
			c.fail("hosts", "removed host %s owns %d VMs and has %d orders", h.ID, len(h.VMs), len(h.Orders))
		}
	}
	if !(!h.Evicted || h.Status == Down && h.HA == HAFencing) {
		c.fail("S6", "host %s is evicted and %s (%s)", h.ID, h.Status, h.HA)
	}
	for _, e := range h.Evidence {
		if !(e.Verdict <= Dead) {
			c.fail("S20", "evidence of %s about host %s says %d", e.Source, h.ID, e.Verdict)
		}
	}
}

func attemptNumber(h *Host) uint32 {
	if h.Attempt == nil {
		return 0
	}
	return h.Attempt.Number
}

func (c *checker) lease(h *Host) {
	l := h.Lease
	if l == nil {
		return
	}
	if !(l.Armed && l.DurationNS > 0 && l.BoundNS >= 0 && l.Watchdog <= WatchdogSoft) {
		c.fail("S12", "host %s has a lease that makes no sense: %+v", h.ID, *l)
	}
	if !(l.BootID == h.BootID) {
		c.fail("S12", "host %s has a lease of boot %s in boot %s", h.ID, l.BootID, h.BootID)
	}
	if !(c.s.Armed) {
		c.fail("S12", "host %s has a lease while HA is disarmed", h.ID)
	}
	if !(h.HasLevel(DriverLease)) {
		c.fail("S12", "host %s has a lease that is not among its fence levels", h.ID)
	}
	if !(h.Status != Disconnected && h.Status != Removed && h.HA != HAFenced) {
		c.fail("S16", "host %s is %s (%s) and has a lease", h.ID, h.Status, h.HA)
	}
}

func (c *checker) copies(h *Host) {
	for i, k := range h.Copies {
		_, owner := c.s.VM(k.VM)
		c.must(owner == nil || owner.ID != h.ID, "S6", "host %s has a copy of VM %s, which it owns", h.ID, k.VM)
		c.must(i == 0 || lessVM(h.Copies[i-1].VM, k.VM), "S6", "the copies on host %s are out of order at %s", h.ID, k.VM)
		c.must(h.Status != Removed && h.HA != HAFenced, "S6", "a copy of VM %s runs on host %s, which is %s (%s)", k.VM, h.ID, h.Status, h.HA)
		c.past(k.Since, "a copy on host "+string(h.ID))
	}
}

func (c *checker) orders(h *Host) {
	type key struct {
		kind OrderKind
		vm   VMID
	}
	c.must(!c.s.Waking || len(h.Orders) == 0, "S22", "host %s has orders after a restore, and HA was not armed since", h.ID)
	seen := map[key]bool{}
	for _, o := range h.Orders {
		c.minted(uint64(o.ID), "order")
		k := key{o.Kind, o.VM}
		c.must(!seen[k], "S4", "host %s has two orders to %s %s", h.ID, o.Kind, o.Name)
		seen[k] = true
		c.must(o.Epoch == h.Epoch && o.BootID == h.BootID, "S4", "the order to %s %s on host %s is of epoch %d (%s), the host in epoch %d (%s)", o.Kind, o.Name, h.ID, o.Epoch, o.BootID, h.Epoch, h.BootID)
		v, owner := c.s.VM(o.VM)
		owned := v != nil && owner.ID == h.ID
		switch o.Kind {
		case OrderStart:
			c.must(owned, "S2", "host %s is told to start %s, which it does not own", h.ID, o.Name)
			if owned {
				c.must(o.Incarnation == v.Incarnation, "S3", "host %s is told to start %s at incarnation %s, it is at %s", h.ID, o.Name, o.Incarnation, v.Incarnation)
				c.must(!v.Gone && v.Power != PowerOn, "S4", "host %s is told to start %s, which is %s (gone: %v)", h.ID, o.Name, v.Power, v.Gone)
				w := c.s.Work(v.Work)
				c.must(w != nil && (w.Step == Restarting || w.Step == Fencing), "S4", "host %s is told to start %s without work that restarts it", h.ID, o.Name)
			}
		case OrderStop:
			c.must(owned && o.Incarnation == v.Incarnation, "S4", "host %s is told to stop %s, which it does not own at incarnation %s", h.ID, o.Name, o.Incarnation)
			if owned {
				w := c.s.Work(v.Work)
				c.must(w != nil && w.Type.Stops(), "S4", "host %s is told to stop %s without work that stops it", h.ID, o.Name)
			}
		case OrderDestroy:
			c.must(o.Incarnation != 0, "S6", "host %s is told to destroy %s at no incarnation", h.ID, o.Name)
			if v != nil && !owned {
				c.must(o.Incarnation < v.Incarnation, "S6", "host %s is told to destroy %s up to incarnation %s, and host %s owns it at %s", h.ID, o.Name, o.Incarnation, owner.ID, v.Incarnation)
			}
			if owned {
				c.must(o.Incarnation <= v.Incarnation, "S6", "host %s is told to destroy %s up to incarnation %s, which was never granted", h.ID, o.Name, o.Incarnation)
			}
		case OrderResume:
			c.must(owned && o.Incarnation == v.Incarnation, "S18", "host %s is told to resume %s, which it does not own at incarnation %s", h.ID, o.Name, o.Incarnation)
		default:
			c.must(false, "S4", "host %s has an order of kind %d", h.ID, o.Kind)
		}
	}
}

// vm checks a VM in its owner's slice.
func (c *checker) vm(h *Host, v *VM) {
	if !(v.Power <= PowerReportMissing && v.Reason <= ReasonHostDead && v.ProtectedBy <= OptedOut) {
		c.fail("vms", "VM %s has power %d, reason %d, protection %d", v.Name, v.Power, v.Reason, v.ProtectedBy)
	}
	if v.Name == "" {
		c.fail("vms", "VM %s has no name", v.ID)
	}
	if !(v.mode == v.HAPolicy().HA && v.inError == (v.Error != "")) {
		c.fail("vms", "VM %s is of mode %s and in error (%v), which is not what its policy and error say", v.Name, v.mode, v.inError)
	}
	if v.Since > c.s.Time {
		c.past(v.Since, "since of VM "+v.Name)
	}
	if !(!v.Protected() || v.Incarnation != 0) {
		c.fail("S1", "VM %s is protected and has no incarnation", v.Name)
	}
	if !(!v.Gone || v.Power != PowerOn) {
		c.fail("S2", "VM %s is proven gone and on", v.Name)
	}
	if !(!v.Gone || v.Incarnation != 0) {
		c.fail("S2", "VM %s is proven gone and was never granted", v.Name)
	}
	if !(v.Error == "" || v.Work == 0) {
		c.fail("work", "VM %s is in error and has open work %d", v.Name, v.Work)
	}
	if v.Protected() && v.Wanted && v.Error == "" {
		if !(v.Work != 0 || v.Power != PowerOff && !v.Gone) {
			c.fail("work", "VM %s is wanted on and %s (gone: %v), and nobody does anything", v.Name, v.Power, v.Gone)
		}
		if h.Status == Down {
			if !(v.Work != 0) {
				c.fail("work", "VM %s is on host %s, which is Down, and nobody does anything", v.Name, h.ID)
			}
		}
	}
	if h.HA == HAFenced && v.Protected() {
		w := c.s.Work(v.Work)
		if !(v.Gone || w != nil && w.Step == Investigating || v.LostSight()) {
			c.fail("S2", "VM %s is on host %s, which is proven dead, and is not gone", v.Name, h.ID)
		}
	}
	if v.Work == 0 {
		return
	}
	w := c.s.Work(v.Work)
	if !(w != nil && !w.Step.Ended() && w.VM == v.ID) {
		c.fail("work", "VM %s points to work %d, which is not open for it", v.Name, v.Work)
	}
	if w == nil {
		return
	}
	switch w.Step {
	case Restarting:
		o := h.order(OrderStart, v.ID)
		if !(w.Target == h.ID && w.Incarnation == v.Incarnation && !v.Gone) {
			c.fail("S2", "work %d restarts %s on host %s at incarnation %s; host %s owns it at %s (gone: %v)", w.ID, v.Name, w.Target, w.Incarnation, h.ID, v.Incarnation, v.Gone)
		}
		if !(o != nil) {
			c.fail("S4", "work %d restarts %s, but host %s has no order", w.ID, v.Name, h.ID)
		}
	case Fencing:
		if !(h.HA != HAFenced && !v.Gone) {
			c.fail("work", "work %d waits for proof that host %s is dead, and it has it", w.ID, h.ID)
		}
	case Stopping:
		kind := OrderDestroy
		if w.Type.Stops() {
			kind = OrderStop
		}
		if !(h.order(kind, v.ID) != nil) {
			c.fail("S4", "work %d waits for host %s to give up %s, but it has no order", w.ID, h.ID, v.Name)
		}
	}
}

// index checks that the VMs on the hosts and those that have an owner are the same.
func (c *checker) index() {
	if c.indexed() {
		return
	}
	for id, h := range c.s.Hosts() {
		for i := range h.VMs {
			owner, ok := c.s.owner.get(h.VMs[i].ID)
			c.must(ok && owner == id, "S2", "VM %s lies on host %s, its owner is %q", h.VMs[i].ID, id, owner)
		}
	}
	for id, hid := range c.s.owner.all() {
		h := c.s.Host(hid)
		c.must(h != nil && h.VM(id) != nil, "S2", "VM %s is owned by host %s, which does not have it", id, hid)
	}
}

// indexed is index for when all is well. Both are sorted: the next VM that a host
// owns is the next one on it, and nothing needs to be looked up.
func (c *checker) indexed() bool {
	left := make(map[HostID]*[]VM, c.s.CountHosts())
	for id, h := range c.s.Hosts() {
		vms := h.VMs
		left[id] = &vms
	}
	for id, host := range c.s.owner.all() {
		vms := left[host]
		if vms == nil || len(*vms) == 0 || (*vms)[0].ID != id {
			return false
		}
		*vms = (*vms)[1:]
	}
	for _, vms := range left { // in any order
		if len(*vms) > 0 {
			return false
		}
	}
	return true
}

func (c *checker) allWork() {
	open := 0
	for id, w := range c.s.work.all() {
		c.minted(uint64(id), "work")
		// Most have ended long ago: what is right costs nothing here.
		if w.ID != id {
			c.fail("ids", "work %d stands under the id %d", w.ID, id)
		}
		if w.Type < WorkHA || w.Type > WorkDestroy || w.Step < Scheduled || w.Step > Error || w.Cause < CauseHostDown || w.Cause > CauseStorage {
			c.fail("work", "work %d has type %d, step %d, cause %d", id, w.Type, w.Step, w.Cause)
		}
		if w.Created > w.Updated || w.Index > c.s.Index {
			c.fail("work", "work %d was changed before it was made, or after now", id)
		}
		c.pastOf(w.Updated, "change of work", uint64(id))
		if w.Step.Ended() {
			if c.s.Time != 0 && (w.Outcome == "" || w.Ended <= 0) {
				c.fail("work", "work %d has ended (%s) without an outcome", id, w.Step)
			}
			continue
		}
		open++
		c.must(w.Ended == 0, "work", "work %d is open and has ended", id)
		at, ok := c.s.open.get(w.VM)
		c.must(ok && at == id, "work", "work %d for %s is open beside work %d", id, w.VMName, at)
		v, _ := c.s.VM(w.VM)
		c.must(v != nil && v.Work == id, "work", "work %d is open for %s, which does not know it", id, w.VMName)
		if v != nil {
			c.must(w.Incarnation <= v.Incarnation, "S1", "work %d is at incarnation %s, its VM %s at %s", id, w.Incarnation, v.Name, v.Incarnation)
		}
	}
	c.must(open == c.s.CountOpenWork(), "work", "%d work items are open, %d are counted", open, c.s.CountOpenWork())
}

func (c *checker) allAlerts() {
	open := map[AlertKey]bool{}
	for id, a := range c.s.alerts.all() {
		c.minted(uint64(id), "alert")
		if a.ID != id {
			c.fail("ids", "alert %d stands under the id %d", a.ID, id)
		}
		if a.Count == 0 || a.First > a.Last || a.Severity < Info || a.Severity > Critical || a.State < AlertOpen || a.State > AlertResolved {
			c.fail("alerts", "alert %d makes no sense: %+v", id, *a)
		}
		c.pastOf(a.Last, "alert", uint64(id))
		if a.State == AlertResolved {
			continue
		}
		c.must(!open[a.Key], "alerts", "%v is open twice", a.Key)
		open[a.Key] = true
		at := c.s.OpenAlert(a.Key)
		c.must(at != nil && at.ID == id, "alerts", "open alert %d is not found by its key %v", id, a.Key)
	}
	c.must(len(open) == c.s.CountOpenAlerts(), "alerts", "%d alerts are open, %d are counted", len(open), c.s.CountOpenAlerts())
}

func (c *checker) cluster() {
	s := c.s
	for id, n := range s.Nodes() {
		c.must(n.ID == id && id != "" && n.State >= NodeUp && n.State <= NodeShuttingDown, "nodes", "node %q stands under %q in state %d", n.ID, id, n.State)
		c.past(n.Since, "since of node "+string(id))
		c.must(n.Until == 0 || n.Withdrawn() && n.Until >= n.Since, "nodes", "node %s is %s since %d, until %d", id, n.State, n.Since, n.Until)
		c.must(n.Until != 0 || !n.Withdrawn() || n.State == NodeMaintenance, "nodes", "node %s is %s without a deadline", id, n.State)
		c.must(n.For == 0 || n.For > 0 && n.State == NodePreparingForMaintenance, "nodes", "node %s is %s with a maintenance of %d ns to come", id, n.State, n.For)
	}
	for id, e := range s.events.all() {
		c.minted(uint64(id), "event")
		if e.ID != id || e.Index > s.Index || e.Type == "" || e.Text == "" {
			c.fail("events", "event %d makes no sense: %+v", id, *e)
		}
		c.pastOf(e.Time, "event", uint64(id))
	}
	for d, why := range s.Brakes() {
		c.must(why.Reason != "", "S17", "the brake of %q is on without a reason", d)
	}
	c.must(s.Policy != nil && s.Policy.validate() == nil, "policy", "the policy is not valid")
	c.must(s.Time >= 0 && s.Time <= maxTime, "S21", "the time is %d", s.Time)
	c.must(!s.Waking || !s.Armed, "S22", "HA is armed, and the state has not woken since a restore")
	c.must(s.Generation > 0, "S1", "the cluster has no generation")
}
