package agent

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"lifeboat/agent/session"
	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
	"lifeboat/hypervisor/domxml"
	"lifeboat/hypervisor/mem"
)

const (
	on       = lifeboatv1.PowerState_POWER_STATE_ON
	off      = lifeboatv1.PowerState_POWER_STATE_OFF
	absent   = lifeboatv1.PowerState_POWER_STATE_ABSENT
	starting = lifeboatv1.PowerState_POWER_STATE_STARTING
)

// rig is one host with its agent, in virtual time.
type rig struct {
	*testing.T
	m       *managers
	host    *mem.Host
	dog     *testDog
	cfg     Config
	bootsMu sync.Mutex
	boots   map[hypervisor.UUID]int // times a VM began to run

	stop context.CancelFunc
	die  chan struct{}
	done chan error
}

// testDog is a watchdog that notes when it would have bitten.
type testDog struct {
	mu    sync.Mutex
	kind  lifeboatv1.WatchdogKind
	bound time.Duration
	timer *time.Timer
	bit   time.Time
	pets  int
}

func (d *testDog) Kind() lifeboatv1.WatchdogKind { return d.kind }

func (d *testDog) Arm(bound time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	d.bound = bound
	d.timer = time.AfterFunc(bound, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.bit = time.Now()
	})
	return nil
}

func (d *testDog) Pet() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pets++
	if d.timer != nil {
		d.timer.Reset(d.bound)
	}
	return nil
}

func (d *testDog) Disarm() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	return nil
}

func (d *testDog) Close() error { return nil }

func (d *testDog) armed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.timer != nil
}

func (d *testDog) petted() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pets
}

func (d *testDog) bitten() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.bit.IsZero()
}

func newRig(t *testing.T) *rig {
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	r := &rig{T: t, m: newManagers(), dog: &testDog{kind: lifeboatv1.WatchdogKind_WATCHDOG_KIND_EXTERNAL}, boots: map[hypervisor.UUID]int{}}
	r.host = mem.NewHost(mem.Options{Name: "h1", StartDelay: 300 * time.Millisecond, OnEvent: func(e mem.JournalEntry) {
		if e.Kind == mem.Started {
			r.bootsMu.Lock()
			defer r.bootsMu.Unlock()
			r.boots[e.UUID]++
		}
	}})
	begin := time.Now()
	r.cfg = Config{
		HostID: "h1", Version: "test", Managers: []string{"m1:1", "m2:1", "m3:1"},
		Hypervisor: r.host, Connect: r.m.at,
		StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run"),
		BootIDFile: write("boot", "boot-1\n"), MachineIDFile: write("machine", "machine-1\n"),
		Watchdog: r.dog, Bound: 5 * time.Second, Seed: 7,
		Logger:          hclog.New(&hclog.LoggerOptions{Output: t.Output(), Level: hclog.Debug}),
		Clock:           func() session.Instant { return session.Instant(time.Since(begin)) + session.Instant(time.Hour) },
		Guests:          func() bool { return false },
		MachineStopping: func(context.Context) bool { return false },
	}
	t.Cleanup(func() { r.host.Close() })
	return r
}

func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	r.stop, r.die, r.done = cancel, make(chan struct{}), make(chan error, 1)
	cfg := r.cfg
	cfg.die = r.die
	go func(done chan error) { done <- Run(ctx, cfg) }(r.done)
}

// kill ends the agent as SIGKILL would.
func (r *rig) kill() {
	close(r.die)
	if err := <-r.done; err != errDied {
		r.Errorf("Run = %v", err)
	}
	r.stop()
}

// halt stops the agent cleanly.
func (r *rig) halt() error {
	r.stop()
	return <-r.done
}

