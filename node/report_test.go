package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/exchange"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// book is a state machine that is fed by hand.
type book struct {
	m     *fsm.Machine
	index uint64
	now   int64
}

func newBook() *book { return &book{m: fsm.NewMachine(), now: int64(time.Hour)} }

// do applies one command and returns why it was refused.
func (b *book) do(c *logpb.Command) string {
	b.index++
	b.now += int64(time.Second)
	c.TimeUnixNs = b.now
	data, err := proto.Marshal(c)
	if err != nil {
		panic(err)
	}
	return b.m.Apply([]fsm.Entry{{Index: b.index, Term: 1, Data: data}})[0].Rejected
}

func (b *book) hello(node string) string {
	return b.do(&logpb.Command{Body: &logpb.Command_NodeHello{NodeHello: &logpb.NodeHello{Id: node, RunId: "r", Version: "test"}}})
}

func (b *book) register(host string) string {
	return b.do(&logpb.Command{Body: &logpb.Command_HostRegister{HostRegister: &logpb.HostRegister{
		Id: host, MachineId: "m-" + host, BootId: "boot", Session: "s", Inventory: &logpb.Inventory{Cpus: 8, MemoryBytes: 1 << 36}, Watchdog: 2, WatchdogBoundNs: int64(time.Second)}}})
}

func (b *book) protect(id fsm.VMID) string {
	return b.do(&logpb.Command{Body: &logpb.Command_VmProtect{VmProtect: &logpb.VMProtect{Vm: id[:], Protect: &logpb.Protection{On: true}}}})
}

// A report that has been applied says nothing new: what is committed is all of
// it, whatever the state and whatever the report says. Otherwise a host whose
// report is never absorbed would write an entry every second for ever.
func TestAppliedReportIsNoNews(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBook()
		for _, h := range []string{"h1", "h2"} {
			if no := b.register(h); no != "" {
				t.Fatal(no)
			}
		}
		xs := map[string]*contact{}
		seq := uint64(0)
		report := func(host string, vms []*lifeboatv1.VMReport) {
			seq++
			s := b.m.State()
			h := s.Host(fsm.HostID(host))
			if xs[host] == nil {
				xs[host] = &contact{}
			}
			req := &lifeboatv1.ReportRequest{HostId: host, Epoch: h.Epoch, Seq: seq, Vms: vms}
			if err := checkVMs(vms); err != nil {
				t.Fatal(err)
			}
			if d := exchange.Diff(s, h, &xs[host].memory, req, 0); d.Changed() {
				if no := b.do(&logpb.Command{Body: &logpb.Command_HostReports{HostReports: &logpb.HostReports{Reports: []*logpb.HostReport{d.Report}}}}); no != "" {
					t.Fatalf("refused: %s", no)
				}
			}
			// What is left to say: nothing, after as many rounds as an absence
			// takes to count.
			for round := range 5 {
				s = b.m.State()
				seq++
				again := exchange.Diff(s, s.Host(fsm.HostID(host)), &xs[host].memory, &lifeboatv1.ReportRequest{HostId: host, Epoch: h.Epoch, Seq: seq, Vms: vms}, 0)
				if !again.Changed() {
					return
				}
				if round == 4 {
					t.Fatalf("the report of %s is news for ever: %v; says %v", host, again.Report, vms)
				}
				b.do(&logpb.Command{Body: &logpb.Command_HostReports{HostReports: &logpb.HostReports{Reports: []*logpb.HostReport{again.Report}}}})
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"report": func(t *rapid.T) {
				host := rapid.SampledFrom([]string{"h1", "h2"}).Draw(t, "host")
				var vms []*lifeboatv1.VMReport
				for i := range 4 {
					if !rapid.Bool().Draw(t, "listed") {
						continue
					}
					id := vmid(i + 1)
					r := &lifeboatv1.VMReport{Id: id[:], Name: fmt.Sprint("vm", i, rapid.IntRange(0, 1).Draw(t, "name"))}
					r.Power = lifeboatv1.PowerState(rapid.IntRange(0, 6).Draw(t, "power"))
					r.Reason = lifeboatv1.PowerReason(rapid.IntRange(0, 15).Draw(t, "reason"))
					at := uint64(0)
					if v, _ := b.m.State().VM(id); v != nil {
						at = uint64(v.Incarnation)
					}
					near := func(what string) uint64 {
						return rapid.SampledFrom([]uint64{0, 0, at, at, at, max(at, 1) - 1}).Draw(t, what)
					}
					r.Incarnation, r.Refused, r.Failed = near("incarnation"), near("refused"), near("failed")
					vms = append(vms, r)
				}
				report(host, vms)
			},
			"protect": func(t *rapid.T) { b.protect(vmid(rapid.IntRange(1, 4).Draw(t, "vm"))) },
			"control": func(t *rapid.T) {
				id := vmid(rapid.IntRange(1, 4).Draw(t, "vm"))
				b.do(&logpb.Command{Body: &logpb.Command_VmControl{VmControl: &logpb.VMControl{Vm: id[:], Action: uint32(rapid.IntRange(1, 3).Draw(t, "action"))}}})
			},
		})
	})
}

