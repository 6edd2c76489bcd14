package ha

import (
	"slices"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// Plan is what is to be done now.
type Plan struct {
	// Commands are to be proposed in order. Time and actor are the proposer's.
	Commands []*logpb.Command
	// Effects are to be running, as far as Soft does not show yet that they are.
	// One that was started once in this term is not started again.
	Effects []Effect
	// Transfer is why leadership must go to another node now; "" = it need not.
	Transfer string
	// Wake is when to ask again at the latest, on Now.Mono.
	Wake time.Duration
}

// Effect acts on the world outside the log.
type Effect interface{ effect() }

// Investigate asks around whether a host lives.
type Investigate struct {
	Host  fsm.HostID
	Epoch uint64
	Round int
	Peers []fsm.HostID  // who is asked to reach it
	Beats []string      // and to read its heartbeat, in these shared directories
	BMC   []Level       // fence levels whose power state is read
	For   time.Duration // answers that come later do not count
}

// Fence runs one committed attempt (S10).
type Fence struct {
	Host    fsm.HostID
	Epoch   uint64
	Level   uint32
	Attempt uint32
	Timeout time.Duration
	Via     []string // who carries it out, as committed; see Level
}

func (Investigate) effect() {}
func (Fence) effect()       {}

// never is later than every instant.
const never = time.Duration(1<<63 - 1)

// decision is one run of Decide.
type decision struct {
	s    *fsm.State
	p    *fsm.Policy
	soft *Soft
	memo *Memo
	now  Now
	plan Plan

	held    map[fsm.HostID]bool     // by the brake, as of now
	works   []*fsm.Work             // that are open
	jobs    []job                   // wait for a host
	room    *placer                 // nil until somebody waits
	living  []fsm.HostID            // see following
	unheard []fsm.HostID            // see hearing; nil until asked for
	report  *reported               // see missing
	vain    *bool                   // see sought
	goals   map[fsm.VMID]fsm.HostID // to which a VM was being migrated when that host was last heard
	checks  int                     // see fenceCheck

	stalled []*fsm.Host // see storage
	copied  []*fsm.Host // see copies
	evicted bool        // see stubborn
	guested []look      // see guests

	emptying []*fsm.Host // see drain
	away     []*fsm.Host // see failback
	way      *underWay   // see moving
}

// look is a host that needs a closer look.
type look struct {
	h *fsm.Host
	c Contact
}

// Decide says what is to be done about the state. It changes neither s nor soft,
// but for its memo.
func Decide(s *fsm.State, soft *Soft, now Now) Plan {
	d := decide(s, soft, now)
	closer := d.survey()
	d.memo.rank() // now rather than in the moment when thousands of VMs wait
	d.brakes(closer)
	for _, l := range closer {
		d.host(l.h, l.c)
	}
	d.work()
	d.storage()
	d.guests()
	d.copies()
	d.moves()
	if d.room == nil {
		d.memo.line = nil // it would keep hosts alive that have changed since
	}
	return d.plan
}

func decide(s *fsm.State, soft *Soft, now Now) *decision {
	d := &decision{s: s, p: s.Policy, soft: soft, memo: soft.Memo, now: now, plan: Plan{Wake: never}}
	if d.memo == nil {
		d.memo = &Memo{}
	}
	d.works = slices.AppendSeq(make([]*fsm.Work, 0, s.CountOpenWork()), s.OpenWork())
	return d
}

// survey finds the hosts that need a closer look: all but those that report.
// In a healthy cluster it is all there is to do, so it reads of a host only what
// has changed.
func (d *decision) survey() []look {
	var closer []look
	after := d.p.SuspectAfter()
	of, known := d.soft.Hosts.along(), d.memo.standing(d.s)
	for id, h := range d.s.Hosts() {
		at := known(h)
		heard := of(id)
		for _, vm := range heard.Coming {
			if d.goals == nil {
				d.goals = map[fsm.VMID]fsm.HostID{}
			}
			d.goals[vm] = id
		}
		c := heard.in(at.epoch)
		at.silent = d.silent(c)
		if at.emptying {
			d.emptying = append(d.emptying, h)
		}
		if at.away {
			d.away = append(d.away, h)
		}
		if !at.up || at.silent {
			closer = append(closer, look{h, c})
			continue
		}
		d.wake(max(c.Heard, d.soft.Since) + after)
		if d.now.Wall < at.checkDue {
			d.wakeAt(at.checkDue)
		} else {
			d.fenceCheck(h)
		}
		if at.copies {
			d.copied = append(d.copied, h)
		}
		if len(c.Guests) > 0 {
			d.guested = append(d.guested, look{h, c})
		}
		if at.stalled {
			d.stalled = append(d.stalled, h)
		}
	}
	return closer
}

func (d *decision) do(c *logpb.Command) { d.plan.Commands = append(d.plan.Commands, c) }

func (d *decision) run(e Effect) { d.plan.Effects = append(d.plan.Effects, e) }

func (d *decision) wake(t time.Duration) { d.plan.Wake = min(d.plan.Wake, max(t, d.now.Mono)) }

// wakeAt is wake for a timer of the log.
func (d *decision) wakeAt(wall int64) {
	d.wake(d.now.Mono + time.Duration(wall-d.now.Wall))
}

// contact is what was heard of a host in its current epoch. Of one that began
// just now nothing is known but when the host asked for it.
func (d *decision) contact(h *fsm.Host) Contact {
	return d.soft.Hosts.Of(h.ID).in(h.Epoch)
}

// each is contact for one host after the other, in the order of the state.
func (d *decision) each() func(*fsm.Host) Contact {
	of := d.soft.Hosts.along()
	return func(h *fsm.Host) Contact { return of(h.ID).in(h.Epoch) }
}

// in is what of a contact is about an epoch.
func (c Contact) in(epoch uint64) Contact {
	if c.Epoch != epoch {
		return Contact{Epoch: epoch, Heard: c.Knocked}
	}
	return c
}

// quiet is how long nothing was heard while somebody listened.
func (d *decision) quiet(c Contact) time.Duration {
	return d.now.Mono - max(c.Heard, d.soft.Since)
}

// silent reports whether so long that the host is suspect.
func (d *decision) silent(c Contact) bool { return d.quiet(c) >= d.p.SuspectAfter() }

// reports reports whether the host itself was heard just now. The opposite of
// silent, but for the time in which nobody listened: then neither holds.
func (d *decision) reports(c Contact) bool {
	return c.Heard > 0 && d.now.Mono-c.Heard < d.p.SuspectAfter()
}

// listening is from when on silence means something in this term (S15).
func (d *decision) listening() time.Duration { return d.soft.Since + d.p.SuspectAfter() }

// proven reports whether this term has committed freshly enough to act on the
// outside world (S14).
func (d *decision) proven() bool {
	if d.soft.Proven < 0 || d.now.Mono-d.soft.Proven > freshCommit {
		d.wake(d.now.Mono + retryFresh)
		return false
	}
	return true
}

const (
	// freshCommit is how old the proposal of the last committed canary may be;
	// there is one a second.
	freshCommit = 3 * time.Second
	retryFresh  = 100 * time.Millisecond
)
