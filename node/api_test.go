package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/transport"
)

// raw speaks as an agent would that does what the test says.
type raw struct {
	w      *world
	host   string
	client lifeboatv1connect.AgentServiceClient
	epoch  uint64
	seq    uint64
}

func (w *world) raw(host string, at *testNode) *raw {
	w.Helper()
	return w.rawAs(host, host, at)
}

// rawAs shows the certificate of one host and speaks for another.
func (w *world) rawAs(cert, host string, at *testNode) *raw {
	w.Helper()
	c := transport.NewHTTPClient(w.creds(transport.KindHost, cert), transport.ClientOptions{Dial: transport.DialOptions{Dial: transport.DialFunc(w.net.Dialer("raw-" + host))}})
	w.closers = append(w.closers, func() { transport.HangUp(c) })
	return &raw{w: w, host: host, client: lifeboatv1connect.NewAgentServiceClient(c, "https://"+at.cfg.Listen)}
}

func (r *raw) ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 10*time.Second)
}

func (r *raw) register(vms ...*lifeboatv1.VMReport) error {
	return r.registerAs("machine-"+r.host, vms...)
}

func (r *raw) registerAs(machine string, vms ...*lifeboatv1.VMReport) error {
	ctx, cancel := r.ctx()
	defer cancel()
	leave, err := r.client.Register(ctx, connect.NewRequest(&lifeboatv1.RegisterRequest{HostId: r.host, MachineId: machine}))
	if err != nil {
		return err
	}
	resp, err := r.client.Register(ctx, connect.NewRequest(&lifeboatv1.RegisterRequest{
		HostId: r.host, MachineId: machine, BootId: "boot", Session: "session", Version: "test", FeatureLevel: 1,
		Inventory: &lifeboatv1.Inventory{Cpus: 8, MemoryBytes: 64 << 30}, Vms: vms, Ticket: leave.Msg.Ticket,
	}))
	if err == nil {
		r.epoch = resp.Msg.Epoch
	}
	return err
}

func (r *raw) next(vms ...*lifeboatv1.VMReport) *lifeboatv1.ReportRequest {
	r.seq++
	return &lifeboatv1.ReportRequest{HostId: r.host, Epoch: r.epoch, BootId: "boot", Session: "session", Seq: r.seq, Vms: vms}
}

func (r *raw) report(req *lifeboatv1.ReportRequest) (*lifeboatv1.ReportResponse, error) {
	ctx, cancel := r.ctx()
	defer cancel()
	resp, err := r.client.Report(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	return resp.Msg, nil
}

func vmReport(n int, p lifeboatv1.PowerState) *lifeboatv1.VMReport {
	id := vmid(n)
	return &lifeboatv1.VMReport{Id: id[:], Name: fmt.Sprintf("raw%d", n), Power: p}
}

const (
	powerOn  = lifeboatv1.PowerState_POWER_STATE_ON
	powerOff = lifeboatv1.PowerState_POWER_STATE_OFF
)

func wantCode(t *testing.T, what string, err error, want connect.Code, text string) {
	t.Helper()
	if connect.CodeOf(err) != want || !strings.Contains(fmt.Sprint(err), text) {
		t.Errorf("%s: %v, want %s with %q", what, err, want, text)
	}
}

func TestReportsAreRefused(t *testing.T) {
	run(t, 3, func(w *world) {
		l := w.leader()
		for _, at := range []*testNode{l, w.others(l)[0]} { // forwarded ones, too
			wrong := w.rawAs("h1", "h2", at)
			wantCode(t, "register with another host's certificate", wrong.register(), connect.CodePermissionDenied, "host h1")
			_, err := wrong.report(wrong.next())
			wantCode(t, "report with another host's certificate", err, connect.CodePermissionDenied, "host h1")

			h := w.raw("h1", at)
			resp, err := h.report(h.next())
			if err != nil || at == l && (!resp.Register || !strings.Contains(resp.Reason, "not known")) {
				t.Errorf("report of an unknown host: %v, %v; want to be told to register", resp, err)
			}
			w.must(h.register(vmReport(1, powerOn)))

			many := make([]*lifeboatv1.VMReport, maxVMs+1)
			for i := range many {
				many[i] = &lifeboatv1.VMReport{Id: binary.BigEndian.AppendUint64(make([]byte, 8), uint64(i+1)), Power: powerOn}
			}
			long := vmReport(1, powerOn)
			long.Id = append(long.Id, 1)
			for what, vms := range map[string][]*lifeboatv1.VMReport{
				"20001 VMs":    many,
				"not 16":       {long},
				"of 0 bytes":   {{}},
				"twice":        {vmReport(1, powerOn), vmReport(2, powerOn), vmReport(1, powerOff)},
				"is too long":  {{Id: make([]byte, 16), Name: strings.Repeat("x", maxText+1)}},
				"an id of 17 ": {long},
			} {
				_, err := h.report(h.next(vms...))
				wantCode(t, "a report: "+what, err, connect.CodeInvalidArgument, what)
				wantCode(t, "a registration: "+what, h.register(vms...), connect.CodeInvalidArgument, what)
			}
			bad := vmReport(1, powerOn)
			bad.Name = "\xff\xfe"
			if _, err := h.report(h.next(bad)); err == nil {
				t.Error("invalid UTF-8 was taken")
			}
			old := h.next(vmReport(1, powerOff))
			old.Epoch--
			if resp, err := h.report(old); err != nil || !resp.Register || !strings.Contains(resp.Reason, "epoch") {
				t.Errorf("a report of an old epoch: %v, %v", resp, err)
			}
			boot := h.next(vmReport(1, powerOff))
			boot.BootId = "another"
			if resp, err := h.report(boot); err != nil || !resp.Register {
				t.Errorf("a report of another boot: %v, %v", resp, err)
			}
			other := h.next(vmReport(1, powerOff))
			other.Session = "another"
			_, err = h.report(other)
			wantCode(t, "a report of another agent", err, connect.CodeFailedPrecondition, "another agent")
			if v, _ := w.vm(1); v == nil || v.Power != fsm.PowerOn {
				t.Errorf("something refused changed the state: %+v", v)
			}
			if resp, err = h.report(h.next(vmReport(1, powerOn))); err != nil || resp.Register {
				t.Errorf("the next good report: %v, %v", resp, err)
			}
		}
		if !l.leads() {
			t.Error("bad input cost the leader its leadership")
		}
	})
}

// A second machine under the id of a host is told so; the first stays (S11).
func TestSecondMachineIsRefused(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(2, 1, "bmc")
		twin := w.raw("h1", w.leader())
		wantCode(t, "another machine", twin.registerAs("machine-x"), connect.CodeAlreadyExists, "another machine")
		w.stays(4*time.Second, "h1 is Up", w.hostIs("h1", fsm.Up))
		if h := w.state().Host("h1"); h.Epoch != 1 {
			t.Errorf("h1 is in epoch %d", h.Epoch)
		}
	})
}