func FuzzCheckVMs(f *testing.F) {
	id := vmid(1)
	good, _ := proto.Marshal(&lifeboatv1.ReportRequest{Vms: []*lifeboatv1.VMReport{{Id: id[:], Name: "a"}, {Id: make([]byte, 16)}}})
	f.Add(good)
	f.Add([]byte{0x32, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r lifeboatv1.ReportRequest
		if proto.Unmarshal(raw, &r) != nil || checkVMs(r.Vms) != nil {
			return
		}
		seen := map[fsm.VMID]bool{}
		for i, v := range r.Vms {
			if len(v.Id) != 16 || len(v.Name) > maxText || seen[fsm.VMID(v.Id)] || i > 0 && byID(r.Vms[i-1], v) >= 0 {
				t.Fatalf("accepted %v", r.Vms)
			}
			seen[fsm.VMID(v.Id)] = true
		}
		// What is accepted can be compared and committed.
		b := newBook()
		b.register("h1")
		s := b.m.State()
		d := exchange.Diff(s, s.Host("h1"), &exchange.Memory{}, &r, 0)
		if d.Changed() {
			d.Report.Epoch, d.Report.Seq = 1, 1
			if no := b.do(&logpb.Command{Body: &logpb.Command_HostReports{HostReports: &logpb.HostReports{Reports: []*logpb.HostReport{d.Report}}}}); no != "" {
				t.Fatal(no)
			}
		}
		if err := b.m.State().Check(); err != nil {
			t.Fatal(err)
		}
	})
}

// A report that is larger than fits is committed in parts, and every part fits.
func TestLargeReportComesInParts(t *testing.T) {
	b := newBook()
	b.register("h1")
	vms := make([]*lifeboatv1.VMReport, 3000)
	for i := range vms {
		vms[i] = &lifeboatv1.VMReport{Id: binary.BigEndian.AppendUint64(make([]byte, 8), uint64(i+1)), Name: strings.Repeat("x", maxText), Power: powerOn, Failed: 1, Failure: strings.Repeat("y", 8*maxText)}
	}
	x := &contact{}
	for seq := uint64(1); ; seq++ {
		s := b.m.State()
		d := exchange.Diff(s, s.Host("h1"), &x.memory, &lifeboatv1.ReportRequest{Seq: seq, Vms: vms}, 0)
		if n := proto.Size(d.Report); n > maxEntry-batchSize {
			t.Fatalf("a part has %d bytes", n)
		}
		if !d.Changed() {
			if d.Partly || s.CountVMs() != len(vms) {
				t.Errorf("it ended with %d of %d VMs", s.CountVMs(), len(vms))
			}
			return
		}
		if seq > 200 {
			t.Fatal("it never ends")
		}
		b.do(&logpb.Command{Body: &logpb.Command_HostReports{HostReports: &logpb.HostReports{Reports: []*logpb.HostReport{d.Report}}}})
	}
}

