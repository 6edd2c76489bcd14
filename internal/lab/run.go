package lab

import (
	"context"
	"fmt"
	"net"
	"os/exec"
)

// RunIn starts cmd inside the host, in all its namespaces; it dies with the
// host. The caller waits for it. The working directory is / unless cmd.Dir says
// otherwise; the environment is cmd.Env, or the caller's.
func (l *Lab) RunIn(n int, cmd *exec.Cmd) error {
	h, err := l.host(n)
	if err != nil {
		return fmt.Errorf("run in host: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life == nil {
		return fmt.Errorf("run %s in %s: the host is off", cmd.Path, h.name)
	}
	if err := startIn(hostRefs(h.life.pid(), h.port.netns), cmd); err != nil {
		return fmt.Errorf("run %s in %s: %w", cmd.Path, h.name, err)
	}
	return nil
}

// RunInManager starts cmd with the manager's network. When the manager shares a
// host's machine, cmd runs in that host's other namespaces and dies with it;
// otherwise only its network is special. The caller waits for it.
func (l *Lab) RunInManager(n int, cmd *exec.Cmd) error {
	m, err := l.manager(n)
	if err != nil {
		return fmt.Errorf("run in manager: %w", err)
	}
	refs := netnsRef(m.ports[0].netns)
	if m.host != nil {
		m.host.mu.Lock()
		defer m.host.mu.Unlock()
		if m.host.life == nil {
			return fmt.Errorf("run %s in %s: its machine %s is off", cmd.Path, m.name, m.host.name)
		}
		refs = hostRefs(m.host.life.pid(), m.ports[0].netns)
	}
	if err := startIn(refs, cmd); err != nil {
		return fmt.Errorf("run %s in %s: %w", cmd.Path, m.name, err)
	}
	return nil
}

// ManagerDial opens a connection from the manager's network, for a program
// outside the lab. addr is a literal IP and port.
func (l *Lab) ManagerDial(ctx context.Context, n int, network, addr string) (net.Conn, error) {
	m, err := l.manager(n)
	if err != nil {
		return nil, fmt.Errorf("dial from manager: %w", err)
	}
	var conn net.Conn
	err = inNamespaces(netnsRef(m.ports[0].netns), func() error {
		// One literal address is dialled on the calling goroutine, hence in the namespace.
		var d net.Dialer
		var err error
		conn, err = d.DialContext(ctx, network, addr)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dial %s from %s: %w", addr, m.name, err)
	}
	return conn, nil
}
