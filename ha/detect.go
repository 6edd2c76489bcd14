package ha

import (
	"cmp"
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
func (d *decision) host(h *fsm.Host, c Contact) {
	switch h.Status {
	case fsm.Up:
		d.silence(h, c)
	case fsm.Connecting:
		d.connecting(h, c)
	case fsm.Disconnected:
		d.disconnected(h, c)
	case fsm.Alert:
		if d.reports(c) {
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

// silence: a host that was Up has not been heard for too long.
func (d *decision) silence(h *fsm.Host, c Contact) {
	quiet := d.quiet(c)
	if h.Resource != fsm.Enabled && h.RunsProtected() == 0 && !owed(h) { // S19
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

// awaited reports whether a VM is off there and waits to be started: nobody
// else may do it before the host has given it up or is proven dead.
func awaited(h *fsm.Host) bool {
	return slices.ContainsFunc(h.VMs, func(v fsm.VM) bool { return v.Work != 0 && !v.Gone && v.Protected() })
}

func (d *decision) suspect(h *fsm.Host, quiet time.Duration, why string) {
	d.do(&logpb.Command{Body: &logpb.Command_HostSuspect{HostSuspect: &logpb.HostSuspect{
		Host: string(h.ID), Epoch: h.Epoch, Reason: why, SilentNs: int64(quiet)}}})
}

// connecting: the host is back while a fence may be in flight (S10).
func (d *decision) connecting(h *fsm.Host, c Contact) {
	switch {
	case d.silent(c):
		d.check(h, c) // gone again
	case !d.reports(c):
		d.wake(d.listening())
	case d.now.Wall < h.Attempt.End():
		d.wakeAt(h.Attempt.End())
		d.wake(c.Heard + d.p.SuspectAfter())
	default:
		d.do(seen(h))
	}
}

// disconnected: the agent said goodbye. Nobody watches the VMs there, so the
// machine is looked at; seen dead counts at once, seen nothing only after the
// grace (S16).
func (d *decision) disconnected(h *fsm.Host, c Contact) {
	targeted := d.moving().of[h.ID] > 0 // a VM may have come there
	if h.Frozen() && !targeted {
		return // its VMs wait until it is back (shutdown_policy)
	}
	if !targeted && h.RunsProtected() == 0 && !owed(h) && !awaited(h) && (h.Resource != fsm.Enabled || !d.sought()) {
		return // S19
	}
	d.investigate(h, c)
	gone := time.Duration(d.now.Wall - h.Silent)
	i := d.round(c)
	switch {
	case !d.silent(c):
		// Its goodbye is not to be taken for a sign of life.
		d.wake(max(c.Heard, d.soft.Since) + d.p.SuspectAfter())
	case gone >= d.p.AgentStopGrace:
		d.suspect(h, gone, fmt.Sprintf("its agent was stopped and has not come back within %s", d.p.AgentStopGrace))
	case i != nil && i.Verdict() == fsm.Dead:
		d.suspect(h, gone, "its agent was stopped and now the machine is off")
	default:
		d.wakeAt(h.Silent + int64(d.p.AgentStopGrace))
	}
}

// check gathers evidence about a suspect host and draws the conclusion.
func (d *decision) check(h *fsm.Host, c Contact) {
	d.investigate(h, c)
	i := d.round(c)
	why := d.sinceWhen(h, c)
	end, leased := d.leaseEnd(h, c)
	if i != nil {
		why += "; " + i.Summary()
		d.evidence(h, i)
	}
	switch {
	case leased && d.now.Mono >= end:
		d.down(h, why+"; its self-fence lease has run out")
	case i == nil:
		// The first round begins now.
	case i.Verdict() == fsm.Dead:
		d.down(h, why)
	case !d.over(i):
		d.wake(i.Started + d.p.Investigate)
	case i.Verdict() == fsm.Alive && leased:
		d.wake(end)
		d.unproven(h, "it is seen alive, but its agent is silent; its protected VMs stop when its lease runs out")
	case i.Verdict() == fsm.Alive:
		d.unproven(h, "it is seen alive, but its agent is silent")
	case d.blind(i):
		d.wake(d.listening())
	default:
		d.down(h, why)
	}
}

// round is what was found out since the host was last heard; nil when nobody
// has begun to ask. Findings of before its last word are about another time.
func (d *decision) round(c Contact) *Investigation {
	if c.Check == nil || c.Check.Started < c.Heard {
		return nil
	}
	return c.Check
}

// over reports whether a round will find out no more.
func (d *decision) over(i *Investigation) bool {
	return i.Complete || d.now.Mono >= i.Started+d.p.Investigate
}

// blind reports whether a round began before this term has listened for long
// enough: that nothing was found out then says something about us. A new
// leader asks at once about the suspects it inherits, but declares none of
// them Down before it would declare any other host (S15).
func (d *decision) blind(i *Investigation) bool { return i.Started < d.listening() }

// sinceWhen says since when a host is silent, for people.
func (d *decision) sinceWhen(h *fsm.Host, c Contact) string {
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

// investigate keeps rounds of questions going. A host that stays silent is
// asked about again and again: it may die later.
func (d *decision) investigate(h *fsm.Host, c Contact) {
	round := 1
	if c.Check != nil {
		round = c.Check.Round + 1
	}
	if i := d.round(c); i != nil {
		next := i.Started + max(recheck, d.p.Investigate)
		if d.blind(i) {
			next = max(i.Started+d.p.Investigate, d.listening())
		}
		if d.now.Mono < next {
			d.wake(next)
			return
		}
	}
	e := Investigate{Host: h.ID, Epoch: h.Epoch, Round: round, For: d.p.Investigate, BMC: d.active(h)}
	if len(h.ProbeAddrs) > 0 {
		e.Peers = d.peers(h.ID)
	}
	if e.Beats = beats(h); len(e.Beats) > 0 {
		e.Peers = d.witnesses(h.ID, e.Peers, e.Beats)
	}
	d.run(e)
}

// peers are asked about a silent host.
func (d *decision) peers(about fsm.HostID) []fsm.HostID { return d.following(about, maxPeers) }

// following are up to n hosts that live and follow the silent one in the order of
// ids, so that the questions spread.
func (d *decision) following(about fsm.HostID, n int) []fsm.HostID {
	if d.living == nil {
		d.living = []fsm.HostID{}
		contact := d.each()
		for id, h := range d.s.Hosts() {
			if c := contact(h); h.Status == fsm.Up && d.reports(c) {
				d.living = append(d.living, id)
			}
		}
	}
	at, self := slices.BinarySearch(d.living, about)
	if self {
		at++
	}
	others := len(d.living)
	if self {
		others--
	}
	var out []fsm.HostID
	for i := range min(others, n) {
		out = append(out, d.living[(at+i)%len(d.living)])
	}
	return out
}

// evidence commits what a round has found, at its end or when it decides, so
// that answers which come one by one are not so many entries.
func (d *decision) evidence(h *fsm.Host, i *Investigation) {
	if !d.over(i) && i.Verdict() != fsm.Dead {
		return
	}
	var fresh []*logpb.Evidence
	for _, f := range i.bySource() {
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

// bySource are the findings in an order of their own, those of one source
// joined: the log keeps one of each, and a host may have two power controllers
// of one kind.
func (i *Investigation) bySource() []Finding {
	sorted := slices.SortedFunc(slices.Values(i.Findings), func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Detail, b.Detail), cmp.Compare(a.Verdict, b.Verdict))
	})
	var out []Finding
	for _, f := range slices.Compact(sorted) {
		if len(out) == 0 || out[len(out)-1].Source != f.Source {
			out = append(out, f)
			continue
		}
		o := &out[len(out)-1]
		o.Detail += "; " + f.Detail
		o.Verdict = stronger(o.Verdict, f.Verdict)
	}
	return out
}

// Summary says what was found, in one line.
func (i *Investigation) Summary() string {
	if len(i.Findings) == 0 {
		return "nobody could say anything about it"
	}
	var parts []string
	for _, f := range i.bySource() {
		parts = append(parts, fmt.Sprintf("%s: %s (%s)", f.Source, f.Verdict, f.Detail))
	}
	return strings.Join(parts, ", ")
}

// seconds writes a duration as people say it.
func seconds(t time.Duration) string { return fmt.Sprintf("%.1f s", t.Seconds()) }