func TestFits(t *testing.T) {
	sized := func(n int) *pending {
		return &pending{size: n, report: &logpb.HostReport{Missing: make([]byte, n)}}
	}
	for name, c := range map[string]struct {
		queue []*pending
		want  int
	}{
		"one":             {[]*pending{sized(10)}, 1},
		"all":             {[]*pending{sized(1000), sized(1000), sized(1000)}, 3},
		"one too large":   {[]*pending{sized(2 * batchSize), sized(1)}, 1},
		"large at second": {[]*pending{sized(1), sized(2 * batchSize), sized(1)}, 1},
		"cut":             {[]*pending{sized(batchSize / 2), sized(batchSize / 3), sized(batchSize / 2)}, 2},
	} {
		if got := fits(c.queue); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestKnown(t *testing.T) {
	b := newBook()
	b.register("h1")
	good := func() *lifeboatv1.ReportRequest {
		return &lifeboatv1.ReportRequest{HostId: "h1", Epoch: 1, BootId: "boot", Session: "s"}
	}
	if _, err := known(b.m.State(), good()); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*lifeboatv1.ReportRequest){
		"host": func(r *lifeboatv1.ReportRequest) { r.HostId = "h9" }, "epoch": func(r *lifeboatv1.ReportRequest) { r.Epoch = 2 },
		"boot": func(r *lifeboatv1.ReportRequest) { r.BootId = "x" },
	} {
		r := good()
		change(r)
		var again *exchange.RegisterError
		if _, err := known(b.m.State(), r); !errors.As(err, &again) || again.Reason == "" {
			t.Errorf("%s: %v, want to be told to register", name, err)
		}
	}
	r := good()
	r.Session = "x"
	if _, err := known(b.m.State(), r); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("another agent: %v", err)
	}
}