// A host with as many VMs as are accepted is taken in over a few reports.
// What an agent said when it registered comes twice, the second time from a queue.
func TestLateRegistrationIsRefused(t *testing.T) {
	run(t, 3, func(w *world) {
		h := w.raw("h1", w.leader())
		ctx, cancel := h.ctx()
		defer cancel()
		say := func(boot string, ticket uint64) (*lifeboatv1.RegisterResponse, error) {
			r, err := h.client.Register(ctx, connect.NewRequest(&lifeboatv1.RegisterRequest{HostId: "h1", MachineId: "m1", BootId: boot, Session: boot,
				Inventory: &lifeboatv1.Inventory{Cpus: 8, MemoryBytes: 64 << 30}, Vms: []*lifeboatv1.VMReport{vmReport(1, lifeboatv1.PowerState_POWER_STATE_ON)}, Ticket: ticket}))
			if err != nil {
				return nil, err
			}
			return r.Msg, nil
		}
		ask := func() uint64 {
			r, err := say("", 0)
			if err != nil || r.Epoch != 0 || r.Ticket == 0 {
				t.Fatalf("the first call: %v, %v", r, err)
			}
			return r.Ticket
		}
		old := ask()
		if s := w.leader().n.fsm.State(); s.Host("h1") != nil {
			t.Fatal("the first call registered the host")
		}
		fresh := ask()
		for i, boot := range []string{"b1", "b2"} {
			if r, err := say(boot, fresh); err != nil || r.Epoch != uint64(i+1) {
				t.Fatalf("boot %s: %v, %v", boot, r, err)
			}
			fresh = ask()
		}
		_, err := say("b1", old)
		if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "it must ask again") {
			t.Fatalf("late: %v", err)
		}
		if h := w.leader().n.fsm.State().Host("h1"); h.BootID != "b2" || h.Epoch != 2 {
			t.Fatalf("late: host is in boot %s, epoch %d", h.BootID, h.Epoch)
		}
	})
}

