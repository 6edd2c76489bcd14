package session

import (
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

// bench is a session whose surroundings answer at once, except for managers
// and operations on VMs: those are the test's.
type bench struct {
	*testing.T
	s    *Session
	cfg  Config
	now  Instant
	disk Ledger
	held Held
	doms []hypervisor.Domain
	inv  hypervisor.Inventory

	slowDisk  bool // Persist is not answered
	slowPoll  bool // Poll is not answered
	slowDog   bool
	unsaved   *Persist
	poll      Poll
	epoch     uint64
	index     uint64
	registers []Register
	last      Report // not answered yet, or answered
	sent      int
	acts      []Action // on VMs, and probes
	pets      int
	armed     bool
	exit      *Exit
}

const (
	stateOn      = lifeboatv1.PowerState_POWER_STATE_ON
	stateOff     = lifeboatv1.PowerState_POWER_STATE_OFF
	stateAbsent  = lifeboatv1.PowerState_POWER_STATE_ABSENT
	stateUnknown = lifeboatv1.PowerState_POWER_STATE_UNKNOWN
	stateStart   = lifeboatv1.PowerState_POWER_STATE_STARTING
)

var vm1, vm2 = hypervisor.UUID{15: 1}, hypervisor.UUID{15: 2}

func newBench(t *testing.T, saved Ledger) *bench {
	b := &bench{T: t, now: Instant(time.Hour), disk: saved, cfg: Config{
		HostID: "h1", MachineID: "m", BootID: "boot", Session: "s", Managers: []Manager{{Addr: "m1"}},
		Watchdog: lifeboatv1.WatchdogKind_WATCHDOG_KIND_HARDWARE, Bound: 5 * time.Second,
	}}
	return b
}

func (b *bench) boot() *bench {
	b.s = New(b.cfg, Saved{Ledger: b.disk, Held: b.held})
	b.take(b.s.Boot(b.now))
	return b
}

// take answers actions, in their order.
func (b *bench) take(out Out) {
	for _, a := range out.Actions {
		switch a := a.(type) {
		case Poll:
			b.poll = a
			if !b.slowPoll {
				b.polled()
			}
		case ReadInventory:
			b.take(b.s.InventoryRead(b.now, b.inv, false, nil))
		case ReadHashes:
			b.take(b.s.HashesRead(b.now, a.VMs, map[hypervisor.UUID][32]byte{vm1: {1}, vm2: {2}}))
		case Register:
			if a.Req.Ticket == 0 {
				b.take(b.s.Registered(b.now, a.Seq, &lifeboatv1.RegisterResponse{Ticket: 1}))
				break
			}
			b.registers = append(b.registers, a)
			b.epoch++
			b.take(b.s.Registered(b.now, a.Seq, &lifeboatv1.RegisterResponse{Epoch: b.epoch, BeatMs: 1000}))
		case Report:
			b.last, b.sent = a, b.sent+1
		case Persist:
			b.unsaved = &a
			if !b.slowDisk {
				b.persisted()
			}
		case SaveLease:
			b.held = a.Held
		case ArmWatchdog:
			b.armed = true
			if !b.slowDog {
				b.take(b.s.WatchdogDone(b.now, nil))
			}
		case DisarmWatchdog:
			b.armed = false
			b.take(b.s.WatchdogDone(b.now, nil))
		case PetWatchdog:
			b.pets++
		case Exit:
			b.exit = &a
		case Note:
			b.Logf("%v: %s %v", time.Duration(b.now), a.Message, a.Args)
		default:
			b.acts = append(b.acts, a)
		}
	}
}

func (b *bench) persisted() {
	if a := b.unsaved; a != nil {
		b.unsaved, b.disk = nil, a.Ledger
		b.take(b.s.Persisted(b.now, a.Version, nil))
	}
}

func (b *bench) polled() { b.take(b.s.Polled(b.now, b.poll.ID, slices.Clone(b.doms), nil)) }

// pass lets time pass, the way the session wants to be woken.
func (b *bench) pass(d time.Duration) {
	end := b.now.Add(d)
	for b.now < end {
		b.now = min(b.now.Add(10*time.Millisecond), end)
		b.take(b.s.Tick(b.now))
	}
}

// set changes what the hypervisor shows of a VM.
func (b *bench) set(id hypervisor.UUID, s hypervisor.State, r hypervisor.Reason) {
	b.doms = slices.DeleteFunc(b.doms, func(d hypervisor.Domain) bool { return d.UUID == id })
	if s != hypervisor.StateAbsent {
		b.doms = append(b.doms, hypervisor.Domain{UUID: id, Name: "vm", State: s, Reason: r, Persistent: true})
	}
	slices.SortFunc(b.doms, func(x, y hypervisor.Domain) int { return x.UUID.Compare(y.UUID) })
	b.take(b.s.Look(b.now, id))
}

// answer answers the last report.
func (b *bench) answer(change ...func(*lifeboatv1.ReportResponse)) {
	b.Helper()
	if b.sent == 0 {
		b.Fatal("there is no report to answer")
	}
	r := &lifeboatv1.ReportResponse{Term: 5, AckedSeq: b.last.Req.Seq, BeatMs: 1000}
	for _, c := range change {
		c(r)
	}
	b.take(b.s.Answered(b.now, b.last.Req.Seq, r))
}

// assign answers with an assignment, armed unless the change says otherwise.
func (b *bench) assign(change func(*lifeboatv1.Assignment)) {
	b.Helper()
	b.index++
	a := &lifeboatv1.Assignment{Index: b.index, Armed: true}
	change(a)
	b.answer(func(r *lifeboatv1.ReportResponse) { r.Assignment = a })
}

func own(id hypervisor.UUID, inc uint64) *lifeboatv1.AssignedVM {
	return &lifeboatv1.AssignedVM{Id: id[:], Incarnation: inc, Protected: true, Wanted: true}
}

func (b *bench) order(kind lifeboatv1.OrderKind, id hypervisor.UUID, inc uint64) *lifeboatv1.Order {
	o := &lifeboatv1.Order{Id: 100 + inc, Kind: kind, Vm: id[:], Name: "vm", Incarnation: inc, Epoch: b.epoch, BootId: "boot", GraceMs: 3000}
	if kind == lifeboatv1.OrderKind_ORDER_KIND_START {
		o.Definition = []byte("<domain/>")
		sum := sha256.Sum256(o.Definition)
		o.DefinitionHash = sum[:]
	}
	return o
}

const (
	orderStart   = lifeboatv1.OrderKind_ORDER_KIND_START
	orderStop    = lifeboatv1.OrderKind_ORDER_KIND_STOP
	orderDestroy = lifeboatv1.OrderKind_ORDER_KIND_DESTROY
	orderResume  = lifeboatv1.OrderKind_ORDER_KIND_RESUME
)

// starts makes the host the owner of an incarnation that it is to start.
func (b *bench) starts(id hypervisor.UUID, inc uint64) {
	b.Helper()
	b.assign(func(a *lifeboatv1.Assignment) {
		a.Vms = []*lifeboatv1.AssignedVM{own(id, inc)}
		a.Orders = []*lifeboatv1.Order{b.order(orderStart, id, inc)}
	})
}

// runs makes the host run an incarnation.
func (b *bench) runs(id hypervisor.UUID, inc uint64) {
	b.Helper()
	b.starts(id, inc)
	act[StartVM](b)
	b.set(id, hypervisor.StateRunning, hypervisor.ReasonBooted)
	b.done(id, nil)
	b.report(id, stateOn)
	b.assign(func(a *lifeboatv1.Assignment) { a.Vms = []*lifeboatv1.AssignedVM{own(id, inc)} })
}

func (b *bench) done(id hypervisor.UUID, err error) {
	b.take(b.s.OpDone(b.now, OpResult{ID: id, Err: err}))
}

// next waits for the next report.
func (b *bench) next() {
	b.Helper()
	n := b.sent
	for end := b.now.Add(3 * time.Second); n == b.sent && b.now < end; {
		b.pass(10 * time.Millisecond)
	}
	if n == b.sent { // it waits for an answer
		b.answer()
	}
	for end := b.now.Add(3 * time.Second); n == b.sent; {
		if b.now > end {
			b.Fatal("there is no report any more")
		}
		b.pass(10 * time.Millisecond)
	}
}

// report waits for the next report and checks the power state in it.
func (b *bench) report(id hypervisor.UUID, want lifeboatv1.PowerState) *lifeboatv1.VMReport {
	b.Helper()
	b.next()
	v := b.vm(id)
	if v.GetPower() != want {
		b.Fatalf("reported %v, want %v", v, want)
	}
	return v
}

func (b *bench) vm(id hypervisor.UUID) *lifeboatv1.VMReport {
	for _, v := range b.last.Req.Vms {
		if hypervisor.UUID(v.Id) == id {
			return v
		}
	}
	return nil
}

// act takes the next action on a VM, which must be of type A.
func act[A Action](b *bench) A {
	b.Helper()
	if len(b.acts) == 0 {
		b.Fatalf("nothing was done, want %T", *new(A))
	}
	a, ok := b.acts[0].(A)
	if !ok {
		b.Fatalf("%#v was done, want %T", b.acts[0], *new(A))
	}
	b.acts = b.acts[1:]
	return a
}

func (b *bench) nothing(why string) {
	b.Helper()
	if len(b.acts) > 0 {
		b.Fatalf("%s: %#v was done, want nothing", why, b.acts[0])
	}
}
