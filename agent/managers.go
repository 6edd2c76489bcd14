package agent

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"lifeboat/agent/session"
	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/hypervisor"
)

// client returns the one client for an address.
func (a *agent) client(m session.Manager) lifeboatv1connect.AgentServiceClient {
	a.manager.Store(&m.Addr)
	c := a.clients[m.Addr]
	if c == nil {
		c = a.cfg.Connect(m.Addr)
		a.clients[m.Addr] = c
	}
	return c
}

// lastManager is where the newest message went. Any goroutine may ask.
func (a *agent) lastManager() string {
	if addr := a.manager.Load(); addr != nil {
		return *addr
	}
	return ""
}

// mustRegister: the manager answered that it does not know this epoch.
func mustRegister(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeNotFound, connect.CodeFailedPrecondition:
		return true
	}
	return false
}

// NobodyLeads tells the answer of a node that lives and knows of no leader from every
// other failure. Any goroutine may ask.
func NobodyLeads(err error) bool {
	var answered *connect.Error
	return errors.As(err, &answered) && connect.IsWireError(err) && answered.Meta().Get(lifeboatv1.HeaderNoLeader) != ""
}

// failure sorts what a session needs to know of an error.
func failure(err error) session.Failure {
	return session.Failure{
		Err:      err,
		NoLeader: NobodyLeads(err),
		Broken:   connect.CodeOf(err) == connect.CodeUnavailable && !connect.IsWireError(err),
	}
}

func (a *agent) register(x session.Register) {
	client := a.client(x.To)
	a.start(x.Timeout, func(ctx context.Context) input {
		resp, err := client.Register(ctx, connect.NewRequest(x.Req))
		return func(s *session.Session, now session.Instant) session.Out {
			if err != nil {
				a.refused(x.To, err)
				return s.SendFailed(now, x.Seq, failure(err))
			}
			return s.Registered(now, x.Seq, resp.Msg)
		}
	})
}

// refused says why a manager will not have this host, which no retry changes.
func (a *agent) refused(m session.Manager, err error) {
	switch connect.CodeOf(err) {
	case connect.CodePermissionDenied, connect.CodeUnauthenticated, connect.CodeAlreadyExists, connect.CodeInvalidArgument:
		a.log.Error("a manager refuses this host; trying on", "manager", m.Addr, "error", err)
	}
}

// report sends a report beside those that are still out. Only the failure of
// the newest one says something.
func (a *agent) report(x session.Report) {
	a.reports++
	n, client := a.reports, a.client(x.To)
	a.start(x.Timeout, func(ctx context.Context) input {
		resp, err := client.Report(ctx, connect.NewRequest(x.Req))
		return func(s *session.Session, now session.Instant) session.Out {
			switch {
			case err == nil:
				return s.Answered(now, x.Req.Seq, resp.Msg)
			case n == a.reports:
				f := failure(err)
				f.Register = mustRegister(err)
				return s.SendFailed(now, x.Req.Seq, f)
			}
			return s.Tick(now)
		}
	})
}

func (a *agent) leave(x session.Leave) {
	client := a.client(x.To)
	a.start(x.Timeout, func(ctx context.Context) input {
		_, err := client.Leave(ctx, connect.NewRequest(x.Req))
		return func(s *session.Session, now session.Instant) session.Out { return s.Left(now, mustRegister(err), err) }
	})
}

func (a *agent) putSpecs(x session.PutSpecs) {
	client, storages := a.client(x.To), a.sess.Storages()
	a.start(x.Timeout, func(ctx context.Context) input {
		req := &lifeboatv1.PutSpecsRequest{HostId: a.cfg.HostID, Epoch: x.Epoch}
		for _, id := range x.VMs {
			def, err := a.hv.Definition(ctx, id)
			switch {
			case errors.Is(err, hypervisor.ErrNotFound):
			case errors.Is(err, hypervisor.ErrUnavailable): // asked for again
			case err != nil:
				req.Specs = append(req.Specs, session.MissingSpec(id, err))
			default:
				req.Specs = append(req.Specs, session.Spec(def, storages))
			}
		}
		var err error
		if len(req.Specs) > 0 {
			_, err = client.PutSpecs(ctx, connect.NewRequest(req))
		}
		return func(s *session.Session, now session.Instant) session.Out { return s.SpecsPut(now, err) }
	})
}

const (
	probeTimeout = 1500 * time.Millisecond // less than the policy's investigate, so that a "no" arrives
	beatTimeout  = 1400 * time.Millisecond // sees a beat or two
	maxAddrs     = 8
)

// probe looks whether a peer lives. Only an answer of the machine itself says
// something; silence says nothing (S20).
func (a *agent) probe(ctx context.Context, p *lifeboatv1.Probe) input {
	// A host that answers needs no other sign of life.
	looking, enough := context.WithTimeout(ctx, beatTimeout)
	defer enough()
	beats := make(chan []*lifeboatv1.BeatSeen, 1)
	go func() { beats <- a.readBeats(looking, p) }()
	r := dial(ctx, p)
	if r.Verdict != lifeboatv1.ProbeVerdict_PROBE_VERDICT_UNSPECIFIED {
		enough()
		<-beats
	} else {
		r.Beats = <-beats
	}
	return func(s *session.Session, now session.Instant) session.Out { return s.Probed(now, r) }
}

// dial tries all addresses of a host at once.
func dial(ctx context.Context, p *lifeboatv1.Probe) *lifeboatv1.ProbeResult {
	r := &lifeboatv1.ProbeResult{HostId: p.HostId, Nonce: p.Nonce}
	addrs := p.Addrs[:min(len(p.Addrs), maxAddrs)]
	answers := make(chan *lifeboatv1.ProbeResult, len(addrs))
	for _, addr := range addrs {
		go func() { answers <- dialProbe(ctx, addr) }()
	}
	for range addrs {
		if one := <-answers; one.Verdict != lifeboatv1.ProbeVerdict_PROBE_VERDICT_UNSPECIFIED || r.Detail == "" {
			r.Verdict, r.Detail = one.Verdict, one.Detail
		}
		if r.Verdict == lifeboatv1.ProbeVerdict_PROBE_VERDICT_ALIVE {
			break
		}
	}
	return r
}

func dialProbe(ctx context.Context, addr string) *lifeboatv1.ProbeResult {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	switch {
	case err == nil:
		conn.Close()
		return &lifeboatv1.ProbeResult{Verdict: lifeboatv1.ProbeVerdict_PROBE_VERDICT_ALIVE, Detail: addr + " answers"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &lifeboatv1.ProbeResult{Verdict: lifeboatv1.ProbeVerdict_PROBE_VERDICT_REFUSED, Detail: addr + " refuses the connection"}
	}
	return &lifeboatv1.ProbeResult{Detail: err.Error()}
}