// eventually waits in virtual time until ok, and returns how long that took.
func (r *rig) eventually(most time.Duration, what string, ok func() bool) time.Duration {
	r.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > most {
			r.Fatalf("after %s still not: %s", most, what)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
	return time.Since(begin)
}

func (r *rig) power(id hypervisor.UUID, p lifeboatv1.PowerState) func() bool {
	return func() bool { return r.m.report(id).GetPower() == p }
}

func (r *rig) state(id hypervisor.UUID) hypervisor.State {
	ds, err := r.host.Domains(context.Background())
	if err != nil {
		r.Fatal(err)
	}
	for _, d := range ds {
		if d.UUID == id {
			return d.State
		}
	}
	return hypervisor.StateAbsent
}

func (r *rig) registered() bool {
	return locked(r.m, func() bool { return r.m.last != nil && r.m.last.Epoch == r.m.epoch })
}

func (r *rig) begun(id hypervisor.UUID) int {
	r.bootsMu.Lock()
	defer r.bootsMu.Unlock()
	return r.boots[id]
}

func vmID(n byte) hypervisor.UUID { return hypervisor.UUID{0: 0xaa, 15: n} }

func vmXML(t *testing.T, n byte) []byte {
	x, err := domxml.Template{Name: "vm" + string('0'+rune(n)), UUID: vmID(n), Protect: "restart"}.Render()
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestStartIsReportedAsItHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.run()
		r.eventually(3*time.Second, "registered", r.registered)
		r.m.start(vmID(1), "vm1", vmXML(t, 1), 8)
		took := r.eventually(3*time.Second, "vm1 is reported on", r.power(vmID(1), on))
		if took > time.Second {
			t.Errorf("start to report took %s", took)
		}
		r.m.mu.Lock()
		if got := r.m.powers[vmID(1)]; len(got) < 2 || !slices.Equal(got[len(got)-2:], []lifeboatv1.PowerState{starting, on}) || slices.Contains(got, off) {
			t.Errorf("reported %v, want starting, then on, at the end", got)
		}
		r.m.mu.Unlock()
		if got := r.m.report(vmID(1)).Incarnation; got != 8 {
			t.Errorf("reported incarnation %d, want 8", got)
		}
		if err := r.halt(); err != nil {
			t.Errorf("clean stop: %v", err)
		}
		if r.m.left == nil || r.state(vmID(1)) != hypervisor.StateRunning {
			t.Errorf("after a clean stop: goodbye %v, VM %s; want a goodbye and a running VM", r.m.left, r.state(vmID(1)))
		}
	})
}

func TestFailedStartIsReportedAndLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.host.FailStarts(vmID(1), -1, nil)
		r.run()
		r.eventually(3*time.Second, "registered", r.registered)
		r.m.start(vmID(1), "vm1", vmXML(t, 1), 8)
		r.eventually(5*time.Second, "the failure is reported", func() bool { return r.m.report(vmID(1)).GetFailed() == 8 })
		got := r.m.report(vmID(1))
		if got.Failure == "" || got.Power != absent || r.state(vmID(1)) != hypervisor.StateAbsent {
			t.Errorf("reported %v; the domain is %s", got, r.state(vmID(1)))
		}
		if err := r.halt(); err != nil {
			t.Error(err)
		}
	})
}

// A lease that is not renewed stops the protected VMs, and nothing else, before
// the managers may count on it (S12, S13).
func TestLeaseRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.m.lease = 10 * time.Second
		if err := r.host.Define(vmXML(t, 2), false); err != nil {
			t.Fatal(err)
		}
		r.run()
		r.eventually(3*time.Second, "registered", r.registered)
		r.eventually(3*time.Second, "a lease is held", func() bool { return locked(r.m, func() bool { return r.m.leased > 1 }) })
		r.m.start(vmID(1), "vm1", vmXML(t, 1), 8)
		r.eventually(3*time.Second, "vm1 is on", r.power(vmID(1), on))
		r.eventually(40*time.Second, "a minute of quiet", func() bool { return r.dog.petted() > 30 })
		if r.state(vmID(1)) != hypervisor.StateRunning {
			t.Fatal("vm1 did not survive a renewed lease")
		}
		r.m.change(func() { r.m.down = map[string]bool{"m1:1": true, "m2:1": true, "m3:1": true} })
		took := r.eventually(12*time.Second, "vm1 is stopped", func() bool { return !r.state(vmID(1)).Active() })
		if took > 10*time.Second || took < 8*time.Second {
			t.Errorf("vm1 was stopped after %s with a lease of 10 s", took)
		}
		time.Sleep(20 * time.Second)
		if r.dog.bitten() {
			t.Error("the watchdog bit although every protected VM was verified off")
		}
		r.m.change(func() { r.m.down = map[string]bool{} })
		r.eventually(5*time.Second, "the reason is reported", func() bool {
			return r.m.report(vmID(1)).GetReason() == lifeboatv1.PowerReason_POWER_REASON_SELF_FENCED && r.m.report(vmID(1)).GetPower() == off
		})
		if err := r.halt(); err != nil {
			t.Error(err)
		}
		if r.dog.armed() {
			t.Error("a clean stop left the watchdog armed")
		}
	})
}

