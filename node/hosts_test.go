package node

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"connectrpc.com/connect"

	"lifeboat/agent"
	"lifeboat/agent/session"
	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fence"
	"lifeboat/fsm"
	"lifeboat/hypervisor"
	"lifeboat/hypervisor/domxml"
	"lifeboat/hypervisor/mem"
	"lifeboat/transport"
	"lifeboat/transport/memnet"
)

// testHost is a machine with a hypervisor, an agent, a watchdog and a power
// controller on a network of its own.
type testHost struct {
	w   *world
	id  string
	hv  *mem.Host
	dog *testDog
	cfg agent.Config

	mu   sync.Mutex
	on   bool
	boot int
	// Of the power controller: what it says of its machine, that it reads
	// another machine's power, how long each answer takes, and who waits for one.
	identity string
	crossed  bool
	delay    time.Duration
	waiting  map[*time.Time]bool

	stop   context.CancelFunc
	done   chan error          // nil = no agent runs
	client func() *http.Client // of a run of the agent
}

// testDog is a watchdog that resets the machine; it outlives the agent.
type testDog struct {
	mu    sync.Mutex
	bound time.Duration
	timer *time.Timer
	bite  func()
	bites int
	lost  bool
}

// lose breaks the watchdog for good.
func (d *testDog) lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.disarm()
	d.lost = true
}

func (d *testDog) Kind() lifeboatv1.WatchdogKind {
	return lifeboatv1.WatchdogKind_WATCHDOG_KIND_EXTERNAL
}

func (d *testDog) Arm(bound time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.disarm()
	if d.lost {
		return errors.New("it is broken")
	}
	d.bound = bound
	d.timer = time.AfterFunc(bound, func() {
		d.mu.Lock()
		d.bites++
		d.mu.Unlock()
		d.bite()
	})
	return nil
}

func (d *testDog) Pet() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer == nil {
		return errors.New("not armed")
	}
	d.timer.Reset(d.bound)
	return nil
}

func (d *testDog) disarm() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func (d *testDog) Disarm() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.disarm()
	return nil
}

func (d *testDog) Close() error { return nil }

func bmcAddr(host string) string { return "bmc-" + host + ":623" }

// host adds a machine and starts its agent.
func (w *world) host(id string) *testHost {
	w.Helper()
	h := &testHost{w: w, id: id, on: true, dog: &testDog{}}
	h.dog.bite = h.powerOff
	h.hv = mem.NewHost(mem.Options{Name: id, StartDelay: 200 * time.Millisecond, Storages: []*mem.Storage{w.shared}, OnEvent: h.journal})
	begin := time.Now()
	dir := filepath.Join(w.dir, id)
	w.must(os.MkdirAll(dir, 0o700))
	creds := w.creds(transport.KindHost, id)
	h.client = func() *http.Client {
		return transport.NewHTTPClient(creds, transport.ClientOptions{Dial: transport.DialOptions{Dial: transport.DialFunc(w.net.Dialer(id))}})
	}
	h.cfg = agent.Config{
		HostID: id, Version: "test", Hypervisor: h.hv,
		StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run"),
		BootIDFile: filepath.Join(dir, "boot"), MachineIDFile: filepath.Join(dir, "machine"),
		Fences: fence.NewRegistry(w.bmcKind(id)), Watchdog: h.dog, Bound: 5 * time.Second, StopTimeout: 5 * time.Second,
		Logger:          w.log.Named(id),
		Clock:           func() session.Instant { return session.Instant(time.Since(begin) + time.Hour) },
		Guests:          func() bool { return false },
		MachineStopping: func(context.Context) bool { return false },
	}
	for _, n := range w.nodes {
		h.cfg.Managers = append(h.cfg.Managers, n.cfg.Listen)
	}
	w.must(os.WriteFile(h.cfg.MachineIDFile, []byte("machine-"+id), 0o600))
	h.writeBoot()
	w.hosts[id] = h
	bmc, err := w.net.Listen(bmcAddr(id))
	w.must(err)
	go func() {
		for {
			c, err := bmc.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	h.run()
	return h
}

func (h *testHost) writeBoot() {
	h.w.must(os.WriteFile(h.cfg.BootIDFile, []byte(h.id+"-boot-"+string(rune('a'+h.boot))), 0o600))
}

func (h *testHost) journal(e mem.JournalEntry) {
	if e.Kind == mem.Started {
		h.w.noteBegun(fsm.VMID(e.UUID), h.id)
	}
}

func (w *world) noteBegun(id fsm.VMID, host string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun[id] = append(w.begun[id], begun{host, time.Now()})
}

// run starts the agent.
func (h *testHost) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	h.stop, h.done = cancel, done
	client := h.client()
	h.cfg.Connect = agent.Connect(client)
	go func() {
		err := agent.Run(ctx, h.cfg)
		transport.HangUp(client)
		done <- err
	}()
}

// powerOff cuts the machine's power, now.
func (h *testHost) powerOff() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.on {
		return
	}
	h.on = false
	h.hv.PowerOff()
	h.w.net.Kill(h.id, memnet.PowerLoss)
	_ = h.dog.Disarm()
	h.stop() // what is left of the agent reaches nobody
}

