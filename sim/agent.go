package sim

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"lifeboat/agent/session"
	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/hypervisor"
	"lifeboat/sim/scenario"
)

// agent is the shell around one host's session. It mirrors package agent.
type agent struct {
	sess   *session.Session
	runs   bool
	proc   int // raised by every start and end of the process
	wake   int
	report int
	ledger *session.Ledger // as it is on disk
	held   session.Held    // survives the process, not the machine
}

// restartAfter is how soon systemd starts a crashed agent again.
const restartAfter = 2 * time.Second

func (h *host) now() session.Instant { return session.Instant(h.clock()) }

func (h *host) bootID() string { return fmt.Sprintf("%s-boot-%d", h.name, h.boot) }

// start begins a process of the agent.
func (a *agent) start(h *host) {
	if a.runs || !h.running() {
		return
	}
	a.runs = true
	a.proc++
	saved := session.Saved{Held: a.held}
	if a.ledger != nil {
		// Through the bytes of the file: what does not survive them is lost.
		b, err := session.EncodeLedger(*a.ledger)
		if err == nil {
			saved.Ledger, err = session.DecodeLedger(b)
		}
		saved.LedgerErr = err
	}
	cfg := session.Config{
		HostID: h.name, MachineID: "machine-" + h.name, BootID: h.bootID(), Session: fmt.Sprintf("%s-%d", h.name, a.proc),
		Version: "sim", FeatureLevel: fsm.LevelMigrates, ProbeAddrs: []string{h.name + ":22"}, Seed: h.w.rng.Uint64(),
	}
	for _, l := range h.spec.Labels {
		cfg.Labels = append(cfg.Labels, &lifeboatv1.Label{Key: l.Key, Value: l.Value})
	}
	for _, m := range h.w.managers {
		cfg.Managers = append(cfg.Managers, session.Manager{ID: m.name, Addr: m.name})
		if m.on == h {
			cfg.NodeID = m.name
		}
	}
	switch h.spec.Watchdog {
	case scenario.WatchdogHard:
		cfg.Watchdog, cfg.Bound = lifeboatv1.WatchdogKind_WATCHDOG_KIND_HARDWARE, watchdogBound
	case scenario.WatchdogSoft:
		cfg.Watchdog, cfg.Bound = lifeboatv1.WatchdogKind_WATCHDOG_KIND_SOFT, watchdogBound
	}
	a.sess = session.New(cfg, saved)
	a.take(h, a.sess.Boot(h.now()))
	a.beats(h)
}

// gone is the end of the process, however it came.
func (a *agent) gone() {
	a.runs = false
	a.proc++
}

// stop is a clean stop.
func (a *agent) stop(h *host) {
	a.tell(h, func(s *session.Session, now session.Instant) session.Out { return s.Stop(now, false) })
}

// goesDown is a stop because the machine goes down as a whole.
func (a *agent) goesDown(h *host, again bool) {
	stop := lifeboatv1.MachineStop_MACHINE_STOP_SHUTDOWN
	if again {
		stop = lifeboatv1.MachineStop_MACHINE_STOP_REBOOT
	}
	a.tell(h, func(s *session.Session, now session.Instant) session.Out { return s.GoesDown(now, stop) })
}

// kill is a crash, which systemd mends.
func (a *agent) kill(h *host) {
	if !a.runs {
		return
	}
	a.gone()
	h.here(restartAfter, func() {
		if !h.stopping {
			a.start(h)
		}
	})
}

type input func(*session.Session, session.Instant) session.Out

// tell gives the session an input now, or when the machine thaws.
func (a *agent) tell(h *host, in input) {
	h.rouse()
	if h.frozen {
		proc := a.proc
		h.backlog = append(h.backlog, func() { a.answer(h, proc, in) })
		return
	}
	a.answer(h, a.proc, in)
}

func (a *agent) answer(h *host, proc int, in input) {
	if a.proc == proc && a.runs && !h.w.done {
		a.take(h, in(a.sess, h.now()))
	}
}

// later gives the session of this process an input after a while.
func (a *agent) later(h *host, d time.Duration, in input) {
	proc := a.proc
	h.here(d, func() { a.answer(h, proc, in) })
}

// beat is later for what happens when nothing changes.
func (a *agent) beat(h *host, d time.Duration, in input) {
	proc := a.proc
	h.onBoot(d, true, func() { a.answer(h, proc, in) })
}