// VMs that cannot be stopped when the lease is over take the machine with them.
func TestWatchdogBitesWhenHypervisorHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.m.lease = 10 * time.Second
		r.run()
		r.eventually(3*time.Second, "registered", r.registered)
		r.eventually(3*time.Second, "a lease is held", func() bool { return locked(r.m, func() bool { return r.m.leased > 1 }) })
		r.m.start(vmID(1), "vm1", vmXML(t, 1), 8)
		r.eventually(3*time.Second, "vm1 is on", r.power(vmID(1), on))
		r.host.SetFrozen(true)
		r.m.change(func() { r.m.down = map[string]bool{"m1:1": true, "m2:1": true, "m3:1": true} })
		took := r.eventually(20*time.Second, "the watchdog bites", r.dog.bitten)
		if took > 15*time.Second {
			t.Errorf("the watchdog bit after %s; lease 10 s, bound 5 s", took)
		}
		r.host.SetFrozen(false)
		r.kill()
	})
}

// The order of a clean stop: the managers first, then the watchdog (S16).
func TestCleanStopWithdrawsLeaseFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.m.lease = 10 * time.Second
		r.run()
		r.eventually(5*time.Second, "armed", r.dog.armed)
		r.eventually(3*time.Second, "a lease is held", func() bool { return locked(r.m, func() bool { return r.m.leased > 1 }) })
		was := false
		r.m.change(func() { r.m.onLeave = func() { was = r.dog.armed() } })
		if err := r.halt(); err != nil {
			t.Fatal(err)
		}
		if !was || r.dog.armed() {
			t.Errorf("watchdog armed at the goodbye: %v, after it: %v; want true, false", was, r.dog.armed())
		}
		b, err := os.ReadFile(filepath.Join(r.cfg.RunDir, session.LeaseFile))
		if err != nil {
			t.Fatal(err)
		}
		if h, err := session.DecodeHeld(b); err != nil || h.Armed {
			t.Errorf("lease file after a clean stop: %+v, %v; want not armed", h, err)
		}
	})
}

func TestStopWithoutManagersKeepsWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.m.lease = 100 * time.Second
		r.run()
		r.eventually(5*time.Second, "armed", r.dog.armed)
		r.m.change(func() { r.m.down = map[string]bool{"m1:1": true, "m2:1": true, "m3:1": true} })
		err := r.halt()
		if err == nil || !strings.Contains(err.Error(), "watchdog") || !r.dog.armed() {
			t.Errorf("stop without managers: %v, watchdog armed %v; want an error and an armed watchdog", err, r.dog.armed())
		}
		_ = r.dog.Disarm()
	})
}

// A dead manager is left for another within the beats that detection allows.
func TestManagerFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.m.down["m1:1"], r.m.down["m2:1"] = true, true
		r.run()
		r.eventually(10*time.Second, "registered", r.registered)
		r.m.change(func() { r.m.down = map[string]bool{"m1:1": true, "m3:1": true} })
		seq := locked(r.m, func() uint64 { return r.m.last.Seq })
		r.eventually(12*time.Second, "reports through m2", func() bool { return locked(r.m, func() bool { return r.m.last.Seq > seq+2 }) })
		if err := r.halt(); err != nil {
			t.Error(err)
		}
	})
}

