package fsm

import (
	"errors"
	"fmt"
	"strings"
)

// Check looks for violations of what must hold in every state, whatever the
// log held. It returns all it finds as one error, each line beginning with the
// rule, or nil. It reads the whole state and is meant for tests, `lifeboat
// backup verify` and support, not for every entry.
func (s *State) Check() error {
	c := &checker{s: s, ids: map[uint64]*idPage{}}
	c.hosts()
	c.index()
	c.allWork()
	c.allAlerts()
	c.cluster()
	c.requests()
	c.rules()
	c.usage()
	return errors.Join(c.errs...)
}

// Check looks for violations in the published state and in the rolling digest.
// Like Apply it may be called from one goroutine at a time.
func (m *Machine) Check() error {
	s := m.State()
	err := s.Check()
	if rolling, sum := m.digester.fold(s), s.Sum(); rolling != sum {
		err = errors.Join(err, fmt.Errorf("digest: rolling %016x, from scratch %016x", rolling, sum))
	}
	return err
}

type checker struct {
	s    *State
	ids  map[uint64]*idPage // by id / idsInPage; a snapshot may say any seq
	errs []error
}

// idPage has a bit for each id that somebody has.
type idPage [64]uint64

const idsInPage = 64 * 64

// must notes a violation unless ok.
func (c *checker) must(ok bool, rule, format string, args ...any) {
	if !ok {
		c.fail(rule, format, args...)
	}
}

// fail notes a violation.
func (c *checker) fail(rule, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s: %s", rule, fmt.Sprintf(format, args...)))
}

// minted checks an id that came from the state's one counter.
func (c *checker) minted(id uint64, what string) {
	if id == 0 || id > c.s.seq {
		c.fail("ids", "%s %d was never minted (last id %d)", what, id, c.s.seq)
		return
	}
	page := c.ids[id/idsInPage]
	if page == nil {
		page = &idPage{}
		c.ids[id/idsInPage] = page
	}
	at, bit := id%idsInPage/64, uint64(1)<<(id%64)
	if page[at]&bit != 0 {
		c.fail("ids", "%s %d has the id of something else", what, id)
	}
	page[at] |= bit
}

// past checks a time that Apply has written down.
func (c *checker) past(at int64, what string) {
	if at > c.s.Time {
		c.fail("S21", "%s lies in the future", what)
	}
}

// pastHost is past for a field of a host. What is right costs nothing: no text is
// made of it.
func (c *checker) pastHost(at int64, field string, id HostID) {
	if at > c.s.Time {
		c.fail("S21", "%s of host %s lies in the future", field, id)
	}
}

// pastOf is past for what has an id.
func (c *checker) pastOf(at int64, what string, id uint64) {
	if at > c.s.Time {
		c.fail("S21", "%s %d lies in the future", what, id)
	}
}

func (c *checker) allWork() {
	open := 0
	for id, w := range c.s.work.all() {
		c.minted(uint64(id), "work")
		// Most have ended long ago: what is right costs nothing here.
		if w.ID != id {
			c.fail("ids", "work %d stands under the id %d", w.ID, id)
		}
		if w.Type < WorkHA || w.Type > WorkRelocation || w.Step < Scheduled || w.Step > Error || w.Cause < CauseHostDown || w.Cause > CauseWatchdog {
			c.fail("work", "work %d has type %d, step %d, cause %d", id, w.Type, w.Step, w.Cause)
		}
		if w.Created > w.Updated || w.Index > c.s.Index {
			c.fail("work", "work %d was changed before it was made, or after now", id)
		}
		c.pastOf(w.Updated, "change of work", uint64(id))
		if w.Step.Ended() {
			if c.s.Time != 0 && (w.Outcome == "" || w.Ended <= 0) {
				c.fail("work", "work %d has ended (%s) without an outcome", id, w.Step)
			}
			continue
		}
		open++
		c.must(w.Ended == 0, "work", "work %d is open and has ended", id)
		at, ok := c.s.open.get(w.VM)
		c.must(ok && at == id, "work", "work %d for %s is open beside work %d", id, w.VMName, at)
		v, _ := c.s.VM(w.VM)
		c.must(v != nil && v.Work == id, "work", "work %d is open for %s, which does not know it", id, w.VMName)
		if v != nil {
			c.must(w.Incarnation <= v.Incarnation, "S1", "work %d is at incarnation %s, its VM %s at %s", id, w.Incarnation, v.Name, v.Incarnation)
		}
	}
	c.must(open == c.s.CountOpenWork(), "work", "%d work items are open, %d are counted", open, c.s.CountOpenWork())
}

