package session

import (
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// Limits of the connection.
const (
	registerTimeout = 3 * time.Second
	leaveTimeout    = 5 * time.Second
	sentKept        = 256 // reports whose time of sending is kept
)

type connState struct {
	managers []*manager
	target   *manager
	leader   string   // address, as last told
	refuge   *manager // who answered last, while a better one is tried

	registering bool
	registerSeq uint64
	ticket      uint64 // leave to register; 0: to be asked for

	seq      uint64 // of the last report sent
	firstSeq uint64 // of this epoch
	answered uint64 // newest report of this epoch that was answered
	waiting  bool   // for the answer to seq
	since    Instant
	until    Instant // of the request that is out: it has failed by silence then
	lastSent Instant
	next     Instant // of an unchanged report
	changed  bool    // there is something to say at once
	retryAt  Instant
	fails    int
	aimless  int // answers of the target in a row that nobody leads
	beat     time.Duration

	probes  []*probing
	fences  []*fencing
	leaving bool // Leave is under way
}

func (s *Session) stepConnect() {
	c := &s.conn
	if s.left || c.target == nil || c.registering {
		return
	}
	if s.epoch == 0 {
		if s.poll.tried && s.inv.tried && s.due(c.retryAt) {
			s.register()
		}
		return
	}
	if s.leaving && s.readyToLeave() {
		return
	}
	if c.waiting && s.due(c.since.Add(s.patience())) {
		s.note(Debug, "a manager is silent", "manager", c.target.Addr)
		s.lost()
	}
	if !s.due(c.retryAt) {
		return
	}
	if c.changed && s.due(c.lastSent.Add(coalesce)) || !c.waiting && s.due(c.next) {
		s.report()
	}
}

// register asks for a ticket, and with one registers: what it says then is newer
// than all that this host has said with an older one (S5).
func (s *Session) register() {
	c := &s.conn
	c.registering = true
	c.seq++ // tells the answer from one to an earlier request
	c.registerSeq = c.seq
	c.until = s.now.Add(registerTimeout)
	req := &lifeboatv1.RegisterRequest{HostId: s.cfg.HostID, MachineId: s.cfg.MachineID}
	if c.ticket != 0 {
		req = s.registration()
	}
	s.do(Register{To: c.target.Manager, Seq: c.seq, Req: req, Timeout: registerTimeout})
}

func (s *Session) registration() *lifeboatv1.RegisterRequest {
	s.inv.registered = s.inventory()
	return &lifeboatv1.RegisterRequest{
		HostId:          s.cfg.HostID,
		MachineId:       s.cfg.MachineID,
		BootId:          s.cfg.BootID,
		Session:         s.cfg.Session,
		Version:         s.cfg.Version,
		FeatureLevel:    s.cfg.FeatureLevel,
		ProbeAddrs:      s.cfg.ProbeAddrs,
		Labels:          s.cfg.Labels,
		Watchdog:        s.watchdogKind(),
		WatchdogBoundMs: s.cfg.Bound.Milliseconds(),
		NodeId:          s.cfg.NodeID,
		HardwareId:      s.cfg.HardwareID,
		Inventory:       s.withBeats(s.inv.registered),
		Vms:             s.vmReports(),
		Ticket:          s.conn.ticket,
	}
}

// Registered answers [Register].
func (s *Session) Registered(now Instant, seq uint64, r *lifeboatv1.RegisterResponse) Out {
	s.begin(now)
	c := &s.conn
	if !c.registering || seq != c.registerSeq {
		return s.step()
	}
	switch {
	case r.GetEpoch() == 0 && c.ticket == 0 && r.GetTicket() != 0:
		c.ticket = r.Ticket
		s.register()
		return s.step()
	case r.GetEpoch() == 0:
		s.lost()
		return s.step()
	}
	c.registering, c.ticket = false, 0
	s.unassign()
	s.epoch = r.Epoch
	s.contact(r.BeatMs, r.Managers, r.LeaderAddr)
	c.firstSeq, c.answered = c.seq+1, 0
	s.inv.told, s.inv.offered = s.inv.registered, nil
	c.changed, c.next = true, now
	clear(s.lease.sent)
	for _, v := range s.list {
		v.cameSeq = 0 // told again in this epoch
	}
	s.lease.withdrawn, s.lease.acked = 0, false
	s.note(Info, "registered", "epoch", r.Epoch, "leader", r.LeaderId, "manager", c.target.Addr)
	return s.step()
}

func (s *Session) contact(beatMs int64, list []*lifeboatv1.Manager, leader string) {
	c := &s.conn
	c.fails, c.aimless = 0, 0
	if c.target != nil {
		c.target.failed = false
	}
	if beatMs > 0 {
		c.beat = clampBeat(beatMs)
	}
	s.learned(list)
	s.follow(leader)
}

func (s *Session) report() {
	c := &s.conn
	c.seq++
	if !c.waiting {
		c.waiting, c.since = true, s.now
	}
	c.changed = false
	c.lastSent = s.now
	c.next = s.now.Add(c.beat)
	for _, v := range s.list {
		if v.came && v.cameSeq == 0 {
			v.cameSeq = c.seq
		}
	}
	l := &s.lease
	l.sent[c.seq] = s.now
	delete(l.sent, c.seq-sentKept)
	req := &lifeboatv1.ReportRequest{
		HostId:          s.cfg.HostID,
		Epoch:           s.epoch,
		BootId:          s.cfg.BootID,
		Session:         s.cfg.Session,
		Seq:             c.seq,
		Vms:             s.vmReports(),
		HaveAssignment:  s.assigned.GetIndex(),
		Lease:           s.leaseReport(),
		Term:            s.ledger.Term,
		Probes:          s.probeResults(c.seq),
		Fences:          s.fenceOutcomes(c.seq),
		Problems:        s.problems(),
		Inventory:       s.offerInventory(),
		Watchdog:        s.watchdogKind(),
		WatchdogBoundMs: s.cfg.Bound.Milliseconds(),
		LookedAfterSeq:  s.lookedAfter(),
		MachineStop:     s.machineStop,
		Beats:           s.beats,
	}
	if s.inv.last != nil {
		req.Storages = s.inv.last.Storages
	}
	c.until = c.since.Add(s.patience())
	s.do(Report{To: c.target.Manager, Req: req, Timeout: s.patience()})
}

// Answered answers [Report].
func (s *Session) Answered(now Instant, seq uint64, r *lifeboatv1.ReportResponse) Out {
	s.begin(now)
	c := &s.conn
	if s.epoch == 0 || seq < c.firstSeq || seq > c.seq || r == nil {
		return s.step()
	}
	if r.Term < s.ledger.Term {
		// S14: a leader that was deposed. Nothing it says counts.
		s.note(Warn, "an answer of an old leader is ignored", "leader", r.LeaderId, "term", r.Term, "seen", s.ledger.Term)
		if seq == c.seq {
			s.lost()
		}
		return s.step()
	}
	if r.Term > s.ledger.Term {
		s.ledger.Term = r.Term
		s.dirty = true
		s.endFences(r.Term)
	}
	if seq == c.seq {
		c.waiting = false
	}
	c.since = s.now // the manager lives, and has the newest report too
	if seq == c.seq {
		c.refuge = nil
	}
	s.contact(r.BeatMs, r.Managers, r.LeaderAddr)
	c.next = c.lastSent.Add(c.beat)
	s.heardProbes(seq)
	s.heardFences(seq)
	c.answered = max(c.answered, seq)
	if r.Register {
		s.note(Info, "the managers ask to register again", "reason", r.Reason)
		s.reregister()
		return s.step()
	}
	s.fences(seq, r)
	s.assign(r.Assignment)
	s.inventoryAcked(min(r.AckedSeq, seq))
	s.arrivalsAcked(min(r.AckedSeq, seq))
	if r.MoveOn && seq == c.seq {
		s.moveOn()
	}
	if l := &s.lease; l.withdrawn != 0 && r.AckedSeq >= l.withdrawn && seq >= l.withdrawn {
		l.acked = true
	}
	s.grant(r.LeaseSeq, time.Duration(min(max(r.LeaseMs, 0), int64(24*time.Hour/time.Millisecond)))*time.Millisecond)
	s.wantSpecs(r.WantSpecs)
	s.probe(r.Probes)
	return s.step()
}

// arrivalsAcked: what came by migration up to a report is known to the managers,
// and what they make of it is in the assignment of the same answer.
func (s *Session) arrivalsAcked(seq uint64) {
	for _, v := range s.list {
		if v.cameSeq != 0 && v.cameSeq <= seq {
			v.came = false
		}
	}
}

func (s *Session) reregister() {
	c := &s.conn
	s.unassign()
	c.waiting, c.registering = false, false
	c.retryAt = s.now.Add(s.jitter(c.beat / 4))
	s.inv.tried = s.inv.last != nil && !s.inv.inFlight // an inventory that was read is good enough
}

// Failure is why a manager did not do what it was asked.
type Failure struct {
	Err      error
	Register bool // it answered that it does not know this host
	NoLeader bool // it answered that nobody leads
	Broken   bool // the connection to it broke, or was refused
}

// SendFailed answers [Register], with its Seq, and [Report], with the one of
// its request.
func (s *Session) SendFailed(now Instant, seq uint64, why Failure) Out {
	s.begin(now)
	c := &s.conn
	if seq != c.seq || !c.registering && !c.waiting {
		return s.step()
	}
	s.note(Debug, "a manager did not answer", "manager", c.target.Addr, "error", why.Err)
	if c.fails == len(c.managers) && c.aimless == 0 {
		s.note(Warn, "no manager answers; still trying", "managers", len(c.managers), "error", why.Err)
	}
	wasRegistering := c.registering
	first := c.fails == 0 && c.refuge == nil
	if why.NoLeader && c.refuge == nil && c.aimless+1 < aimlessMax {
		s.wait()
	} else {
		s.lost()
		if first && why.Broken {
			// All agents of that manager have lost it at the same moment: they come to
			// the next one over a beat, but for those that had waited for long already.
			spread := c.beat
			if !wasRegistering {
				spread = min(spread, c.since.Add(c.beat*5/4).Sub(s.now))
			}
			c.retryAt = s.now.Add(s.jitter(max(backoffMin, spread)))
		}
	}
	if why.Register && !wasRegistering {
		s.reregister()
	}
	return s.step()
}
