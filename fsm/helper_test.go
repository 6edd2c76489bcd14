package fsm

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"lifeboat/fsm/logpb"
)

// lab is one machine, the log it was given and a clock that moves by hand.
type lab struct {
	t     testing.TB
	m     *Machine
	log   []Entry
	index uint64
	now   int64
	seqs  map[HostID]uint64
}

const epochStart = int64(1_700_000_000_000_000_000)

func newLab(t testing.TB) *lab {
	l := &lab{t: t, m: NewMachine(), now: epochStart, seqs: map[HostID]uint64{}}
	l.ok(&logpb.ClusterInit{ClusterId: "c1", FeatureLevel: 1})
	return l
}

// command wraps a body by its type.
func command(body proto.Message) *logpb.Command {
	c := &logpb.Command{}
	fields := c.ProtoReflect().Descriptor().Oneofs().ByName("body").Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Message().FullName() == body.ProtoReflect().Descriptor().FullName() {
			c.ProtoReflect().Set(f, protoreflect.ValueOfMessage(body.ProtoReflect()))
			return c
		}
	}
	panic(fmt.Sprintf("%T is not a command", body))
}

func encode(t testing.TB, c *logpb.Command) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// entry makes the next entry of the log, without applying it.
func (l *lab) entry(c *logpb.Command) Entry {
	l.t.Helper()
	l.index++
	if c.TimeUnixNs == 0 {
		c.TimeUnixNs = l.now
	}
	e := Entry{Index: l.index, Term: 1, Data: encode(l.t, c)}
	l.log = append(l.log, e)
	return e
}

// do applies a command, checks every invariant and returns the rejection.
func (l *lab) do(body proto.Message) string {
	l.t.Helper()
	r := l.m.Apply([]Entry{l.entry(command(body))})
	if err := l.m.Check(); err != nil {
		l.t.Fatalf("after %s:\n%v", command(body), err)
	}
	return r[0].Rejected
}

func (l *lab) ok(body proto.Message) {
	l.t.Helper()
	if no := l.do(body); no != "" {
		l.t.Fatalf("%s was rejected: %s", command(body), no)
	}
}

func (l *lab) rejected(body proto.Message) string {
	l.t.Helper()
	before := essence(l.m.State())
	no := l.do(body)
	if no == "" {
		l.t.Fatalf("%s was not rejected", command(body))
	}
	if after := essence(l.m.State()); after != before {
		l.t.Fatalf("%s was rejected (%s) and changed\n%s\nto\n%s", command(body), no, before, after)
	}
	return no
}

func (l *lab) wait(d time.Duration) { l.now += int64(d) }

func (l *lab) state() *State { return l.m.State() }

func (l *lab) host(id HostID) *Host {
	l.t.Helper()
	h := l.state().Host(id)
	if h == nil {
		l.t.Fatalf("there is no host %s", id)
	}
	return h
}

func (l *lab) vm(n int) *VM {
	l.t.Helper()
	v, _ := l.state().VM(testVM(n))
	if v == nil {
		l.t.Fatalf("there is no VM %d", n)
	}
	return v
}

func (l *lab) owner(n int) HostID {
	l.t.Helper()
	_, h := l.state().VM(testVM(n))
	if h == nil {
		l.t.Fatalf("VM %d has no owner", n)
	}
	return h.ID
}

// work is the open work of a VM, nil when there is none.
func (l *lab) work(n int) *Work { l.t.Helper(); return l.state().Work(l.vm(n).Work) }

func (l *lab) step(n int) Step {
	l.t.Helper()
	w := l.work(n)
	if w == nil {
		return 0
	}
	return w.Step
}

func testVM(n int) VMID { return VMID{15: byte(n)} }

func testName(n int) string { return fmt.Sprintf("vm%d", n) }

func idBytes(n int) []byte { id := testVM(n); return id[:] }

// report is one VM of a report.
type said struct {
	vm      int
	power   Power
	reason  Reason
	inc     Incarnation
	refused Incarnation
	failed  Incarnation
	order   OrderID // to migrate, that came to nothing
	answers bool    // the agent of its guest does
}