// powerOn boots the machine again.
func (h *testHost) powerOn() {
	_ = h.halt()
	h.mu.Lock()
	h.on = true
	h.boot++
	h.mu.Unlock()
	h.writeBoot()
	h.w.net.Revive(h.id)
	h.hv.PowerOn()
	h.run()
}

// halt stops the agent cleanly, if it runs.
func (h *testHost) halt() error {
	if h.done == nil {
		return nil
	}
	h.stop()
	err := <-h.done
	h.done = nil
	return err
}

func (h *testHost) end() {
	h.w.net.Kill("bmc-"+h.id, memnet.Crash)
	h.powerOff()
	_ = h.halt()
	h.w.must(h.hv.Close())
}

func (h *testHost) powered() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.on
}

// bmc is a power controller as a node reaches it.
type bmc struct {
	h    *testHost
	from string
	addr string
}

func (w *world) bmcKind(from string) fence.Kind {
	return fence.Kind{Name: "bmc", Open: func(t fence.Target) (fence.Driver, error) {
		for _, h := range w.hosts {
			if bmcAddr(h.id) == t.Address {
				return &bmc{h, from, t.Address}, nil
			}
		}
		return nil, errors.New("no such controller")
	}}
}

func (b *bmc) Endpoint() fence.Endpoint { return fence.Endpoint{Driver: "bmc", Address: b.addr} }

func (b *bmc) reach(ctx context.Context) error {
	c, err := b.h.w.net.Dial(ctx, b.from, b.addr)
	if err != nil {
		return fence.Because(fence.Unreachable, "%v", err)
	}
	defer c.Close()
	h, begun := b.h, time.Now()
	h.mu.Lock()
	delay := h.delay
	if h.waiting == nil {
		h.waiting = map[*time.Time]bool{}
	}
	h.waiting[&begun] = true
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.waiting, &begun)
	}()
	if !pause(ctx, delay) {
		return ctx.Err()
	}
	return nil
}

// slow makes each answer of the controller, but for who it is, take so long.
func (h *testHost) slow(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.delay = d
}

// sessions are since when people wait for the controller.
func (h *testHost) sessions() []time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []time.Time
	for at := range h.waiting {
		out = append(out, *at)
	}
	return out
}

func (h *testHost) busy() int { return len(h.sessions()) }

// setHardware gives the machine a system UUID, from the next start of its agent.
func (h *testHost) setHardware(id string) {
	h.cfg.HardwareIDFile = filepath.Join(h.w.dir, h.id, "hardware")
	h.w.must(os.WriteFile(h.cfg.HardwareIDFile, []byte(id+"\n"), 0o600))
}

func (b *bmc) Identity(ctx context.Context) (string, error) {
	b.h.mu.Lock()
	id := b.h.identity
	b.h.mu.Unlock()
	if id == "" {
		id = "serial-of-" + b.h.id
	}
	return id, b.reach(ctx)
}

func (b *bmc) Power(ctx context.Context) (fence.PowerState, error) {
	if err := b.reach(ctx); err != nil {
		return fence.Unknown, err
	}
	b.h.mu.Lock()
	crossed := b.h.crossed
	b.h.mu.Unlock()
	if b.h.powered() && !crossed {
		return fence.On, nil
	}
	return fence.Off, nil
}

