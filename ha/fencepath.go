package ha

import (
	"hash/fnv"
	"math"
	"strings"
	"time"

	"lifeboat/fsm"
)

// Level is a fence level and who may carry out what is done with it, in turn.
type Level struct {
	Index int
	Via   []string // fsm.ViaLeader and so on; none = the leader
}

// Check tries a host's fence levels without harm and commits what was found.
type Check struct {
	Host   fsm.HostID
	Round  int
	Levels []Level
}

func (Check) effect() {}

// CheckRun is what became of the checks of a host's levels in this term.
type CheckRun struct {
	Round int
	Ended time.Duration // 0 = it still runs
}

const (
	// maxChecks run at once: enough for ten thousand hosts an hour, few enough
	// that nobody notices.
	maxChecks = 8
	// checkAgain is the least pause between two checks of a host, also where the
	// outcome could not be committed.
	checkAgain = time.Minute
)

// checkDue is when (unix ns) the active levels of a host that is Up are to be tried
// again; 0: now, because one of them never was.
func checkDue(p *fsm.Policy, h *fsm.Host) int64 {
	oldest, active := int64(0), false
	for i := range h.Fence {
		if l := &h.Fence[i]; l.Active() && (!active || l.Check.Checked < oldest) {
			oldest, active = l.Check.Checked, true
		}
	}
	switch every := p.FenceCheckEvery; {
	case every == 0 || !active:
		return math.MaxInt64
	case oldest == 0:
		return 0
	default:
		return oldest + int64(every-spread(h.ID, every))
	}
}

// fenceCheck has the active levels of a host that is Up tried every now and then
// (S25): a path that is first used when the host dies is found broken then. It is
// due.
func (d *decision) fenceCheck(h *fsm.Host) {
	run, known := d.soft.Checks[h.ID]
	switch {
	case known && run.Ended == 0:
		return
	case known && d.now.Mono < run.Ended+checkAgain:
		d.wake(run.Ended + checkAgain)
		return
	case d.checking() >= maxChecks:
		return // the end of one of them wakes us
	}
	d.checks++
	d.run(Check{Host: h.ID, Round: run.Round + 1, Levels: d.active(h)})
}

// checking counts the checks that run.
func (d *decision) checking() int {
	if d.checks == 0 {
		for _, c := range d.soft.Checks {
			if c.Ended == 0 {
				d.checks++
			}
		}
	}
	return d.checks
}

// spread is how much earlier than others a host is checked, so that hosts which
// were checked together are not for ever.
func spread(id fsm.HostID, every time.Duration) time.Duration {
	f := fnv.New32a()
	_, _ = f.Write([]byte(id))
	return every / 8 / 1024 * time.Duration(f.Sum32()%1024)
}

// active are the levels of a host that act on it.
func (d *decision) active(h *fsm.Host) []Level {
	var out []Level
	for i, l := range h.Fence {
		if l.Active() {
			out = append(out, Level{Index: i, Via: d.via(h, l)})
		}
	}
	return out
}

// via names who may carry out what is done with a level of a host, in turn. Who
// shares the machine that is to be switched off is not among them.
func (d *decision) via(h *fsm.Host, l fsm.FenceLevel) []string {
	by := l.By()
	if proxy, named := strings.CutPrefix(by, fsm.ExecHost); named {
		return []string{fsm.ViaHost + proxy}
	}
	var out []string
	switch by {
	case fsm.ExecAny:
		out = append(out, fsm.ViaLeader)
		var last []string // who is about to be worked on, but runs
		for id, n := range d.s.Nodes() {
			switch {
			case id == d.soft.Node || n.Machine == h.ID || h.Node == id:
			case n.AtWork():
				out = append(out, fsm.ViaNode+string(id))
			case n.Withdrawn() && n.State != fsm.NodeShuttingDown:
				last = append(last, fsm.ViaNode+string(id))
			}
		}
		out = append(out, last...)
	case fsm.ExecPeers:
		for _, id := range d.peers(h.ID) {
			out = append(out, fsm.ViaHost+string(id))
		}
		if out == nil {
			out = []string{fsm.ViaHost} // nobody: the attempt says so
		}
	}
	return out
}

// Active are the levels of a host that act on it, for who does something with
// them that a plan did not ask for.
func Active(s *fsm.State, soft *Soft, now Now, h *fsm.Host) []Level {
	return (&decision{s: s, p: s.Policy, soft: soft, now: now}).active(h)
}
