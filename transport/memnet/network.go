package memnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Network connects machines. All methods are safe for concurrent use and none
// but Dial blocks.
type Network struct {
	mu        sync.Mutex
	changed   chan struct{} // closed and replaced at every change of faults or listeners
	latency   time.Duration
	cuts      map[route]struct{}
	down      map[string]Death
	listeners map[string]*Listener
	conns     map[*link]struct{}
	nextPort  int
}

// route is one direction between two machines.
type route struct{ from, to string }

// Death is how a machine dies.
type Death int

const (
	_ Death = iota
	// PowerLoss sends nothing: peers wait until their deadlines, and so does a
	// later dial.
	PowerLoss
	// Crash is the process dying while its kernel lives: peers see a reset at
	// once, later dials are refused.
	Crash
)

// New makes a network without machines, faults or latency.
func New() *Network {
	return &Network{
		changed:   make(chan struct{}),
		cuts:      map[route]struct{}{},
		down:      map[string]Death{},
		listeners: map[string]*Listener{},
		conns:     map[*link]struct{}{},
		nextPort:  40000,
	}
}

// Addr is an address in a Network.
type Addr string

// Network is "memnet".
func (Addr) Network() string  { return "memnet" }
func (a Addr) String() string { return string(a) }

// machine is the part of an address that faults strike.
func machine(addr string) string {
	name, _, _ := strings.Cut(addr, ":")
	return name
}

// SetLatency delays every byte sent from now on by d, in both directions.
func (n *Network) SetLatency(d time.Duration) { n.change(func() { n.latency = d }) }

// Cut stops what from sends to to, and nothing else. Bytes under way wait.
func (n *Network) Cut(from, to string) { n.change(func() { n.cuts[route{from, to}] = struct{}{} }) }

// CutBoth stops both directions between a and b.
func (n *Network) CutBoth(a, b string) { n.Cut(a, b); n.Cut(b, a) }

// Isolate cuts both directions between name and each of the others.
func (n *Network) Isolate(name string, others ...string) {
	for _, o := range others {
		n.CutBoth(name, o)
	}
}

// Heal mends both directions between a and b: what waited arrives.
func (n *Network) Heal(a, b string) {
	n.change(func() { delete(n.cuts, route{a, b}); delete(n.cuts, route{b, a}) })
}

// HealAll mends every cut. Dead machines stay dead.
func (n *Network) HealAll() { n.change(func() { clear(n.cuts) }) }

// Kill takes a machine down: its listeners close, its connections die the way
// death says. What still runs in the test as that machine reaches nobody.
func (n *Network) Kill(name string, death Death) {
	n.change(func() {
		n.down[name] = death
		for addr, l := range n.listeners {
			if machine(addr) == name {
				l.closeLocked()
			}
		}
		for l := range n.conns {
			if l.touches(name) {
				l.dieLocked(death)
			}
		}
	})
}

// Revive lets a killed machine listen and dial again. Its old connections do not
// come back: a peer that still holds one gets a reset, as from a rebooted kernel.
func (n *Network) Revive(name string) {
	n.change(func() {
		delete(n.down, name)
		for l := range n.conns {
			if l.touches(name) && l.dead == PowerLoss {
				l.dieLocked(Crash)
			}
		}
	})
}

// change runs f under the lock and wakes everybody who waits for the network.
func (n *Network) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	n.notifyLocked()
}

func (n *Network) notifyLocked() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// Listen opens addr. It fails when the address is in use or its machine is down.
func (n *Network) Listen(addr string) (*Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down[machine(addr)] != 0 {
		return nil, opError("listen", addr, syscall.ENETDOWN)
	}
	if n.listeners[addr] != nil {
		return nil, opError("listen", addr, syscall.EADDRINUSE)
	}
	l := &Listener{net: n, addr: Addr(addr), backlog: make(chan *Conn, backlog), done: make(chan struct{})}
	n.listeners[addr] = l
	n.notifyLocked()
	return l, nil
}

// Dial connects machine from to the listener at addr. Across a cut, or to a
// machine without power, it waits for ctx or for better times; a live machine
// without that listener refuses at once.
func (n *Network) Dial(ctx context.Context, from, addr string) (net.Conn, error) {
	for {
		n.mu.Lock()
		c, wait, err := n.connectLocked(from, addr)
		latency, changed := n.latency, n.changed
		n.mu.Unlock()
		if err != nil {
			return nil, opError("dial", addr, err)
		}
		if !wait {
			if err := sleep(ctx, 2*latency); err != nil { // SYN and SYN-ACK
				c.Close()
				return nil, opError("dial", addr, err)
			}
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, opError("dial", addr, dialCause(ctx))
		}
	}
}

// dialCause makes a missed deadline a net.Error that says Timeout, as net does.
func dialCause(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return syscall.ETIMEDOUT
	}
	return ctx.Err()
}

func sleep(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return dialCause(ctx)
	}
}

func (n *Network) connectLocked(from, addr string) (c *Conn, wait bool, err error) {
	to := machine(addr)
	switch {
	case n.down[from] != 0, n.down[to] == PowerLoss, n.cutLocked(from, to), n.cutLocked(to, from):
		return nil, true, nil
	case n.listeners[addr] == nil:
		return nil, false, syscall.ECONNREFUSED
	}
	n.nextPort++
	local := Addr(from + ":" + strconv.Itoa(n.nextPort))
	client, server := n.newLink(from, to, local, Addr(addr))
	select {
	case n.listeners[addr].backlog <- server:
		return client, false, nil
	default:
		delete(n.conns, client.link)
		return nil, false, fmt.Errorf("accept queue is full: %w", syscall.ECONNREFUSED)
	}
}

func (n *Network) cutLocked(from, to string) bool {
	_, cut := n.cuts[route{from, to}]
	return cut
}

// Dialer is Dial for libraries that want a function with net.Dialer's signature.
func (n *Network) Dialer(from string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, _, addr string) (net.Conn, error) { return n.Dial(ctx, from, addr) }
}

func opError(op, addr string, err error) error {
	return &net.OpError{Op: op, Net: "memnet", Addr: Addr(addr), Err: err}
}