func (b *bmc) Off(ctx context.Context) error {
	if err := b.reach(ctx); err != nil {
		return err
	}
	b.h.powerOff()
	return nil
}

func (b *bmc) On(context.Context) error { return errors.New("not here") }

// fence gives a host its fence levels, as an operator does.
func (h *testHost) fence(drivers ...string) {
	h.w.Helper()
	req := &lifeboatv1.SetFenceRequest{Host: h.id}
	for _, d := range drivers {
		s := &lifeboatv1.FenceSpec{Driver: d}
		if d == "bmc" {
			s.Address, s.Password = bmcAddr(h.id), "secret"
		}
		req.Levels = append(req.Levels, s)
	}
	h.w.must(h.w.operator(h.w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
		_, err := c.SetFence(ctx, connect.NewRequest(req))
		return err
	}))
}

func vmid(n int) fsm.VMID { return fsm.VMID{0: 0xaa, 14: byte(n >> 8), 15: byte(n)} }

func vmName(n int) string { return "vm" + string(rune('0'+n/10)) + string(rune('0'+n%10)) }

func vmXML(w *world, n int) []byte {
	x, err := domxml.Template{Name: vmName(n), UUID: hypervisor.UUID(vmid(n)), Disk: "/shared/" + vmName(n) + ".img"}.Render()
	w.must(err)
	return x
}

// runs defines and starts a VM by hand, as its owner did before Lifeboat came.
func (h *testHost) runs(n int) {
	h.w.Helper()
	id := hypervisor.UUID(vmid(n))
	h.w.must(h.hv.Start(context.Background(), hypervisor.StartRequest{UUID: id, XML: vmXML(h.w, n)}))
}

// protect puts a VM under protection, through some node.
func (w *world) protect(n int) {
	w.Helper()
	w.must(w.operator(w.others(nil)[n%len(w.live())], func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
		_, err := c.ProtectVM(ctx, connect.NewRequest(&lifeboatv1.ProtectVMRequest{Vm: vmName(n), On: true}))
		return err
	}))
}

// hostIs is what the leader's state says of a host.
func (w *world) hostIs(id string, want fsm.Status) func() bool {
	return func() bool {
		for _, n := range w.serving() {
			h := n.n.fsm.State().Host(fsm.HostID(id))
			return h != nil && h.Status == want
		}
		return false
	}
}

// vm is a VM and its owner in the newest state.
func (w *world) vm(n int) (*fsm.VM, string) {
	for _, x := range w.serving() {
		if v, h := x.n.fsm.State().VM(vmid(n)); v != nil {
			return v, string(h.ID)
		}
	}
	return nil, ""
}

func (w *world) vmOn(n int, host string) func() bool {
	return func() bool {
		v, on := w.vm(n)
		return v != nil && v.Power == fsm.PowerOn && v.Work == 0 && (host == "" || on == host)
	}
}

// starts are the times a VM began to run since it was first seen.
func (w *world) starts(n int) []begun {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]begun(nil), w.begun[vmid(n)]...)
}

// fleet is hosts h1..hn with fence levels, and VMs 1..vms on the first host,
// all protected and with their definitions in the state.
func (w *world) fleet(hosts, vms int, levels ...string) {
	w.Helper()
	for i := range hosts {
		w.host("h" + string(rune('1'+i)))
	}
	for i := range vms {
		w.hosts["h1"].runs(i + 1)
	}
	for id, h := range w.hosts {
		w.within(10*time.Second, id+" is Up", w.hostIs(id, fsm.Up))
		if len(levels) > 0 {
			h.fence(levels...)
		}
	}
	for i := range vms {
		w.within(5*time.Second, vmName(i+1)+" is seen", w.vmOn(i+1, "h1"))
		w.protect(i + 1)
	}
	for i := range vms {
		w.within(15*time.Second, "the definition of "+vmName(i+1)+" is there", func() bool {
			v, _ := w.vm(i + 1)
			return v != nil && v.Spec != nil && len(v.Spec.Definition()) > 0
		})
	}
}
