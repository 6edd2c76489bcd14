package dev

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"time"
)

// Ports below those that the kernel gives to outgoing connections: the port of
// a node that is down must still be free when it comes back.
const (
	lowestPort  = 10_000
	highestPort = 32_000
)

// freeAddrs finds loopback addresses that nobody listens on.
func freeAddrs(n int) ([]string, error) {
	var addrs []string
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for tries := 0; len(addrs) < n; tries++ {
		if tries == 1000 {
			return nil, fmt.Errorf("find free ports: none of 1000 between %d and %d is", lowestPort, highestPort)
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(lowestPort+rand.IntN(highestPort-lowestPort)))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		held, addrs = append(held, l), append(addrs, addr)
	}
	return addrs, nil
}

// door is the address at which a machine is seen to live. While the machine is
// on it answers; after that it does not even refuse, as a machine without power
// does: its queue is full, so that the kernel drops who knocks.
type door struct {
	l     *net.TCPListener
	stuck []net.Conn
	idle  chan struct{} // closed when nobody accepts
}

func newDoor() (*door, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for probes: %w", err)
	}
	d := &door{l: l.(*net.TCPListener), idle: make(chan struct{})}
	close(d.idle)
	return d, nil
}

// queue sets how many may wait at the door: a second listen does only that.
func (d *door) queue(n int) {
	raw, err := d.l.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { _ = syscall.Listen(int(fd), n) })
	}
}

func (d *door) addr() string { return d.l.Addr().String() }

// open answers from now on.
func (d *door) open() {
	for _, c := range d.stuck {
		_ = c.Close()
	}
	d.stuck = nil
	d.queue(128)
	_ = d.l.SetDeadline(time.Time{})
	idle := make(chan struct{})
	d.idle = idle
	go func() {
		defer close(idle)
		for {
			c, err := d.l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
}

// shut answers no more.
func (d *door) shut() {
	_ = d.l.SetDeadline(time.Unix(1, 0)) // ends Accept
	<-d.idle
	d.queue(0)
	for range 8 {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.addr())
		cancel()
		if err != nil {
			return
		}
		d.stuck = append(d.stuck, c)
	}
}

func (d *door) close() {
	_ = d.l.Close()
	<-d.idle
	for _, c := range d.stuck {
		_ = c.Close()
	}
}