func (c *checker) allAlerts() {
	open := map[AlertKey]bool{}
	closed, settled := 0, 0
	for id, a := range c.s.alerts.all() {
		c.minted(uint64(id), "alert")
		if a.ID != id {
			c.fail("ids", "alert %d stands under the id %d", a.ID, id)
		}
		if a.Count == 0 || a.First > a.Last || a.Severity < Info || a.Severity > Critical || a.State < AlertOpen || a.State > AlertArchived {
			c.fail("alerts", "alert %d makes no sense: %+v", id, *a)
		}
		if typ, _ := AlertTypeOf(a.Key.Type); !typ.Own && !strings.HasPrefix(a.Key.Cause, External) {
			c.fail("alerts", "alert %d is of type %s, which lifeboat does not raise: %+v", id, a.Key.Type, *a)
		}
		c.pastOf(a.Last, "alert", uint64(id))
		if a.State.Closed() {
			closed++
			if at, ok := c.s.closed.get(closedKey{a.State, a.ended(), id}); !ok || at != id {
				c.fail("alerts", "alert %d is %s and not found by its age", id, a.State)
			}
			if _, ok := c.s.settled.get(settledKey{a.Key, id}); ok != (a.State == AlertResolved) {
				c.fail("alerts", "alert %d is %s; found by its key: %t", id, a.State, ok)
			}
			if a.State == AlertResolved {
				settled++
			}
			continue
		}
		c.must(!open[a.Key], "alerts", "%v is open twice", a.Key)
		open[a.Key] = true
		at := c.s.OpenAlert(a.Key)
		c.must(at != nil && at.ID == id, "alerts", "open alert %d is not found by its key %v", id, a.Key)
	}
	c.must(len(open) == c.s.CountOpenAlerts(), "alerts", "%d alerts are open, %d are counted", len(open), c.s.CountOpenAlerts())
	c.must(closed == c.s.closed.len() && settled == c.s.settled.len(), "alerts", "%d alerts are closed, %d of them resolved; found are %d and %d", closed, settled, c.s.closed.len(), c.s.settled.len())
	c.notifications()
}

func (c *checker) cluster() {
	s := c.s
	for id, n := range s.Nodes() {
		c.must(n.ID == id && id != "" && n.State >= NodeUp && n.State <= NodeShuttingDown, "nodes", "node %q stands under %q in state %d", n.ID, id, n.State)
		c.past(n.Since, "since of node "+string(id))
		c.must(n.Until == 0 || n.Withdrawn() && n.Until >= n.Since, "nodes", "node %s is %s since %d, until %d", id, n.State, n.Since, n.Until)
		c.must(n.Until != 0 || !n.Withdrawn() || n.State == NodeMaintenance, "nodes", "node %s is %s without a deadline", id, n.State)
		c.must(n.For == 0 || n.For > 0 && n.State == NodePreparingForMaintenance, "nodes", "node %s is %s with a maintenance of %d ns to come", id, n.State, n.For)
	}
	for id, e := range s.events.all() {
		c.minted(uint64(id), "event")
		if e.ID != id || e.Index > s.Index || e.Type == "" || e.Text == "" {
			c.fail("events", "event %d makes no sense: %+v", id, *e)
		}
		c.pastOf(e.Time, "event", uint64(id))
	}
	for d, why := range s.Brakes() {
		c.must(why.Reason != "", "S17", "the brake of %q is on without a reason", d)
	}
	c.must(s.Policy != nil && s.Policy.validate() == nil, "policy", "the policy is not valid")
	c.must(s.Time >= 0 && s.Time <= maxTime, "S21", "the time is %d", s.Time)
	c.must(!s.Ignoring || !s.Armed, "arming", "HA is armed, and VMs are as if unmanaged")
	c.must(!s.Waking || !s.Armed, "S22", "HA is armed, and the state has not woken since a restore")
	c.must(s.Generation > 0, "S1", "the cluster has no generation")
}