// take carries out what the session wants, in order.
func (a *agent) take(h *host, out session.Out) {
	a.wake++
	wake, proc := a.wake, a.proc
	for _, x := range out.Actions {
		if a.proc != proc {
			return
		}
		if !routine(x) {
			h.news = h.w.now
		}
		a.carryOut(h, x)
	}
	if out.Wake != session.Never && a.proc == proc && a.wake == wake {
		h.onBoot(time.Duration(out.Wake)-h.clock(), true, func() {
			if a.wake == wake {
				a.answer(h, proc, func(s *session.Session, now session.Instant) session.Out { return s.Tick(now) })
			}
		})
	}
}

// routine reports whether an agent does this though nothing changes.
func routine(x session.Action) bool {
	switch x := x.(type) {
	case session.Poll, session.ReadInventory, session.ReadHashes, session.Report, session.SaveLease, session.PetWatchdog:
		return true
	case session.Note:
		return x.Level < session.Warn
	}
	return false
}

func (a *agent) carryOut(h *host, x session.Action) {
	proc := a.proc
	op := func(id hypervisor.UUID) func(error) {
		return func(err error) {
			a.later(h, 0, func(s *session.Session, now session.Instant) session.Out {
				return s.OpDone(now, session.OpResult{ID: id, Err: err})
			})
		}
	}
	switch x := x.(type) {
	case session.Poll:
		a.poll(h, x)
	case session.ReadInventory:
		inv, err := h.inventory(), error(nil)
		if !h.libvirt {
			err = errLibvirt
		}
		a.beat(h, listTime, func(s *session.Session, now session.Instant) session.Out {
			return s.InventoryRead(now, inv, false, err)
		})
	case session.ReadHashes:
		a.hashes(h, x)
	case session.Register:
		a.register(h, x)
	case session.Report:
		a.sendReport(h, x)
	case session.PutSpecs:
		a.putSpecs(h, x)
	case session.Leave:
		h.w.ask(h, x.To.Addr, x.Timeout, x.Req, h.back(proc, func(s *session.Session, now session.Instant, r response) session.Out {
			return s.Left(now, r.register, r.err)
		}))
	case session.Probe:
		a.probe(h, x.Req)
	case session.StartVM:
		h.startVM(x, op(x.ID))
	case session.StopVM:
		h.stopVM(x.ID, x.Mode, op(x.ID))
	case session.RemoveVM:
		h.removeVM(x.ID, op(x.ID))
	case session.ResumeVM:
		h.resumeVM(x.ID, op(x.ID))
	case session.ClearAutostart:
		h.here(adjustTime, func() { op(x.ID)(nil) })
	case session.MigrateVM:
		h.migrateVM(x, func(err error) {
			a.later(h, 0, func(s *session.Session, now session.Instant) session.Out {
				return s.MigrateDone(now, x.ID, x.Order, err)
			})
		})
	case session.AskGuest:
		h.askGuest(x.ID, func(err error) {
			a.later(h, 0, func(s *session.Session, now session.Instant) session.Out { return s.GuestAsked(now, x.ID, err) })
		})
	case session.AbortMigration:
		h.abortMigration(x.ID, func(err error) {
			a.later(h, 0, func(s *session.Session, now session.Instant) session.Out { return s.AbortDone(now, x.ID, err) })
		})
	case session.Persist:
		a.persist(h, x)
	case session.SaveLease:
		a.held = x.Held
	case session.ArmWatchdog:
		var err error
		if h.spec.Watchdog == scenario.WatchdogNone {
			err = errors.New("there is no watchdog")
		} else {
			h.dog.arm(h, x.Bound)
		}
		a.later(h, listTime, func(s *session.Session, now session.Instant) session.Out { return s.WatchdogDone(now, err) })
	case session.DisarmWatchdog:
		h.dog.disarm()
		a.later(h, listTime, func(s *session.Session, now session.Instant) session.Out { return s.WatchdogDone(now, nil) })
	case session.PetWatchdog:
		h.dog.pet(h)
	case session.Note:
		if x.Level >= session.Warn {
			h.note("agent of %s: %s%s", h.name, x.Message, pairs(x.Args))
		}
	case session.Exit:
		a.gone()
	}
}

