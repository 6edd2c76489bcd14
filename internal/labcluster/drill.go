package labcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// Round is what a fault led to.
type Round struct {
	Name  string
	Order time.Duration // fault → first start order
	Runs  time.Duration // fault → the last guest beats again
	Moves []Move
}

// Move is one guest that was lost and started again.
type Move struct {
	Guest, From, To, Incarnation string
	Down                         time.Duration // fault → its first heartbeat elsewhere
}

// Drill kills a host, brings it back, then kills the leader's machine together
// with its host, and tells out what happens. An error says what did not hold.
func (c *Cluster) Drill(ctx context.Context, out io.Writer) ([]Round, error) {
	leader, err := c.Leader(ctx)
	if err != nil {
		return nil, err
	}
	victim := 0 // the busiest host whose machine is not the leader's
	for n := 1; n <= c.opts.Lab.Hosts; n++ {
		if n != c.opts.Lab.ManagerOn[leader] && (victim == 0 || len(c.Lab.Guests(n)) > len(c.Lab.Guests(victim))) {
			victim = n
		}
	}
	first, err := c.Round(ctx, out, fmt.Sprintf("the power of host h%d is cut", victim), victim)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "\nHost h%d gets its power back.\n", victim)
	if err := c.Lab.PowerOn(ctx, victim); err != nil {
		return nil, err
	}
	if err := c.WaitHosts(ctx, "Up"); err != nil {
		return nil, err
	}
	if leader, err = c.Leader(ctx); err != nil {
		return nil, err
	}
	target := c.opts.Lab.ManagerOn[leader]
	if target == 0 {
		return nil, fmt.Errorf("n%d leads, and shares its machine with no host", leader)
	}
	second, err := c.Round(ctx, out, fmt.Sprintf("the power of the leader's machine is cut: n%d and h%d", leader, target), target)
	if err != nil {
		return nil, err
	}
	return []Round{first, second}, c.Verify(ctx, out)
}

// Round cuts the power of a host and waits until every guest that ran there
// beats elsewhere.
func (c *Cluster) Round(ctx context.Context, out io.Writer, name string, victim int) (Round, error) {
	lost := c.Lab.Guests(victim)
	before, err := c.VMs(ctx)
	if err != nil {
		return Round{}, err
	}
	after, err := c.LastEvent(ctx)
	if err != nil {
		return Round{}, err
	}
	past := map[string]string{}
	for _, guest := range lost {
		if past[guest], err = c.lastBoots(guest); err != nil {
			return Round{}, err
		}
	}
	fmt.Fprintf(out, "\n%s (it runs %s)\n", strings.ToUpper(name[:1])+name[1:], strings.Join(lost, ", "))
	fault := time.Now()
	if err := c.Lab.PowerCut(ctx, victim); err != nil {
		return Round{}, err
	}
	tell := c.tell(ctx, out, fault, after)
	defer tell.stop()
	r := Round{Name: name}
	for _, guest := range lost {
		m, err := c.waitMoved(ctx, guest, victim, fault, past[guest])
		if err != nil {
			return r, err
		}
		m.From = host(victim)
		r.Moves = append(r.Moves, m)
		r.Runs = max(r.Runs, m.Down)
	}
	vms, err := c.VMs(ctx)
	if err != nil {
		return r, err
	}
	for i := range r.Moves {
		m := &r.Moves[i]
		m.Incarnation = before[m.Guest].GetIncarnation() + " → " + vms[m.Guest].GetIncarnation()
	}
	if err := c.settled(ctx); err != nil {
		return r, err
	}
	tell.stop()
	r.Order = tell.firstOrder()
	if r.Order == 0 {
		return r, errors.New("no start order was seen")
	}
	return r, nil
}

// lastBoots are the boots in which a guest has beaten last, on each host. A
// console is written to before the guest's first heartbeat of a new boot.
func (c *Cluster) lastBoots(guest string) (string, error) {
	var boots []string
	for n := 1; n <= c.opts.Lab.Hosts; n++ {
		b, _, err := c.Lab.LastBeat(n, guest)
		if err != nil {
			return "", err
		}
		boots = append(boots, b.Boot)
	}
	return strings.Join(boots, " "), nil
}