func TestLargestHost(t *testing.T) {
	run(t, 1, func(w *world) {
		l := w.leader()
		h := w.raw("big", l)
		all := make([]*lifeboatv1.VMReport, maxVMs)
		for i := range all {
			all[i] = vmReport(i, powerOn)
			all[i].Id = binary.BigEndian.AppendUint64(make([]byte, 8, 16), uint64(i+1))
			all[i].Name = strings.Repeat("n", 50) + fmt.Sprint(i)
		}
		w.must(h.register(all...))
		for w.state().CountVMs() < maxVMs {
			if h.seq > 20 {
				t.Fatalf("%d VMs after %d reports", w.state().CountVMs(), h.seq)
			}
			if _, err := h.report(h.next(all...)); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("all are in after %d reports", h.seq)
		resp, err := h.report(h.next(all...))
		if err != nil || resp.AckedSeq != h.seq {
			t.Errorf("acknowledged %d of %d, %v", resp.GetAckedSeq(), h.seq, err)
		}
		for i := range all {
			all[i].Power = powerOff
			all[i].Failure = strings.Repeat("f", 4096)[:i%4096]
			all[i].Failed = 7
		}
		if _, err := h.report(h.next(all[:1000]...)); err != nil {
			t.Fatal(err)
		}
		if !l.leads() {
			t.Error("a large report cost the leader its leadership")
		}
	})
}

// A thousand reports of one failure make one alert and one item of work per VM,
// on every replica.
func TestOneFailureReportedAThousandTimes(t *testing.T) {
	run(t, 3, func(w *world) {
		const vms, reports = 3, 1000
		h := w.raw("h1", w.leader())
		on, off := make([]*lifeboatv1.VMReport, vms), make([]*lifeboatv1.VMReport, vms)
		for i := range vms {
			on[i], off[i] = vmReport(i+1, powerOn), vmReport(i+1, powerOff)
		}
		w.must(h.register(on...))
		for i := range vms {
			w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.ProtectVM(ctx, connect.NewRequest(&lifeboatv1.ProtectVMRequest{Vm: on[i].Name, On: true}))
				return err
			}))
			v, _ := w.vm(i + 1)
			off[i].Incarnation, off[i].Reason = uint64(v.Incarnation), lifeboatv1.PowerReason_POWER_REASON_CRASHED
		}
		var all sync.WaitGroup
		var ways []*raw
		for _, n := range w.live() {
			way := w.raw("h1", n)
			ways = append(ways, way)
			way.epoch = h.epoch
			if _, err := way.report(way.next(on...)); err != nil { // connected before the crowd comes
				t.Fatal(err)
			}
		}
		for i := range reports {
			req := h.next(off...)
			if i%100 == 0 {
				req.Seq = 1 // late ones, too
			}
			client := ways[i%len(ways)].client
			all.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				_, _ = client.Report(ctx, connect.NewRequest(req))
			})
		}
		all.Wait()
		time.Sleep(time.Second)
		for _, n := range w.live() {
			s := n.n.fsm.State()
			perVM := map[fsm.VMID]int{}
			for _, x := range s.AllWork() {
				perVM[x.VM]++
			}
			keys := map[fsm.AlertKey]int{}
			for _, a := range s.Alerts() {
				keys[a.Key]++
			}
			if len(perVM) != vms || s.CountOpenWork() != vms {
				t.Errorf("%s: work per VM %v, %d open; want one of each", n.id, perVM, s.CountOpenWork())
			}
			for k, c := range keys {
				if c != 1 {
					t.Errorf("%s: alert %v was raised %d times", n.id, k, c)
				}
			}
		}
	})
}

// A definition that cannot be read, or is too large, is a problem of one VM: the
// others that come with it are taken, and the last good one still starts (S23).
func TestBadDefinitionIsOneVMsProblem(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(3, 3, "bmc")
		h := w.raw("h1", w.leader())
		h.epoch = w.state().Host("h1").Epoch
		spec := func(n int) *lifeboatv1.VMSpec {
			id := vmid(n)
			return &lifeboatv1.VMSpec{Id: id[:], Name: vmName(n), Cpus: 1, MemoryBytes: 1 << 20, Hash: make([]byte, 32)}
		}
		unread, huge, vast, good := spec(1), spec(2), spec(3), spec(3)
		unread.Problem = "it cannot be read"
		huge.Definition = make([]byte, maxDefinition+1)
		for range 40000 {
			vast.Networks = append(vast.Networks, "bridge:0123456789")
		}
		good.Definition, good.Cpus = vmXML(w, 3), 3
		ctx, cancel := h.ctx()
		defer cancel()
		_, err := h.client.PutSpecs(ctx, connect.NewRequest(&lifeboatv1.PutSpecsRequest{HostId: "h1", Epoch: h.epoch, Specs: []*lifeboatv1.VMSpec{unread, huge, vast, good}}))
		w.must(err)
		for i := 1; i <= 2; i++ {
			if v, _ := w.vm(i); v.Spec.Problem == "" || len(v.Spec.Definition()) == 0 {
				t.Errorf("%s: problem %q, definition of %d bytes", v.Name, v.Spec.Problem, len(v.Spec.Definition()))
			}
		}
		if v, _ := w.vm(3); v.Spec.CPUs != 3 || v.Spec.Problem != "" {
			t.Errorf("%s: %+v", v.Name, v.Spec)
		}
		w.hosts["h1"].powerOff()
		w.onceElsewhere(3, 12*time.Second)
	})
}

// The definitions in the log are sealed, and start byte for byte.
func TestDefinitionsAreSealed(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(2, 1, "bmc")
		v, _ := w.vm(1)
		if strings.Contains(string(v.Spec.Definition()), "domain") {
			t.Error("the definition is readable in the state")
		}
		got, err := w.leader().n.sealer.open(v.Spec.Definition(), v.ID[:])
		if err != nil || string(got) != string(vmXML(w, 1)) {
			t.Errorf("it opens to %q, %v", got, err)
		}
		if h := w.state().Host("h1"); len(h.Fence[0].Secret) == 0 || strings.Contains(string(h.Fence[0].Secret), "secret") {
			t.Error("the password of the power controller is readable in the state")
		}
	})
}
