package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
)

// crashEnv makes this test binary a lab that never closes; see TestCrashedLab.
const crashEnv = "LAB_TEST_CRASH"

func TestMain(m *testing.M) {
	MaybeInit()
	if prefix := os.Getenv(crashEnv); prefix != "" {
		crashMain(prefix)
	}
	if request := os.Getenv(fenceEnv); request != "" {
		fenceMain(request)
	}
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "close shared lab:", err)
		code = 1
	}
	os.Exit(code)
}

// sharedLab is one lab for all tests that leave it as they found it.
type sharedLab struct {
	once sync.Once
	lab  *Lab
	err  error
	log  logBuffer
}

var shared sharedLab

func (s *sharedLab) close() error {
	if s.lab == nil {
		return nil
	}
	return s.lab.Close()
}

// repair undoes what a failed test has left, so that the next one is not blamed.
func (s *sharedLab) repair(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	for n := 1; n <= 3; n++ {
		for _, err := range []error{s.lab.BMCHeal(n), s.lab.BMCUp(ctx, n), s.lab.Heal(ctx, n), s.lab.Reset(ctx, n), s.lab.WaitLibvirtd(ctx, n)} {
			if err != nil {
				t.Errorf("repair h%d: %v", n, err)
			}
		}
	}
}

// logBuffer keeps the lab's log for the test that fails.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// theLab returns the shared lab: three hosts, three managers of which m3 lives
// on h3's machine. LAB_TEST_DIR keeps its logs.
func theLab(t *testing.T) *Lab {
	t.Helper()
	Require(t)
	s := &shared
	s.once.Do(func() {
		s.lab, s.err = New(context.Background(), Options{
			Prefix: "labtest", Dir: os.Getenv("LAB_TEST_DIR"), Hosts: 3, Managers: 3, ManagerOn: map[int]int{3: 3}, Log: &s.log,
		})
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	start := len(s.log.String())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the lab's log of this test:\n%s", s.log.String()[start:])
			s.repair(t)
		}
	})
	return s.lab
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls, as everything here happens in other processes.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("after %v: not yet: %s", within, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// bootHost makes sure that a host is on and answers.
func bootHost(t *testing.T, l *Lab, n int) {
	t.Helper()
	must(t, l.PowerOn(t.Context(), n))
	must(t, l.WaitLibvirtd(t.Context(), n))
}

// startGuest starts a transient guest and returns libvirt's error.
func startGuest(t *testing.T, l *Lab, n int, g GuestSpec) error {
	t.Helper()
	text, err := l.DomainXML(g)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	return l.Libvirt(ctx, n, func(c *libvirt.Libvirt) error {
		_, err := c.DomainCreateXML(text, 0)
		return err
	})
}

func stopGuest(t *testing.T, l *Lab, n int, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 15*time.Second)
	defer cancel()
	must(t, l.Libvirt(ctx, n, func(c *libvirt.Libvirt) error {
		d, err := c.DomainLookupByName(name)
		if err != nil {
			return err
		}
		// A libvirtd that is still taking over its predecessor's guests loses this one to us
		// and then reports that it does not know it.
		if err := c.DomainDestroy(d); !libvirt.IsNotFound(err) {
			return err
		}
		return nil
	}))
}

// guests lists what runs on a host.
func guests(t *testing.T, l *Lab, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var names []string
	must(t, l.Libvirt(ctx, n, func(c *libvirt.Libvirt) error {
		doms, _, err := c.ConnectListAllDomains(1, libvirt.ConnectListDomainsActive)
		for _, d := range doms {
			names = append(names, d.Name)
		}
		return err
	}))
	return names
}

// inHost runs a program in a host to its end.
func inHost(t *testing.T, l *Lab, n int, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(tool(name), args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, l.RunIn(n, cmd))
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s in h%d: %v: %s", name, n, err, out.String())
	}
	return strings.TrimSpace(out.String())
}
