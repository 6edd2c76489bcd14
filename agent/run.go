package agent

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"lifeboat/agent/heartbeat"
	"lifeboat/agent/session"
	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/hypervisor"
)

// input is something that happened, to be told to the session by the loop.
type input func(*session.Session, session.Instant) session.Out

// agent is the shell around a session. Its methods run on the loop's goroutine
// unless they say otherwise.
type agent struct {
	cfg   Config
	log   hclog.Logger
	hv    hypervisor.Hypervisor
	files *files
	sess  *session.Session

	ctx     context.Context // ends when the loop has: everything started by it ends too
	wg      sync.WaitGroup
	in      chan input
	clients map[string]lifeboatv1connect.AgentServiceClient

	fences map[fenceKey]context.CancelCauseFunc // jobs at other hosts' power controllers

	reports     uint64                              // number of the report that is out
	protected   atomic.Pointer[[]session.Protected] // of the last assignment, for the soft watchdog
	leaseFailed bool

	beats []*heartbeat.Dir

	manager atomic.Pointer[string] // the address that was talked to last
}

// Run is the agent: see the package comment. It returns nil after a clean stop;
// an error says what an operator must know.
func Run(ctx context.Context, c Config) error {
	c, err := c.withDefaults()
	if err != nil {
		return err
	}
	sc, err := sessionConfig(c)
	if err != nil {
		return err
	}
	files, err := openFiles(c.StateDir, c.RunDir)
	if err != nil {
		return err
	}
	defer files.close()
	saved, err := files.load()
	if err != nil {
		c.Logger.Warn("the lease file cannot be used; the lease is taken to be over", "error", err)
	}
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a := &agent{
		cfg: c, log: c.Logger, hv: c.Hypervisor, files: files, sess: session.New(sc, saved),
		ctx: inner, in: make(chan input), clients: map[string]lifeboatv1connect.AgentServiceClient{},
		fences: map[fenceKey]context.CancelCauseFunc{},
	}
	a.protected.Store(&saved.Ledger.Protected)
	if w, ok := c.Watchdog.(interface{ setKill(func()) }); ok {
		w.setKill(a.killProtected)
	}
	defer a.wg.Wait()
	defer cancel()
	defer c.Watchdog.Close()
	a.wg.Go(a.watch)
	if c.Renew != nil {
		a.wg.Go(func() { c.Renew(inner, a.lastManager) })
	}
	a.beat(sc.BootID)
	if c.Supervisor != nil {
		a.wg.Go(a.pulse)
	}
	return a.loop(ctx.Done())
}

func sessionConfig(c Config) (session.Config, error) {
	boot, err := readID("the boot id", c.BootIDFile)
	if err != nil {
		return session.Config{}, err
	}
	machine, err := readID("the machine id", c.MachineIDFile)
	if err != nil {
		return session.Config{}, err
	}
	hardware := ""
	if c.HardwareIDFile != "" {
		if hardware, err = readID("the hardware id", c.HardwareIDFile); err != nil {
			c.Logger.Info("this machine's system UUID is not known, so that it cannot be compared with what its power controller says", "reason", err)
		}
	}
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return session.Config{}, fmt.Errorf("read random bytes: %w", err)
	}
	seed := c.Seed
	if seed == 0 {
		seed = binary.NativeEndian.Uint64(random[8:])
	}
	sc := session.Config{
		HostID: c.HostID, MachineID: machine, BootID: boot, Session: hex.EncodeToString(random[:8]),
		Version: c.Version, FeatureLevel: FeatureLevel, NodeID: c.NodeID, HardwareID: hardware, ProbeAddrs: c.ProbeAddrs, Labels: c.Labels,
		Watchdog: c.Watchdog.Kind(), Bound: c.Bound,
		PollEvery: c.PollEvery, InventoryEvery: c.InventoryEvery, StopTimeout: c.StopTimeout, Seed: seed,
	}
	for _, addr := range c.Managers {
		sc.Managers = append(sc.Managers, session.Manager{Addr: addr})
	}
	return sc, nil
}

var errDied = errors.New("killed")

// loop is the only goroutine that touches the session.
func (a *agent) loop(stop <-chan struct{}) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	out := a.sess.Boot(a.now())
	for {
		if exit := a.carryOut(out.Actions); exit != nil {
			return exit.Err
		}
		if out.Wake == session.Never {
			timer.Stop()
		} else {
			timer.Reset(max(out.Wake.Sub(a.now()), 0))
		}
		select {
		case f := <-a.in:
			out = f(a.sess, a.now())
		case <-timer.C:
			out = a.sess.Tick(a.now())
		case <-a.cfg.die:
			return errDied
		case <-stop:
			stop = nil
			if a.cfg.Supervisor != nil {
				a.cfg.Supervisor.Stopping()
			}
			a.log.Info("stopping: the managers are told to withdraw the lease, VMs keep running")
			a.start(0, func(ctx context.Context) input {
				machine := a.cfg.MachineStopping(ctx)
				down := lifeboatv1.MachineStop_MACHINE_STOP_SHUTDOWN
				if machine && a.cfg.Rebooting != nil && a.cfg.Rebooting(ctx) {
					down = lifeboatv1.MachineStop_MACHINE_STOP_REBOOT
				}
				return func(s *session.Session, now session.Instant) session.Out {
					if machine {
						return s.GoesDown(now, down)
					}
					return s.Stop(now, false)
				}
			})
			out = a.sess.Tick(a.now())
		}
	}
}

func (a *agent) now() session.Instant { return a.cfg.Clock() }

// start does work on a goroutine of its own, with a deadline unless timeout is
// 0. What it returns is told to the session.
func (a *agent) start(timeout time.Duration, work func(context.Context) input) {
	a.wg.Go(func() {
		ctx := a.ctx
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		if f := work(ctx); f != nil {
			a.tell(f)
		}
	})
}

// tell hands an input to the loop, from any other goroutine. It reports whether
// the loop took it.
func (a *agent) tell(f input) bool {
	select {
	case a.in <- f:
		return true
	case <-a.ctx.Done():
		return false
	}
}

// watch tells the session when to look. It runs on its own goroutine.
func (a *agent) watch() {
	const again = time.Second
	for a.ctx.Err() == nil {
		events, err := a.hv.Watch(a.ctx)
		if err == nil {
			for e := range events {
				a.tell(func(s *session.Session, now session.Instant) session.Out { return s.Look(now, e.UUID) })
			}
			a.tell(func(s *session.Session, now session.Instant) session.Out { return s.Look(now, hypervisor.UUID{}) })
		}
		select {
		case <-time.After(again):
		case <-a.ctx.Done():
		}
	}
}

// killProtected pulls the plug of every protected VM, without the loop: it is
// for when the loop hangs. It runs on the soft watchdog's goroutine.
func (a *agent) killProtected() {
	list := *a.protected.Load()
	a.log.Error("the agent hangs: the soft watchdog stops the protected VMs", "vms", len(list))
	var wg sync.WaitGroup
	for _, p := range list {
		wg.Go(func() {
			if err := a.hv.Stop(a.ctx, p.ID, hypervisor.StopDestroy); err != nil {
				a.log.Error("the soft watchdog could not stop a VM", "uuid", p.ID.String(), "error", err)
			}
		})
	}
	wg.Wait()
}