// Leases run only where they prove something (S12).
func TestWantsLease(t *testing.T) {
	b := newBook()
	b.register("h1")
	s := *b.m.State()
	base := *s.Host("h1")
	base.Fence = []fsm.FenceLevel{{Driver: fsm.DriverLease}}
	for name, c := range map[string]struct {
		change func(*fsm.State, *fsm.Host)
		want   bool
	}{
		"all there":      {func(*fsm.State, *fsm.Host) {}, true},
		"disarmed":       {func(s *fsm.State, _ *fsm.Host) { s.Armed = false }, false},
		"no level":       {func(_ *fsm.State, h *fsm.Host) { h.Fence = nil }, false},
		"no watchdog":    {func(_ *fsm.State, h *fsm.Host) { h.Watchdog = fsm.WatchdogNone }, false},
		"soft watchdog":  {func(_ *fsm.State, h *fsm.Host) { h.Watchdog = fsm.WatchdogSoft }, false},
		"bites too late": {func(s *fsm.State, h *fsm.Host) { h.BoundNS = int64(s.Policy.WatchdogBound) + 1 }, false},
	} {
		s, h := s, base
		c.change(&s, &h)
		if got := exchange.WantsLease(&s, &h); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestLeaseChange(t *testing.T) {
	b := newBook()
	b.register("h1")
	s := *b.m.State()
	base := *s.Host("h1")
	base.Fence = []fsm.FenceLevel{{Driver: fsm.DriverLease}}
	const dur, bound = 12 * time.Second, time.Second
	held := &fsm.Lease{Armed: true, BootID: "boot", DurationNS: int64(dur), Watchdog: fsm.WatchdogExternal, BoundNS: int64(bound)}
	say := func(armed bool, d time.Duration, k lifeboatv1.WatchdogKind) *lifeboatv1.ReportRequest {
		return &lifeboatv1.ReportRequest{Lease: &lifeboatv1.Lease{Armed: armed, DurationMs: d.Milliseconds()}, Watchdog: k, WatchdogBoundMs: bound.Milliseconds(), HaveAssignment: 1 << 40}
	}
	const external, none = lifeboatv1.WatchdogKind_WATCHDOG_KIND_EXTERNAL, lifeboatv1.WatchdogKind_WATCHDOG_KIND_UNSPECIFIED
	old := say(true, dur, external)
	old.HaveAssignment = 0 // it may have been told to give the lease up since
	for name, c := range map[string]struct {
		have *fsm.Lease
		req  *lifeboatv1.ReportRequest
		want string
	}{
		"none":           {nil, &lifeboatv1.ReportRequest{}, ""},
		"armed":          {nil, say(true, dur, external), "armed 12s external"},
		"armed of old":   {nil, old, ""},
		"the same":       {held, say(true, dur, external), ""},
		"withdrawn":      {held, say(false, 0, external), "withdrawn"},
		"longer":         {held, say(true, time.Hour, external), ""},
		"shorter":        {held, say(true, 5*time.Second, external), "armed 5s external"},
		"without length": {nil, say(true, 0, external), ""},
		"watchdog lost":  {held, say(true, dur, none), "armed 12s none"},
		"lost and long":  {held, say(true, time.Hour, none), "armed 12s none"},
		"strange kind":   {held, say(true, dur, 77), "armed 12s none"},
	} {
		h := base
		h.Lease = c.have
		got := ""
		switch l := exchange.LeaseChange(&s, &h, c.req); {
		case l == nil:
		case !l.Armed:
			got = "withdrawn"
		default:
			got = fmt.Sprintf("armed %s %s", time.Duration(l.DurationNs), fsm.Watchdog(l.Watchdog))
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// S14: a lease runs from a request that was received before the proposal of the
// newest canary that has committed, and from no later one.
func TestS14LeaseSeqIsProven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newContacts()
		x := c.of("h1", 1)
		arrived := map[uint64]time.Duration{}
		var now, proven time.Duration
		proven = -1
		var seq, granted uint64
		t.Repeat(map[string]func(*rapid.T){
			"report": func(*rapid.T) {
				seq++
				arrived[seq] = now
				x.touch(seq, now)
			},
			"time": func(t *rapid.T) { now += time.Duration(rapid.IntRange(0, 700).Draw(t, "ms")) * time.Millisecond },
			"canary": func(t *rapid.T) {
				proven = max(proven, now-time.Duration(rapid.IntRange(0, 300).Draw(t, "ms"))*time.Millisecond)
				c.committed(proven)
			},
			"late one": func(*rapid.T) { c.committed(proven - time.Second) },
			"": func(t *rapid.T) {
				got := c.leaseSeq(x)
				if got == 0 {
					return
				}
				if arrived[got] >= proven {
					t.Fatalf("request %d arrived at %s, the last commit was proposed at %s", got, arrived[got], proven)
				}
				if got < granted {
					t.Fatalf("granted from %d after %d", got, granted)
				}
				granted = got
			},
		})
		if seq > 0 && seq < maxMarks {
			c.committed(now + 1)
			if got := c.leaseSeq(x); got != seq {
				t.Fatalf("granted from %d of %d after everything was proven", got, seq)
			}
		}
	})
}

func TestSkew(t *testing.T) {
	for name, c := range map[string]struct {
		others []time.Duration
		want   time.Duration
	}{
		"alone":                 {nil, 0},
		"one other":             {[]time.Duration{time.Hour}, 0}, // who is right?
		"one of two others off": {[]time.Duration{0, time.Hour}, 0},
		"we are off":            {[]time.Duration{5 * time.Second, 6 * time.Second}, 5 * time.Second},
		"we are off, behind":    {[]time.Duration{-5 * time.Second, -6 * time.Second}, -5 * time.Second},
		"two of four off":       {[]time.Duration{0, 0, time.Hour, time.Hour}, 0},
		"three others of four":  {[]time.Duration{0, time.Hour, time.Hour}, 0},
	} {
		m := &members{t: &term{node: &Node{cfg: Config{ID: "n1"}}}, offset: map[fsm.NodeID]time.Duration{"n1": time.Minute}}
		for i, o := range c.others {
			m.offset[fsm.NodeID(fmt.Sprint("n", i+2))] = o
		}
		if got := m.skew(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