func pairs(args []any) string {
	out := ""
	for i := 0; i+1 < len(args); i += 2 {
		out += fmt.Sprintf(" %v=%v", args[i], args[i+1])
	}
	return out
}

func (a *agent) poll(h *host, x session.Poll) {
	if !h.libvirt {
		a.later(h, listTime, func(s *session.Session, now session.Instant) session.Out { return s.Polled(now, x.ID, nil, errLibvirt) })
		return
	}
	list := h.list()
	a.beat(h, listTime, func(s *session.Session, now session.Instant) session.Out { return s.Polled(now, x.ID, list, nil) })
}

func (a *agent) hashes(h *host, x session.ReadHashes) {
	got := map[hypervisor.UUID][32]byte{}
	for _, id := range x.VMs {
		if d := h.domains[id]; d != nil && h.libvirt {
			got[id] = sha256.Sum256(d.definition())
		}
	}
	a.beat(h, listTime, func(s *session.Session, now session.Instant) session.Out { return s.HashesRead(now, x.VMs, got) })
}

// writeTime is how long the ledger takes to be on disk.
const writeTime = 2 * time.Millisecond

func (a *agent) persist(h *host, x session.Persist) {
	proc := a.proc
	h.here(writeTime, func() {
		if a.proc != proc {
			return // it died before the file was in place
		}
		a.ledger = &x.Ledger
		a.answer(h, proc, func(s *session.Session, now session.Instant) session.Out { return s.Persisted(now, x.Version, nil) })
	})
}

// probeTimeout is how long the agent waits for a peer.
const probeTimeout = 1500 * time.Millisecond

// probe looks whether a peer's machine answers.
func (a *agent) probe(h *host, q *lifeboatv1.Probe) {
	r := &lifeboatv1.ProbeResult{HostId: q.HostId, Nonce: q.Nonce}
	wait := probeTimeout
	p := h.w.byHost[q.HostId]
	if p != nil && h.w.talk(h, p) && !p.frozen {
		wait = 2 * h.w.latency()
		r.Verdict, r.Detail = lifeboatv1.ProbeVerdict_PROBE_VERDICT_ALIVE, p.name+":22 answers"
	} else {
		r.Detail = "no answer"
		r.Beats = h.readBeats(p, q)
	}
	a.later(h, wait, func(s *session.Session, now session.Instant) session.Out { return s.Probed(now, r) })
}

// back hands a manager's answer to the process that asked.
func (h *host) back(proc int, in func(*session.Session, session.Instant, response) session.Out) func(response) {
	return func(r response) {
		h.onBoot(0, r.err == nil, func() {
			h.agent.answer(h, proc, func(s *session.Session, now session.Instant) session.Out { return in(s, now, r) })
		})
	}
}

func (a *agent) register(h *host, x session.Register) {
	h.w.ask(h, x.To.Addr, x.Timeout, x.Req, h.back(a.proc, func(s *session.Session, now session.Instant, r response) session.Out {
		if r.err != nil {
			return s.SendFailed(now, x.Seq, r.failure())
		}
		return s.Registered(now, x.Seq, r.msg.(*lifeboatv1.RegisterResponse))
	}))
}

// sendReport replaces the report that is still out.
func (a *agent) sendReport(h *host, x session.Report) {
	a.report++
	n := a.report
	h.w.ask(h, x.To.Addr, x.Timeout, x.Req, h.back(a.proc, func(s *session.Session, now session.Instant, r response) session.Out {
		switch {
		case r.err == nil && n == a.report:
			return s.Answered(now, x.Req.Seq, r.msg.(*lifeboatv1.ReportResponse))
		case n == a.report:
			return s.SendFailed(now, x.Req.Seq, r.failure())
		}
		return s.Tick(now)
	}))
}

func (a *agent) putSpecs(h *host, x session.PutSpecs) {
	req := &lifeboatv1.PutSpecsRequest{HostId: h.name, Epoch: x.Epoch}
	for _, id := range x.VMs {
		d := h.domains[id]
		if d == nil || !h.libvirt {
			continue
		}
		req.Specs = append(req.Specs, h.specOf(d))
	}
	h.w.ask(h, x.To.Addr, x.Timeout, req, h.back(a.proc, func(s *session.Session, now session.Instant, r response) session.Out {
		return s.SpecsPut(now, r.err)
	}))
}