// waitMoved waits until a guest beats on another host than before, in none of
// its past boots.
func (c *Cluster) waitMoved(ctx context.Context, guest string, from int, fault time.Time, past string) (Move, error) {
	for {
		hosts := c.Lab.Copies(guest)
		if len(hosts) > 1 {
			return Move{}, fmt.Errorf("guest %s runs on hosts %v at once", guest, hosts)
		}
		if len(hosts) == 1 && hosts[0] != from {
			b, ok, err := c.Lab.LastBeat(hosts[0], guest)
			if err != nil {
				return Move{}, err
			}
			if ok && !strings.Contains(past, b.Boot) {
				return Move{Guest: guest, To: host(hosts[0]), Down: b.At.Sub(fault)}, nil
			}
		}
		select {
		case <-ctx.Done():
			vms, _ := c.VMs(context.WithoutCancel(ctx))
			return Move{}, fmt.Errorf("wait until guest %s beats elsewhere: %w (it is %v)", guest, ctx.Err(), vms[guest])
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// settled waits until no work is open.
func (c *Cluster) settled(ctx context.Context) error {
	return c.wait(ctx, "no work is open", func(ctx context.Context, api API) (bool, string, error) {
		r, err := api.ListWork(ctx, connect.NewRequest(&lifeboatv1.ListWorkRequest{}))
		if err != nil {
			return false, "", err
		}
		return len(r.Msg.Work) == 0, fmt.Sprint(r.Msg.Work), nil
	})
}

// Verify checks what must hold at any time: every guest runs exactly once, by
// the kernel's word; no guest has seen another one write its disk; the state
// agrees; all replicas are equal.
func (c *Cluster) Verify(ctx context.Context, out io.Writer) error {
	vms, err := c.VMs(ctx)
	if err != nil {
		return err
	}
	for _, guest := range c.Guests {
		hosts := c.Lab.Copies(guest)
		v := vms[guest]
		switch {
		case len(hosts) != 1:
			return fmt.Errorf("guest %s runs on %d hosts: %v", guest, len(hosts), hosts)
		case v == nil || v.Host != host(hosts[0]) || v.Power != "PowerOn":
			return fmt.Errorf("guest %s runs on h%d, the state says %v", guest, hosts[0], v)
		}
	}
	if err := c.checkSplitBrains(); err != nil {
		return err
	}
	index, digests, err := c.Digests(ctx)
	if err != nil {
		return err
	}
	all := map[string]bool{}
	for _, d := range digests {
		all[d] = true
	}
	if len(all) != 1 {
		return fmt.Errorf("the replicas differ at index %d: %v", index, digests)
	}
	fmt.Fprintf(out, "\nEvery guest runs exactly once, by the kernel's word; none has seen another writer on its disk.\n%d replicas have the same digest at index %d.\n", len(digests), index)
	return nil
}

// SplitBrains are what guests found that saw another writer on their disks,
// except what was accepted before.
func (c *Cluster) SplitBrains() ([]string, error) {
	all, err := c.Lab.SplitBrains()
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(all, func(s string) bool { return c.accepted[s] }), err
}

func (c *Cluster) checkSplitBrains() error {
	found, err := c.SplitBrains()
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("guests saw a second writer on their disks: %v", found)
	}
	return err
}

// AcceptSplitBrains forgets those there are: they were meant to be.
func (c *Cluster) AcceptSplitBrains() error {
	found, err := c.SplitBrains()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range found {
		c.accepted[s] = true
	}
	return err
}

// Table writes rounds for people.
func Table(out io.Writer, rounds []Round) {
	for _, r := range rounds {
		fmt.Fprintf(out, "\n%s: first start order after %.1f s, all guests beat again after %.1f s\n", r.Name, r.Order.Seconds(), r.Runs.Seconds())
		fmt.Fprintf(out, "  %-8s %-5s %-5s %-12s %s\n", "VM", "FROM", "TO", "INCARNATION", "DOWNTIME")
		for _, m := range r.Moves {
			fmt.Fprintf(out, "  %-8s %-5s %-5s %-12s %.1f s\n", m.Guest, m.From, m.To, m.Incarnation, m.Down.Seconds())
		}
	}
}

// teller prints events as they happen.
type teller struct {
	end   context.CancelFunc
	done  sync.WaitGroup
	mu    sync.Mutex
	order time.Duration
}

// told are the events that make up the story.
func told(e *lifeboatv1.EventView) bool {
	return slices.Contains([]string{"HOST.SUSPECT", "HOST.EVIDENCE", "HOST.DOWN", "HOST.FENCE.ATTEMPT", "HOST.FENCE.FAIL", "HOST.FENCED", "HOST.DEGRADED",
		"HOST.UP", "HOST.REBOOT", "VM.START.ORDER", "VM.START", "VM.START.FAIL", "VM.REMOVED", "VM.DUPLICATE", "VM.CONTRADICTION", "NODE.DOWN", "NODE.UP", "WORK.WAIT", "WORK.ERROR"}, e.Type)
}

func (c *Cluster) tell(ctx context.Context, out io.Writer, fault time.Time, after uint64) *teller {
	ctx, cancel := context.WithCancel(ctx)
	t := &teller{end: cancel}
	t.done.Add(1)
	go func() {
		defer t.done.Done()
		for {
			events, err := c.Events(ctx, after)
			if err == nil {
				for _, e := range events {
					after = e.Id
					since := time.Unix(0, e.TimeUnixNs).Sub(fault)
					t.mu.Lock()
					if e.Type == "VM.START.ORDER" && t.order == 0 {
						t.order = since
					}
					t.mu.Unlock()
					if told(e) {
						fmt.Fprintf(out, "  %6.2f s  %s\n", since.Seconds(), e.Text)
					}
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return t
}

func (t *teller) stop() {
	t.end()
	t.done.Wait()
}

func (t *teller) firstOrder() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.order
}
