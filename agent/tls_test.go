package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/hypervisor/mem"
	"lifeboat/transport"
	"lifeboat/transport/pki"
)

// From the configuration file to a running VM and a goodbye, over mutual TLS on
// real sockets.
func TestOverTheNetwork(t *testing.T) {
	dir := t.TempDir()
	ca, err := pki.CreateCA(filepath.Join(dir, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	issue := func(kind transport.Kind, name string) transport.Files {
		leaf, err := ca.Issue(transport.Identity{Kind: kind, Name: name}, pki.IssueOptions{})
		if err != nil {
			t.Fatal(err)
		}
		files, err := leaf.Write(filepath.Join(dir, "ca"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	creds := func(f transport.Files) *transport.Credentials {
		c, err := transport.LoadCredentials(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	l, err := transport.Listen(t.Context(), "127.0.0.1:0", creds(issue(transport.KindNode, "n1")), transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := newManagers()
	mux := http.NewServeMux()
	mux.Handle(lifeboatv1connect.NewAgentServiceHandler(manager{m, "m1"}))
	srv := transport.NewHTTPServer(mux, nil)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l.HTTP()) }()
	defer func() {
		srv.Close()
		l.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()

	h1 := issue(transport.KindHost, "h1")
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	write("boot", "boot-1\n")
	write("machine", "machine-1\n")
	config := func(id string) string {
		return write(id+".yaml", fmt.Sprintf(`host_id: %s
managers: ["%s"]
cert: %s
key: %s
ca: %s
hypervisor: "mem:"
state_dir: state
run_dir: run
boot_id_file: boot
machine_id_file: machine
watchdog: {kind: soft}
`, id, l.Addr(), h1.Cert, h1.Key, h1.CA))
	}
	f, err := LoadConfig(config("h1"))
	if err != nil {
		t.Fatal(err)
	}
	hv := mem.NewHost(mem.Options{Name: "h1"})
	defer hv.Close()
	c, err := Build(f, Deps{Credentials: creds(f.Files()), Hypervisor: hv, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	c.MachineStopping = func(context.Context) bool { return false }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Run(ctx, c) }()
	m.await(t, "registered", func() bool { return m.last != nil })
	m.start(vmID(1), "vm1", vmXML(t, 1), 8)
	m.await(t, "vm1 is on", func() bool {
		v := find(m.last.Vms, vmID(1))
		return v.GetPower() == on && v.Incarnation == 8
	})
	cancel()
	if err := <-done; err != nil || m.left == nil {
		t.Errorf("clean stop: %v, goodbye %v", err, m.left)
	}

	wrong, err := LoadConfig(config("h2"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Build(wrong, Deps{Credentials: creds(f.Files()), Hypervisor: hv}); err == nil || !strings.Contains(err.Error(), "host_id") {
		t.Errorf("the certificate of another host: %v", err)
	}
}

// await waits for something in the state, woken by every report.
func (m *managers) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		m.mu.Lock()
		if ok() {
			m.mu.Unlock()
			return
		}
		heard := m.heard
		m.mu.Unlock()
		select {
		case <-heard:
		case <-limit:
			t.Fatalf("after 20s still not: %s", what)
		}
	}
}

// Probes over real sockets: a listener, and a port that nobody listens on.
func TestProbe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := l.Addr().String()
	shut, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := shut.Addr().String()
	shut.Close()
	defer l.Close()
	for want, addr := range map[string]string{"ALIVE": open, "REFUSED": closed, "UNSPECIFIED": "nowhere"} {
		if got := dialProbe(t.Context(), addr).Verdict.String(); got != "PROBE_VERDICT_"+want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}
