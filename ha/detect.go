package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

const (
	// maxPeers are asked about one silent host: enough that one broken link
	// does not decide, few enough that a dead rack is no storm.
	maxPeers = 3
	// recheck is the pause between rounds about a host that stays silent
	// without being dead.
	recheck = 10 * time.Second
)

// host decides about one host: is it silent, and what then.
func (d *decision) host(h *fsm.Host) {
	c := d.contact(h)
	switch h.Status {
	case fsm.Up:
		d.up(h, c)
	case fsm.Connecting:
		d.connecting(h, c)
	case fsm.Disconnected:
		d.disconnected(h, c)
	case fsm.Alert:
		if c.Heard > 0 && !d.silent(c) {
			d.do(seen(h))
			return
		}
		d.check(h, c)
	case fsm.Down:
		if h.HA == fsm.HAFencing {
			d.fence(h, c)
		}
	}
}

func (d *decision) up(h *fsm.Host, c Contact) {
	if !d.silent(c) {
		d.wake(max(c.Heard, d.soft.Since) + d.p.SuspectAfter())
		return
	}
	quiet := d.quiet(c)
	if h.Resource != fsm.Enabled && h.RunsProtected() == 0 && !owed(h) {
		d.do(&logpb.Command{Body: &logpb.Command_HostLeave{HostLeave: &logpb.HostLeave{Host: string(h.ID), Epoch: h.Epoch,
			Reason: fmt.Sprintf("silent for %s while %s; no protected VM runs there", seconds(quiet), h.Resource)}}})
		return
	}
	d.suspect(h, quiet, fmt.Sprintf("nothing was heard for %s (%d beats of %s)", seconds(quiet), d.p.SuspectBeats, d.p.Beat))
}

// owed reports whether the host holds an order to start: the VM may run there
// without having been seen.
func owed(h *fsm.Host) bool {
	return slices.ContainsFunc(h.Orders, func(o *fsm.Order) bool { return o.Kind == fsm.OrderStart })
}

func (d *decision) suspect(h *fsm.Host, quiet time.Duration, why string) {
	d.do(&logpb.Command{Body: &logpb.Command_HostSuspect{HostSuspect: &logpb.HostSuspect{
		Host: string(h.ID), Epoch: h.Epoch, Reason: why, SilentNs: int64(quiet)}}})
}

// connecting: the host is back while a fence may be in flight (S10).
func (d *decision) connecting(h *fsm.Host, c Contact) {
	if d.silent(c) {
		d.check(h, c) // gone again
		return
	}
	if h.Attempt != nil && h.Attempt.Open && d.now.Wall < h.Attempt.Until {
		d.wakeAt(h.Attempt.Until)
		return
	}
	d.do(seen(h))
}

// disconnected: the agent said goodbye. Nobody watches the VMs there, so the
// machine is looked at; seen dead counts at once, seen nothing only after the
// grace.
func (d *decision) disconnected(h *fsm.Host, c Contact) {
	if h.RunsProtected() == 0 && !owed(h) {
		return
	}
	grace := h.Silent + int64(d.p.AgentStopGrace)
	d.investigate(h, c)
	if d.now.Wall >= grace {
		d.suspect(h, time.Duration(d.now.Wall-h.Silent), fmt.Sprintf("its agent was stopped and has not come back within %s", d.p.AgentStopGrace))
		return
	}
	d.wakeAt(grace)
	if c.Check != nil && c.Check.Verdict() == fsm.Dead {
		d.suspect(h, time.Duration(d.now.Wall-h.Silent), "its agent was stopped and now the machine is off")
	}
}

// check gathers evidence about a suspect host and draws the conclusion.
func (d *decision) check(h *fsm.Host, c Contact) {
	d.investigate(h, c)
	i := c.Check
	if i == nil {
		return
	}
	d.evidence(h, i)
	deadline := i.Started + d.p.Investigate
	over := i.Complete || d.now.Mono >= deadline
	why := fmt.Sprintf("%s; %s", d.silence(h, c), i.Summary())
	switch i.Verdict() {
	case fsm.Dead:
		d.down(h, why)
	case fsm.Alive:
		if at, ok := d.leaseEnd(h, c); ok {
			if d.now.Mono >= at {
				d.down(h, why+"; its self-fence lease has run out")
				return
			}
			d.wake(at)
			d.unproven(h, "it is seen alive ("+i.alive()+"), but its agent is silent; its protected VMs stop when its lease runs out")
			return
		}
		d.unproven(h, "it is seen alive ("+i.alive()+"), but its agent is silent")
	default:
		if !over {
			d.wake(deadline)
			return
		}
		d.down(h, why)
	}
}

