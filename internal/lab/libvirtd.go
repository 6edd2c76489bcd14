package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

// LibvirtSocket is the host's libvirt socket, reachable from outside the host.
// It changes with every power on; "" while the host is off.
func (l *Lab) LibvirtSocket(n int) string {
	if root := l.HostRoot(n); root != "" {
		return root + "/run/libvirt/libvirt-sock"
	}
	return ""
}

// LibvirtTCP is where the host's libvirtd listens, from inside the lab's data
// network (see [Lab.ManagerDial]).
func (l *Lab) LibvirtTCP(n int) string {
	return net.JoinHostPort(l.HostAddr(n), fmt.Sprint(libvirtdPort))
}

// ConnectURI is the libvirt URI for virsh outside the host; it is valid until
// the host loses power.
func (l *Lab) ConnectURI(n int) string {
	return "qemu:///system?socket=" + l.LibvirtSocket(n)
}

// Libvirt runs f on a fresh connection to the host's qemu driver, from outside
// the host, and closes it. When ctx ends first the connection is closed under
// f, whose calls then fail.
func (l *Lab) Libvirt(ctx context.Context, n int, f func(*libvirt.Libvirt) error) error {
	path := l.LibvirtSocket(n)
	if path == "" {
		return fmt.Errorf("connect to libvirtd of h%d: the host is off", n)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("connect to libvirtd of h%d: %w", n, err)
	}
	defer conn.Close()
	// go-libvirt has no deadlines: the only way to end a call is to close its connection.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c := libvirt.NewWithDialer(dialers.NewAlreadyConnected(conn))
	err = c.ConnectToURI(libvirt.QEMUSystem)
	if err == nil {
		err = f(c)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("talk to libvirtd of h%d: %w", n, err)
	}
	return nil
}

// WaitLibvirtd blocks until the host's libvirtd answers a real call; an open
// port is not enough, drivers start later. At most 30 s.
func (l *Lab) WaitLibvirtd(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		// Each try is short, because a half-started daemon may never answer.
		try, done := context.WithTimeout(ctx, 3*time.Second)
		err := l.Libvirt(try, n, func(c *libvirt.Libvirt) error {
			_, _, err := c.ConnectListAllDomains(1, 0)
			return err
		})
		done()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			raw, _ := os.ReadFile(filepath.Join(l.opts.Dir, fmt.Sprintf("h%d/libvirtd.out", n)))
			return fmt.Errorf("wait for libvirtd of h%d: %w (its last words: %s)", n, err, lastLine(raw))
		case <-time.After(pollEvery):
		}
	}
}

// StopLibvirtd kills the host's libvirtd; guests run on. Its clients see the
// connection closed. It is not started again by itself.
func (l *Lab) StopLibvirtd(n int) error {
	h, err := l.host(n)
	if err != nil {
		return fmt.Errorf("stop libvirtd: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life == nil {
		return fmt.Errorf("stop libvirtd: %s is off", h.name)
	}
	h.life.libvirtd.stop()
	l.logf("%s: libvirtd killed", h.name)
	return nil
}

// StartLibvirtd starts the host's libvirtd when it does not run. It does not
// wait until it answers.
func (l *Lab) StartLibvirtd(n int) error {
	h, err := l.host(n)
	if err != nil {
		return fmt.Errorf("start libvirtd: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.life
	if v == nil {
		return fmt.Errorf("start libvirtd: %s is off", h.name)
	}
	if v.libvirtd.running() {
		return nil
	}
	if v.libvirtd, err = l.startLibvirtd(h, v); err != nil {
		return err
	}
	l.logf("%s: libvirtd started", h.name)
	return nil
}

func (l *Lab) startLibvirtd(h *host, v *life) (*child, error) {
	// A killed predecessor left its pid file, and pids repeat soon in a small namespace.
	err := os.Remove(fmt.Sprintf("/proc/%d/root/run/libvirtd.pid", v.pid()))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("start libvirtd: %w", err)
	}
	out, err := logFile(filepath.Join(h.dir, "libvirtd.out"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(tool("libvirtd"), "--listen", "-f", "/etc/libvirt/libvirtd.conf")
	cmd.Env = baseEnv()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := startIn(hostRefs(v.pid(), h.port.netns), cmd); err != nil {
		return nil, fmt.Errorf("start libvirtd: %w", err)
	}
	return reap(cmd), nil
}
