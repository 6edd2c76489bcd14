package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var errClosed = errors.New("the lab is closed")

// PowerOn boots a host: fresh namespaces, a new boot id, libvirtd and, when the
// machine is shared, the managers' network. It returns when the host runs and
// libvirtd is starting; [Lab.WaitLibvirtd] waits for the rest. A host that is
// on stays on.
func (l *Lab) PowerOn(ctx context.Context, n int) error {
	h, err := l.host(n)
	if err != nil {
		return fmt.Errorf("power on: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return l.powerOn(ctx, h)
}

func (l *Lab) powerOn(ctx context.Context, h *host) error {
	if h.life != nil {
		return nil
	}
	select {
	case <-l.closed:
		return fmt.Errorf("power on %s: %w", h.name, errClosed)
	default:
	}
	v, err := l.boot(ctx, h)
	if err != nil {
		if v != nil {
			h.life = v
			err = errors.Join(err, l.powerCut(h))
		}
		return fmt.Errorf("power on %s: %w", h.name, err)
	}
	h.life = v
	h.powered.Store(true)
	l.logf("%s on, boot %s", h.name, v.bootID)
	l.boots.Go(func() { l.watchInit(h, v) })
	if boot := l.onBoot; boot != nil {
		l.boots.Go(func() { boot(h.n) })
	}
	return nil
}

// OnBoot calls f with the number of every host that has power now, and after
// every power on from now on, whoever pressed the button; each time on a
// goroutine of its own, once the host's libvirtd is starting. It plays the part
// of systemd: f starts the host's agent. A second call replaces f. [Lab.Close]
// waits for what f does, after everything in the hosts has been killed.
func (l *Lab) OnBoot(f func(host int)) {
	for _, h := range l.hosts {
		h.mu.Lock()
		defer h.mu.Unlock()
	}
	l.onBoot = f
	for _, h := range l.hosts {
		if h.life != nil {
			l.boots.Go(func() { f(h.n) })
		}
	}
}

// boot starts a power cycle. With an error it returns what has to be undone.
func (l *Lab) boot(ctx context.Context, h *host) (*life, error) {
	if err := l.writeHostFiles(h); err != nil {
		return nil, err
	}
	v := &life{bootID: randomUUID()}
	if err := l.net.plug(ctx, h.cables()...); err != nil {
		return v, err
	}
	var err error
	if v.watchdog, err = l.startWatchdog(h); err != nil {
		return v, err
	}
	if v.init, err = l.startInit(h, v.bootID); err != nil {
		return v, err
	}
	if v.pidns, err = nsID(v.pid(), "pid"); err != nil {
		return v, err
	}
	v.libvirtd, err = l.startLibvirtd(h, v)
	return v, err
}

// startInit starts PID 1 of a host and waits until it has built its view of the
// file system.
func (l *Lab) startInit(h *host, bootID string) (*child, error) {
	env, err := helperEnv(modeHostInit, initConfig{
		Name: h.name, Dir: h.dir, BootID: bootID,
		WatchdogSocket: l.watchdogSocket(h), Loops: l.loopNumbers(),
	})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = "lifeboat-lab-" + h.name
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true, // the operator's Ctrl-C is not a power loss
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	return startReady(netnsRef(h.port.netns), cmd, filepath.Join(h.dir, "init.log"))
}

// PowerCut is a power loss: first the cable goes dead, then everything at once,
// including managers on the same machine. No FIN, no RST, no shutdown. A host
// that is off stays off. It blocks until nothing of the host runs.
func (l *Lab) PowerCut(_ context.Context, n int) error {
	h, err := l.host(n)
	if err != nil {
		return fmt.Errorf("cut power: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return l.powerCut(h)
}

// powerCut does not take a context: half a power loss would be no test of anything.
func (l *Lab) powerCut(h *host) error {
	v := h.life
	if v == nil {
		return nil
	}
	h.life = nil
	ctx := context.Background()
	errs := []error{l.net.cut(ctx, h.cables()...)}
	v.watchdog.stop()
	if v.init != nil {
		_ = v.init.cmd.Process.Kill() // fails only when it is dead already
		if v.pidns != "" {
			errs = append(errs, killAll("pid", []string{v.pidns}, 10*time.Second))
		}
	}
	v.libvirtd.stop()
	// Nothing else lives in the machine's network namespaces; their removal makes the kernel
	// forget the connections.
	for _, p := range h.cables() {
		if id, err := netnsID(p.netns); err == nil {
			errs = append(errs, killAll("net", []string{id}, 10*time.Second))
		}
	}
	h.powered.Store(false)
	errs = append(errs, l.net.unplug(ctx, h.cables()...))
	l.logf("%s off", h.name)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cut power of %s: %w", h.name, err)
	}
	return nil
}

// Reset is PowerCut and PowerOn without anybody in between.
func (l *Lab) Reset(ctx context.Context, n int) error {
	h, err := l.host(n)
	if err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := l.powerCut(h); err != nil {
		return err
	}
	return l.powerOn(ctx, h)
}

// watchInit notices a host that ends by itself: reboot(2) inside its PID
// namespace, or a crash of its init.
func (l *Lab) watchInit(h *host, v *life) {
	<-v.init.done
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life != v {
		return // it was us
	}
	// The kernel reports reboot(2) of a PID namespace as death by SIGHUP, and a halt as SIGINT.
	status, _ := v.init.cmd.ProcessState.Sys().(syscall.WaitStatus)
	l.logf("%s went down by itself (%s)", h.name, v.init.cmd.ProcessState)
	if err := l.powerCut(h); err != nil {
		l.logf("%v", err)
		return
	}
	if status.Signaled() && status.Signal() == syscall.SIGHUP {
		if err := l.powerOn(context.Background(), h); err != nil && !errors.Is(err, errClosed) {
			l.logf("%v", err)
		}
	}
}

// Freeze stops every process of the host with SIGSTOP: TCP connections to it
// still open, and nothing ever answers. Its watchdog runs on.
func (l *Lab) Freeze(n int) error { return l.signalHost(n, unix.SIGSTOP, "frozen") }

// Thaw lets a frozen host go on as if nothing had happened.
func (l *Lab) Thaw(n int) error { return l.signalHost(n, unix.SIGCONT, "thawed") }

func (l *Lab) signalHost(n int, sig unix.Signal, done string) error {
	h, err := l.host(n)
	if err != nil {
		return fmt.Errorf("signal host: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life == nil {
		return fmt.Errorf("signal host: %s is off", h.name)
	}
	seen := make(map[int]bool)
	for range 10 { // a process may fork while we go through the list
		fresh := 0
		for _, pid := range livePIDs("pid", h.life.pidns) {
			if !seen[pid] {
				seen[pid] = true
				fresh++
				_ = unix.Kill(pid, sig) // it may have ended meanwhile
			}
		}
		if fresh == 0 {
			break
		}
	}
	l.logf("%s %s", h.name, done)
	return nil
}

func randomUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // documented never to fail
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return formatUUID(b)
}

func formatUUID(b [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// startReady starts a helper that says "ready" on descriptor 3 once it works.
// Its output goes to the log file.
func startReady(refs []nsRef, cmd *exec.Cmd, logPath string) (*child, error) {
	out, err := logFile(logPath)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{w}
	err = startIn(refs, cmd)
	w.Close()
	if err != nil {
		return nil, fmt.Errorf("start helper: %w", err)
	}
	c := reap(cmd)
	_ = r.SetReadDeadline(time.Now().Add(20 * time.Second)) // pipes support it
	if n, _ := r.Read(make([]byte, 8)); n == 0 {
		c.stop()
		tail, _ := os.ReadFile(logPath)
		return nil, fmt.Errorf("start helper %s: it did not become ready: %s", cmd.Args[0], lastLine(tail))
	}
	return c, nil
}

// sayReady is the other end of startReady.
func sayReady() {
	f := os.NewFile(3, "ready")
	_, _ = f.WriteString("ready\n") // the lab may be gone
	_ = f.Close()
}