// silence says since when a host is silent, for people.
func (d *decision) silence(h *fsm.Host, c Contact) string {
	if h.Silent > 0 && d.now.Wall > h.Silent {
		return "silent for " + seconds(time.Duration(d.now.Wall-h.Silent))
	}
	return "silent for " + seconds(d.quiet(c))
}

func (d *decision) down(h *fsm.Host, why string) {
	if !d.s.Armed {
		d.unproven(h, "HA is disarmed: nothing is done about it")
		return
	}
	if !d.proven() {
		return
	}
	d.do(&logpb.Command{Body: &logpb.Command_HostDown{HostDown: &logpb.HostDown{Host: string(h.ID), Epoch: h.Epoch, Reason: why}}})
}

func (d *decision) unproven(h *fsm.Host, why string) {
	if h.HA == fsm.HADegraded && h.Reason == why {
		return
	}
	d.do(&logpb.Command{Body: &logpb.Command_HostUnproven{HostUnproven: &logpb.HostUnproven{Host: string(h.ID), Epoch: h.Epoch, Reason: why}}})
}

func seen(h *fsm.Host) *logpb.Command {
	return &logpb.Command{Body: &logpb.Command_HostSeen{HostSeen: &logpb.HostSeen{Host: string(h.ID), Epoch: h.Epoch}}}
}

// investigate keeps a round of questions going. A host that stays silent is
// asked about again and again: it may die later.
func (d *decision) investigate(h *fsm.Host, c Contact) {
	round := 1
	if c.Check != nil {
		next := c.Check.Started + max(recheck, d.p.Investigate)
		if d.now.Mono < next {
			round = c.Check.Round
			d.wake(next)
		} else {
			round = c.Check.Round + 1
		}
	}
	e := Investigate{Host: h.ID, Epoch: h.Epoch, Round: round, For: d.p.Investigate}
	for i, l := range h.Fence {
		if l.Active() {
			e.BMC = append(e.BMC, i)
		}
	}
	if len(h.ProbeAddrs) > 0 {
		e.Peers = d.peers(h.ID)
	}
	d.run(e)
}

// peers are the hosts that follow the silent one in the order of ids, so that
// the questions spread.
func (d *decision) peers(about fsm.HostID) []fsm.HostID {
	var before, after []fsm.HostID
	for id, h := range d.s.Hosts() {
		if len(after) == maxPeers {
			break
		}
		if id == about || h.Status != fsm.Up || d.silent(d.contact(h)) {
			continue
		}
		if id > about {
			after = append(after, id)
		} else if len(before) < maxPeers {
			before = append(before, id)
		}
	}
	all := append(after, before...)
	return all[:min(len(all), maxPeers)]
}

// evidence commits what was found and is not in the log yet.
func (d *decision) evidence(h *fsm.Host, i *Investigation) {
	var fresh []*logpb.Evidence
	for _, f := range i.Findings {
		known := slices.ContainsFunc(h.Evidence, func(e fsm.Evidence) bool {
			return e.Source == f.Source && e.Verdict == f.Verdict && e.Detail == f.Detail
		})
		if !known {
			fresh = append(fresh, &logpb.Evidence{Source: f.Source, Verdict: uint32(f.Verdict), Detail: f.Detail})
		}
	}
	if len(fresh) > 0 {
		d.do(&logpb.Command{Body: &logpb.Command_HostEvidence{HostEvidence: &logpb.HostEvidence{Host: string(h.ID), Epoch: h.Epoch, Evidence: fresh}}})
	}
}

// Summary says what was found, in one line.
func (i *Investigation) Summary() string {
	if len(i.Findings) == 0 {
		return "nobody could say anything about it"
	}
	var parts []string
	for _, f := range i.Findings {
		parts = append(parts, fmt.Sprintf("%s: %s (%s)", f.Source, f.Verdict, f.Detail))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func (i *Investigation) alive() string {
	var by []string
	for _, f := range i.Findings {
		if f.Verdict == fsm.Alive {
			by = append(by, f.Source)
		}
	}
	slices.Sort(by)
	return "by " + strings.Join(by, ", ")
}

// seconds writes a duration as people say it.
func seconds(t time.Duration) string { return fmt.Sprintf("%.1f s", t.Seconds()) }