// columns writes entries as the leader does; every VM carries its name.
func columns(vms ...said) *logpb.VMEntries {
	slices.SortStableFunc(vms, func(a, b said) int { return a.vm - b.vm })
	out := &logpb.VMEntries{}
	for i, v := range vms {
		out.Ids = append(out.Ids, idBytes(v.vm)...)
		out.Power = append(out.Power, byte(v.power))
		out.Reason = append(out.Reason, byte(v.reason))
		out.Incarnations = append(out.Incarnations, uint64(v.inc))
		d := &logpb.VMDetail{Pos: uint32(i), Name: testName(v.vm), Refused: uint64(v.refused), Failed: uint64(v.failed), GuestAnswers: v.answers}
		if v.failed != 0 {
			d.Failure = "no such disk"
		}
		if d.Order = uint64(v.order); v.order != 0 {
			d.OrderFailure = "connection refused"
		}
		out.Details = append(out.Details, d)
	}
	return out
}

// register brings a host up in boot and reports vms.
func (l *lab) register(id HostID, boot string, vms ...said) {
	l.t.Helper()
	l.ok(registration(id, boot, vms...))
	l.seqs[id] = 0
}

func registration(id HostID, boot string, vms ...said) *logpb.HostRegister {
	return &logpb.HostRegister{Id: string(id), MachineId: "machine of " + string(id), BootId: boot, Session: "s1", Version: "1",
		ProbeAddrs: []string{"10.0.0.1"}, Watchdog: uint32(WatchdogHardware), WatchdogBoundNs: int64(5 * time.Second),
		Inventory: &logpb.Inventory{Cpus: 64, MemoryBytes: 256 << 30}, Vms: columns(vms...)}
}

// reportOf is the next report of a host in its current epoch.
func (l *lab) reportOf(id HostID, vms ...said) *logpb.HostReports {
	l.seqs[id] = max(l.seqs[id], l.host(id).Seq) + 1
	return &logpb.HostReports{Reports: []*logpb.HostReport{{Host: string(id), Epoch: l.host(id).Epoch, Seq: l.seqs[id], Vms: columns(vms...)}}}
}

func (l *lab) report(id HostID, vms ...said) { l.t.Helper(); l.ok(l.reportOf(id, vms...)) }

func (l *lab) missing(id HostID, n int) {
	l.t.Helper()
	r := l.reportOf(id)
	r.Reports[0].Missing = idBytes(n)
	l.ok(r)
}

// protect stores a VM's definition and puts it under HA.
func (l *lab) protect(n int) {
	l.t.Helper()
	h := l.host(l.owner(n))
	l.ok(&logpb.VMSpecs{Host: string(h.ID), Epoch: h.Epoch, Specs: []*logpb.Spec{spec(n)}})
}

func spec(n int) *logpb.Spec {
	return &logpb.Spec{Id: idBytes(n), Name: testName(n), Cpus: 2, MemoryBytes: 4 << 30, Hash: bytes.Repeat([]byte{byte(n)}, 32),
		Definition: []byte("<domain/>"), Protect: &logpb.Protection{On: true}}
}

func levels(id HostID) *logpb.HostFenceLevels {
	return &logpb.HostFenceLevels{Host: string(id), Levels: []*logpb.FenceLevel{
		{Driver: "ipmi", Address: "bmc-" + string(id)}, {Driver: DriverLease}}}
}

func (l *lab) arm(id HostID) {
	l.t.Helper()
	l.ok(leaseOf(l.host(id)))
}

func leaseOf(h *Host) *logpb.HostLease {
	return &logpb.HostLease{Host: string(h.ID), Epoch: h.Epoch, Armed: true, BootId: h.BootID, DurationNs: int64(12 * time.Second),
		Watchdog: uint32(WatchdogHardware), BoundNs: int64(5 * time.Second)}
}

// fleet is hosts h1..hN with fence levels and leases, and VMs 1..vms, all
// protected and on at host h1.
func fleet(t testing.TB, hosts, vms int) *lab {
	t.Helper()
	l := newLab(t)
	for i := range hosts {
		id := HostID(fmt.Sprintf("h%d", i+1))
		var on []said
		for n := 1; i == 0 && n <= vms; n++ {
			on = append(on, said{vm: n, power: PowerOn, reason: ReasonBooted})
		}
		l.register(id, "b1", on...)
		l.ok(levels(id))
		l.arm(id)
	}
	for n := range vms {
		l.protect(n + 1)
	}
	return l
}

