package labcluster

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"github.com/digitalocean/go-libvirt"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// watch looks at the kernel's processes all the time, until the function it
// returns is called: no guest may have two anywhere.
func (s *story) watch() (stop func()) {
	ctx, cancel := context.WithCancel(s.ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			for g, hosts := range s.Lab.AllGuests() {
				if len(hosts) > 1 && len(s.Lab.Copies(g)) > 1 { // it may have moved while we looked
					s.Errorf("guest %s has a process on hosts %v at once", g, hosts)
					return
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	return func() { cancel(); done.Wait() }
}

// busy is a host that runs guests; it shares its machine with the leader, or
// does not.
func (s *story) busy(withLeader bool) int {
	s.Helper()
	return s.busiest(func(n, leader int) bool { return (s.opts.Lab.ManagerOn[leader] == n) == withLeader })
}

// alone is a host that runs guests and shares its machine with no node.
func (s *story) alone() int {
	s.Helper()
	return s.busiest(func(n, _ int) bool { return n > managers })
}

// busiest is the host with the most guests among those that will do.
func (s *story) busiest(will func(n, leader int) bool) int {
	s.Helper()
	for range 2 * hosts {
		leader, err := s.Leader(s.ctx)
		s.must(err)
		best, other := 0, 0
		for n := 1; n <= hosts; n++ {
			run := len(s.Lab.Guests(n))
			if will(n, leader) && run > 0 && (best == 0 || run > len(s.Lab.Guests(best))) {
				best = n
			}
			if !will(n, leader) && (other == 0 || run > len(s.Lab.Guests(other))) {
				other = n
			}
		}
		if best != 0 {
			return best
		}
		// All guests have left these hosts. Killing another brings some back.
		moving := s.look(s.Lab.Guests(other))
		s.must(s.Lab.PowerCut(s.ctx, other))
		for g, was := range moving {
			_, err := s.waitMoved(s.ctx, g, other, time.Time{}, was.past)
			s.must(err)
		}
		s.must(s.settled(s.ctx))
		s.heal(s.opts.Levels)
	}
	s.Fatal("no guest comes to the hosts that are wanted")
	return 0
}

// machine is the name of a node's machine in the lab's network.
func (s *story) machine(m int) string { return fmt.Sprintf("m%d", m) }

// snapshot is what the state and the guests say.
type snapshot map[string]seen

type seen struct {
	host        int
	incarnation string
	boot        string
	past        string // the boots in which it has beaten last, on each host
}

// look takes a snapshot of guests that run.
func (s *story) look(guests []string) snapshot {
	s.Helper()
	vms, err := s.VMs(s.ctx)
	s.must(err)
	out := snapshot{}
	for _, g := range guests {
		on := s.Lab.Copies(g)
		if len(on) != 1 {
			s.Fatalf("guest %s has a process on hosts %v", g, on)
		}
		b, ok, err := s.Lab.LastBeat(on[0], g)
		s.must(err)
		if !ok {
			s.Fatalf("guest %s on h%d has never beaten", g, on[0])
		}
		past, err := s.lastBoots(g)
		s.must(err)
		out[g] = seen{host: on[0], incarnation: vms[g].GetIncarnation(), boot: b.Boot, past: past}
	}
	return out
}

// untouched checks that guests run on as they did.
func (s *story) untouched(before snapshot) {
	s.Helper()
	if now := s.look(slices.Collect(maps.Keys(before))); !maps.Equal(now, before) {
		s.Fatalf("guests were touched: %v, before %v", now, before)
	}
}

// restarted waits until guests beat in a new boot, and checks that they were
// granted exactly one incarnation for it. Where: the hosts that are allowed.
func (s *story) restarted(before snapshot, most time.Duration, allowed func(from, to int) bool) time.Duration {
	s.Helper()
	began := time.Now()
	for g, was := range before {
		s.within(most-time.Since(began), g+" beats in a new boot", func() bool {
			on := s.Lab.Copies(g)
			if len(on) != 1 {
				return false
			}
			b, ok, err := s.Lab.LastBeat(on[0], g)
			return err == nil && ok && !strings.Contains(was.past, b.Boot)
		})
	}
	took := time.Since(began)
	s.must(s.settled(s.ctx))
	for g, now := range s.look(slices.Collect(maps.Keys(before))) {
		was := before[g]
		if !allowed(was.host, now.host) {
			s.Errorf("%s was restarted on h%d, it was on h%d", g, now.host, was.host)
		}
		if want := raised(was.incarnation); now.incarnation != want {
			s.Errorf("%s has incarnation %s after %s; want %s: one start", g, now.incarnation, was.incarnation, want)
		}
	}
	return took
}

func elsewhere(from, to int) bool { return from != to }
func anywhere(int, int) bool      { return true }
func inPlace(from, to int) bool   { return from == to }

// raised is the incarnation after this one.
func raised(inc string) string {
	i := strings.LastIndexByte(inc, '.') + 1
	n := 0
	_, _ = fmt.Sscan(inc[i:], &n)
	return fmt.Sprint(inc[:i], n+1)
}

// since lists the events of this story whose type is one of these.
func (s *story) since(types ...string) (out []*lifeboatv1.EventView) {
	s.Helper()
	events, err := s.Events(s.ctx, s.begin)
	if err != nil {
		return nil // no node answers; asked again
	}
	for _, e := range events {
		if slices.Contains(types, e.Type) {
			out = append(out, e)
		}
	}
	return out
}

// happened waits for an event about a subject, whose text contains words.
func (s *story) happened(most time.Duration, kind, subject, words string) *lifeboatv1.EventView {
	s.Helper()
	var found *lifeboatv1.EventView
	s.within(most, fmt.Sprintf("event %s about %s: ...%s...", kind, subject, words), func() bool {
		for _, e := range s.since(kind) {
			if (strings.HasSuffix(e.Subject, subject) || strings.Contains(e.Text, subject)) && strings.Contains(e.Text, words) {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// never checks that nothing of this kind has happened.
func (s *story) never(types ...string) {
	s.Helper()
	for _, e := range s.since(types...) {
		s.Errorf("event %s: %s", e.Type, e.Text)
	}
}

// hostView is what the state says of a host.
func (s *story) hostView(n int) *lifeboatv1.HostView {
	s.Helper()
	var h *lifeboatv1.HostView
	err := s.read(s.ctx, func(ctx context.Context, api API) error {
		r, err := api.ListHosts(ctx, connect.NewRequest(&lifeboatv1.ListHostsRequest{Id: host(n)}))
		if err == nil && len(r.Msg.Hosts) == 1 {
			h = r.Msg.Hosts[0]
		}
		return err
	})
	if err != nil || h == nil {
		return &lifeboatv1.HostView{} // no node answers; asked again
	}
	return h
}

// isUp waits until a host is Up without an operator.
func (s *story) isUp(n int, most time.Duration) {
	s.Helper()
	s.within(most, fmt.Sprintf("h%d is Up", n), func() bool { return s.hostView(n).Status == "Up" })
}

// process finds a process of a host by words on its command line.
func (s *story) process(n int, words ...string) int {
	for _, pid := range s.Lab.HostPIDs(n) {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue
		}
		if !slices.ContainsFunc(words, func(w string) bool { return !bytes.Contains(raw, []byte(w)) }) {
			return pid
		}
	}
	return 0
}

// qemu is the process of a guest on a host; 0 when there is none.
func (s *story) qemu(n int, guest string) int {
	return s.process(n, "qemu-system", "guest="+guest+",")
}

func (s *story) signal(pid int, sig syscall.Signal) {
	s.Helper()
	if pid == 0 {
		s.Fatal("there is no such process")
	}
	s.must(syscall.Kill(pid, sig))
}

// domain does something to a guest through libvirt, as a person with virsh does.
func (s *story) domain(n int, guest string, f func(*libvirt.Libvirt, libvirt.Domain) error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 15*time.Second)
	defer cancel()
	s.must(s.Lab.Libvirt(ctx, n, func(c *libvirt.Libvirt) error {
		d, err := c.DomainLookupByName(guest)
		if err != nil {
			return err
		}
		return f(c, d)
	}))
}

// vm is what the state says of a guest.
func (s *story) vm(guest string) *lifeboatv1.VMView {
	vms, err := s.VMs(s.ctx)
	if err != nil || vms[guest] == nil {
		return &lifeboatv1.VMView{}
	}
	return vms[guest]
}

func (s *story) lastEvent() uint64 {
	s.Helper()
	last, err := s.LastEvent(s.ctx)
	s.must(err)
	return last
}