// Killed at any moment and started again: one start, one running VM.
func TestKilledDuringStart(t *testing.T) {
	for _, at := range []time.Duration{0, 1, 50 * time.Millisecond, 299 * time.Millisecond, 301 * time.Millisecond, 500 * time.Millisecond} {
		t.Run(at.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.run()
				r.eventually(3*time.Second, "registered", r.registered)
				r.m.start(vmID(1), "vm1", vmXML(t, 1), 8)
				time.Sleep(at)
				r.kill()
				r.run()
				id := vmID(1)
				r.eventually(20*time.Second, "an outcome is reported", func() bool {
					v := r.m.report(id)
					r.m.mu.Lock()
					defer r.m.mu.Unlock()
					if r.m.epoch > 1 && len(r.m.orders) == 0 && v.GetFailed() < 8 && v.GetPower() != on {
						// The order is still in the state: it is made anew for the new epoch.
						def := hypervisor.NewDefinition(id, vmXML(t, 1), true)
						m := r.m
						m.orders = []*lifeboatv1.Order{{Id: m.index + 1, Kind: lifeboatv1.OrderKind_ORDER_KIND_START, Vm: id[:], Incarnation: 8, Epoch: m.epoch, BootId: m.boot, Definition: def.XML, DefinitionHash: def.Hash[:]}}
						m.index++
					}
					return v.GetPower() == on && v.Incarnation == 8 || v.GetFailed() == 8
				})
				if r.begun(id) > 1 {
					t.Errorf("vm1 was started %d times", r.begun(id))
				}
				if v := r.m.report(id); (v.Power == on) != (r.state(id) == hypervisor.StateRunning) {
					t.Errorf("reported %v, it is %s", v, r.state(id))
				}
				if err := r.halt(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestDamagedLedgerStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		if err := os.MkdirAll(r.cfg.StateDir, 0o700); err != nil {
			t.Fatal(err)
		}
		ledger := filepath.Join(r.cfg.StateDir, session.LedgerFile)
		if err := os.WriteFile(ledger, []byte("lifeboat-ledger 1 crc32c=00000000\n{}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r.run()
		r.eventually(3*time.Second, "registered", r.registered)
		r.m.start(vmID(1), "vm1", vmXML(t, 1), 8)
		time.Sleep(20 * time.Second)
		if n := r.begun(vmID(1)); n != 0 {
			t.Errorf("started %d times with a ledger that cannot be read", n)
		}
		if ps := locked(r.m, func() []*lifeboatv1.Problem { return r.m.last.Problems }); len(ps) == 0 || ps[0].Part != "ledger" {
			t.Errorf("problems reported: %v", ps)
		}
		if err := r.halt(); err != nil {
			t.Error(err)
		}
		if b, _ := os.ReadFile(ledger); !strings.Contains(string(b), "00000000") {
			t.Error("the damaged ledger was written over")
		}
	})
}

func TestSecondAgentIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.run()
		r.eventually(3*time.Second, "registered", r.registered)
		if err := Run(t.Context(), r.cfg); err == nil || !strings.Contains(err.Error(), "another agent") {
			t.Errorf("a second agent: %v", err)
		}
		if err := r.halt(); err != nil {
			t.Error(err)
		}
	})
}

func TestSpecsAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		if err := r.host.Define(vmXML(t, 1), false); err != nil {
			t.Fatal(err)
		}
		r.run()
		r.eventually(3*time.Second, "registered", r.registered)
		r.eventually(3*time.Second, "the hash is reported", func() bool { return len(r.m.report(vmID(1)).GetSpecHash()) == 32 })
		id := vmID(1)
		r.m.change(func() { r.m.wants = [][]byte{id[:]} })
		r.eventually(5*time.Second, "the spec is there", func() bool { return locked(r.m, func() bool { return r.m.specs[id] != nil }) })
		s := locked(r.m, func() *lifeboatv1.VMSpec { return r.m.specs[id] })
		if !slices.Equal(s.Hash, r.m.report(id).SpecHash) || s.Name != "vm1" || s.Cpus != 1 || !s.Protect.GetOn() || s.Protect.Ha != "restart" || string(s.Definition) != string(vmXML(t, 1)) {
			t.Errorf("spec = %v", s)
		}
		if err := r.halt(); err != nil {
			t.Error(err)
		}
	})
}