func (l *lab) suspect(id HostID) *logpb.HostSuspect {
	return &logpb.HostSuspect{Host: string(id), Epoch: l.host(id).Epoch, Reason: "silent", SilentNs: int64(3 * time.Second)}
}

func (l *lab) hostDown(id HostID) *logpb.HostDown {
	return &logpb.HostDown{Host: string(id), Epoch: l.host(id).Epoch, Reason: "silent"}
}

func (l *lab) fenced(id HostID, kind ProofKind, targets ...string) *logpb.HostFenced {
	c := &logpb.HostFenced{Host: string(id), Epoch: l.host(id).Epoch, Proof: &logpb.Proof{Kind: uint32(kind), By: "test", Detail: "test"}}
	for i, x := range targets {
		c.Placements = append(c.Placements, &logpb.Placement{Vm: idBytes(i + 1), Target: x, Why: "fits"})
	}
	return c
}

func (l *lab) place(n int, target HostID) *logpb.Place {
	return &logpb.Place{Placements: []*logpb.WorkPlacement{{Work: uint64(l.vm(n).Work), Vm: idBytes(n), Target: string(target), Why: "fits"}}}
}

// kill takes a host down and proves it dead.
func (l *lab) kill(id HostID, targets ...string) {
	l.t.Helper()
	l.ok(l.hostDown(id))
	l.ok(l.fenced(id, ProofPower, targets...))
}

// essence is what matters of a state, in words: two states with the same
// essence treat VMs and hosts alike.
func essence(s *State) string {
	var b bytes.Buffer
	var policy []string
	for _, x := range s.Policy.Settings(s.Level) {
		policy = append(policy, x.Value)
	}
	fmt.Fprintf(&b, "armed %v, brakes %d, policy {%s}\n", s.Armed, s.brakes.len(), strings.Join(policy, " "))
	for id, n := range s.Nodes() {
		fmt.Fprintf(&b, "node %s %s run %s", id, n.State, n.RunID)
		if n.Until != 0 || n.For != 0 {
			fmt.Fprintf(&b, ", until %d, then for %d", n.Until, n.For)
		}
		b.WriteString("\n")
	}
	for id, h := range s.Hosts() {
		fmt.Fprintf(&b, "host %s %s %s %s epoch %d boot %s seq %d lease %v attempt %v proof %v evidence %d\n", id, h.Status, h.Resource, h.HA, h.Epoch, h.BootID,
			h.Seq, h.Lease != nil, h.Attempt, h.Proof != nil, len(h.Evidence))
		for _, o := range h.Orders {
			fmt.Fprintf(&b, "  order %d %s %s %s\n", o.ID, o.Kind, o.Name, o.Incarnation)
		}
		for i := range h.VMs {
			v := &h.VMs[i]
			fmt.Fprintf(&b, "  %s %s (%s) wanted %v by %s gone %v inc %s work %d error %q defined %v\n", v.Name, v.Power, v.Reason, v.Wanted, v.ProtectedBy, v.Gone,
				v.Incarnation, v.Work, v.Error, v.Spec != nil)
		}
	}
	for w := range s.OpenWork() {
		fmt.Fprintf(&b, "work %d %s %s %s %s attempt %d tried %v\n", w.ID, w.VMName, w.Type, w.Step, w.Cause, w.Attempt, w.Tried)
	}
	for k, id := range s.raised.all() {
		fmt.Fprintf(&b, "alert %d %v %s\n", id, k, s.Alert(id).State)
	}
	for id, k := range s.Tokens() {
		fmt.Fprintf(&b, "token %s for a %s %q, %d left, used %d\n", id, k.Kind, k.Name, k.Left, len(k.Used))
	}
	for id, o := range s.Operators() {
		fmt.Fprintf(&b, "operator %s %s\n", id, o.Role)
	}
	return b.String()
}
