package lab

import (
	"context"
	"fmt"
)

// Isolate cuts the data cable of the host's machine: it sees no carrier, guests
// run on. It holds over reboots. BMC and a shared manager's BMC cable are not
// touched.
func (l *Lab) Isolate(ctx context.Context, n int) error {
	return l.faultHost(ctx, n, "isolated", func(p *port) { p.isolated = true })
}

// Blackhole drops everything to and from the host's machine silently: it still
// sees a carrier. It holds over reboots.
func (l *Lab) Blackhole(ctx context.Context, n int) error {
	return l.faultHost(ctx, n, "blackholed", func(p *port) { p.blackholed = true })
}

// Heal ends Isolate and Blackhole.
func (l *Lab) Heal(ctx context.Context, n int) error {
	return l.faultHost(ctx, n, "healed", func(p *port) { p.isolated, p.blackholed = false, false })
}

func (l *Lab) faultHost(ctx context.Context, n int, done string, edit func(*port)) error {
	h, err := l.host(n)
	if err != nil {
		return fmt.Errorf("change network: %w", err)
	}
	if err := l.net.change(ctx, edit, h.dataCables()...); err != nil {
		return err
	}
	l.logf("%s %s", h.name, done)
	return nil
}

// IsolateManager cuts a manager's cables, both data and BMC.
func (l *Lab) IsolateManager(ctx context.Context, n int) error {
	return l.faultManager(ctx, n, "isolated", true)
}

// HealManager ends IsolateManager.
func (l *Lab) HealManager(ctx context.Context, n int) error {
	return l.faultManager(ctx, n, "healed", false)
}

func (l *Lab) faultManager(ctx context.Context, n int, done string, isolated bool) error {
	m, err := l.manager(n)
	if err != nil {
		return fmt.Errorf("change network: %w", err)
	}
	if err := l.net.change(ctx, func(p *port) { p.isolated = isolated }, m.ports...); err != nil {
		return err
	}
	l.logf("%s %s", m.name, done)
	return nil
}

// Partition drops everything between two machines of the data network, named
// like h1 and m2, silently and in both directions. It holds over reboots.
func (l *Lab) Partition(ctx context.Context, a, b string) error {
	if err := l.net.partition(ctx, a, b, true); err != nil {
		return err
	}
	l.logf("%s and %s partitioned", a, b)
	return nil
}

// HealPartition ends Partition. Healing what is whole is fine.
func (l *Lab) HealPartition(ctx context.Context, a, b string) error {
	if err := l.net.partition(ctx, a, b, false); err != nil {
		return err
	}
	l.logf("%s and %s joined", a, b)
	return nil
}
