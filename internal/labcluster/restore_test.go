package labcluster

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/internal/lab"
)

// lifeboat runs the program on a management node's machine, as an operator does.
func (s *story) lifeboat(args ...string) string {
	s.Helper()
	cert := func(kind string) string { return filepath.Join(s.pki, "operator-lab."+kind) }
	var addrs []string
	for m := 1; m <= managers; m++ {
		addrs = append(addrs, s.ServerAddr(m))
	}
	args = append(args, "--addr", strings.Join(addrs, ","), "--cert", cert("crt"), "--key", cert("key"), "--ca", filepath.Join(s.pki, "ca.crt"))
	out, err := s.Lab.ExecInManager(s.ctx, 1, s.opts.Binary, args...)
	if err != nil {
		s.Fatalf("lifeboat %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// where guests run, by the kernel's word, and in which boot: what a restore must not
// change. The state's word is another, until they have been adopted.
func (s *story) where() map[string]string {
	s.Helper()
	out := map[string]string{}
	for _, g := range s.Guests {
		on := s.Lab.Copies(g)
		if len(on) != 1 {
			s.Fatalf("guest %s has a process on hosts %v", g, on)
		}
		b, ok, err := s.Lab.LastBeat(on[0], g)
		s.must(err)
		if !ok {
			s.Fatalf("guest %s has never beaten on h%d", g, on[0])
		}
		out[g] = place(on[0], b)
	}
	return out
}

func place(host int, b lab.Beat) string { return fmt.Sprintf("h%d, boot %s", host, b.Boot) }

// S22 with real guests: a snapshot taken before ten VMs moved is restored. None of
// them is touched, not before HA is armed and not after; and then a host dies.
func TestS22RestoreTouchesNoGuest(t *testing.T) {
	if os.Getenv(lab.RequireEnv) != "1" {
		t.Skipf("takes minutes; `make test-lab` runs it (%s=1)", lab.RequireEnv)
	}
	lab.Require(t)
	const hosts, guests = 2, 10
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	program, err := shared.program(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var log syncBuffer
	c, err := Up(ctx, Options{Lab: lab.Options{Prefix: "clutest-r", Hosts: hosts, Managers: managers, Log: &log}, Binary: program, Guests: guests, Levels: []string{"ipmi"}})
	if err != nil {
		t.Fatalf("bring the cluster up: %v\n%s", err, log.String())
	}
	s := &story{T: t, Cluster: c, ctx: ctx}
	defer func() {
		if err := c.checkSplitBrains(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			s.lamentEvents(log.String())
		}
		if err := c.Close(); err != nil {
			t.Errorf("close the cluster: %v", err)
		}
	}()
	defer s.watch()()

	file := filepath.Join(t.TempDir(), "before.lifeboat")
	s.must(os.Chmod(filepath.Dir(file), 0o755))
	t.Log(s.lifeboat("snapshot", "save", file))
	before := s.where()
	for n := 1; n <= hosts; n++ { // so that each of them has moved
		s.must(s.Lab.PowerCut(ctx, n))
		s.within(90*time.Second, fmt.Sprintf("all guests have left h%d", n), func() bool {
			for _, g := range s.Guests {
				if on := s.Lab.Copies(g); len(on) != 1 || on[0] == n {
					return false
				}
			}
			return true
		})
		s.must(s.settled(ctx))
		s.must(s.Lab.PowerOn(ctx, n))
		s.must(s.Lab.WaitLibvirtd(ctx, n))
		s.isUp(n, 60*time.Second)
		s.must(s.Ready(ctx))
	}
	for _, g := range s.Guests { // it may be back where it was before, and beats there in a new boot
		s.within(2*time.Minute, g+" beats where it is now", func() bool {
			on := s.Lab.Copies(g)
			if len(on) != 1 {
				return false
			}
			b, ok, err := s.Lab.LastBeat(on[0], g)
			return err == nil && ok && place(on[0], b) != before[g]
		})
	}
	at := s.where()

	said := s.lifeboat("snapshot", "restore", file, "--yes")
	t.Log(said)
	s.begin = s.lastEvent()
	s.must(s.WaitHosts(ctx, "Up"))
	quiet := func(d time.Duration, when string) {
		s.during(d, func() {
			s.never("HOST.DOWN", "HOST.FENCE.ATTEMPT", "VM.START.ORDER")
			if now := s.where(); !maps.Equal(now, at) {
				t.Fatalf("%s guests were touched: %v, before %v", when, now, at)
			}
		})
	}
	quiet(10*time.Second, "before HA is armed")
	s.lifeboat("ha", "arm")
	quiet(15*time.Second, "after HA is armed")
	s.must(s.Ready(ctx))

	moving := s.Lab.Guests(2)
	if len(moving) == 0 {
		moving = s.Lab.Guests(1)
	}
	victim := s.Lab.Copies(moving[0])[0]
	s.must(s.Lab.PowerCut(ctx, victim))
	took := s.within(60*time.Second, "the guests of the dead host run elsewhere", func() bool {
		for _, g := range moving {
			if on := s.Lab.Copies(g); len(on) != 1 || on[0] == victim {
				return false
			}
		}
		return true
	})
	t.Logf("%d guests of h%d run elsewhere %.1f s after its death", len(moving), victim, took.Seconds())
}

// lamentEvents shows what happened.
func (s *story) lamentEvents(log string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s.Logf("the lab's log:\n%s", log)
	events, err := s.Events(ctx, 0)
	text := ""
	for _, e := range events {
		text += fmt.Sprintf("%s %s %s\n", time.Unix(0, e.TimeUnixNs).UTC().Format("15:04:05.00"), e.Type, e.Text)
	}
	s.Logf("events (%v):\n%s", err, text)
}
