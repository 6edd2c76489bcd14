package session

import (
	"errors"
	"testing"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

func TestProbesAreAskedOnceAndKept(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	ask := func(r *lifeboatv1.ReportResponse) {
		r.Probes = []*lifeboatv1.Probe{{HostId: "h2", Addrs: []string{"h2:22"}, Nonce: 7}}
	}
	b.answer(ask)
	act[Probe](b)
	b.pass(time.Second)
	b.answer(ask)
	b.nothing("it is under way")
	b.take(b.s.Probed(b.now, &lifeboatv1.ProbeResult{HostId: "h2", Nonce: 7, Verdict: lifeboatv1.ProbeVerdict_PROBE_VERDICT_ALIVE}))
	for range 2 { // the first report with the result is lost
		b.next()
		if len(b.last.Req.Probes) != 1 {
			t.Fatalf("reported probes %v", b.last.Req.Probes)
		}
		b.take(b.s.SendFailed(b.now, b.last.Req.Seq+1000, Failure{Err: errors.New("of another report")}))
		b.take(b.s.SendFailed(b.now, b.last.Req.Seq, Failure{Err: errors.New("lost")}))
	}
	b.pass(2 * time.Second)
	b.answer()
	b.pass(2 * time.Second)
	if len(b.last.Req.Probes) != 0 {
		t.Errorf("reported again: %v", b.last.Req.Probes)
	}
}

func TestLostStorageIsReportedDown(t *testing.T) {
	b := newBench(t, Ledger{})
	b.inv.Storages = []hypervisor.Storage{
		{Name: "images", Kind: "netfs", Path: "/mnt/vms", Source: "nfs1:/vms", Shared: true},
		{Name: "local", Kind: "dir", Path: "/var/lib/libvirt/images"},
	}
	b.boot()
	b.pass(100 * time.Millisecond)
	if st := b.last.Req.Storages; len(st) != 1 || st[0].Id != "nfs1:/vms@/mnt/vms" || !st[0].Up {
		t.Fatalf("reported %v", st)
	}
	b.answer()
	b.inv.Storages = nil
	b.pass(61 * time.Second)
	if st := b.last.Req.Storages; len(st) != 1 || st[0].Up {
		t.Errorf("reported %v", st)
	}
}

func TestManagersAreLearnedAndFollowed(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.answer(func(r *lifeboatv1.ReportResponse) {
		r.Managers = []*lifeboatv1.Manager{{Id: "n1", Addr: "m1"}, {Id: "n2", Addr: "m2"}, {Id: "n3", Addr: "m3"}}
		r.LeaderId, r.LeaderAddr = "n2", "m2"
	})
	b.pass(time.Second)
	if b.last.To.Addr == "m2" {
		t.Fatal("a crowd goes to a leader that has just been elected")
	}
	b.answer(func(r *lifeboatv1.ReportResponse) { r.LeaderId, r.LeaderAddr = "n2", "m2" })
	b.pass(time.Second)
	if b.last.To.Addr != "m2" || len(b.disk.Managers) != 3 {
		t.Fatalf("reports go to %v, on disk are %v", b.last.To, b.disk.Managers)
	}
	b.take(b.s.SendFailed(b.now, b.last.Req.Seq, Failure{Err: errors.New("dead")}))
	b.pass(time.Second)
	if b.last.To.Addr == "m2" {
		t.Error("reports still go to the dead leader")
	}
	b.answer(func(r *lifeboatv1.ReportResponse) { r.LeaderAddr = "m2" })
	b.pass(2 * time.Second)
	if b.last.To.Addr == "m2" {
		t.Error("a node says that the dead leader leads, and is believed at once")
	}
}

// A manager that knows of no leader is asked again over the connection that there is;
// when it keeps saying so, the others are asked.
func TestAManagerWithoutALeaderIsAskedAgain(t *testing.T) {
	b := newBench(t, Ledger{})
	b.cfg.Managers = []Manager{{Addr: "m1"}, {Addr: "m2"}, {Addr: "m3"}}
	b.boot()
	b.pass(100 * time.Millisecond)
	b.answer(func(r *lifeboatv1.ReportResponse) {})
	b.pass(time.Second)
	var asked []string
	var pauses []time.Duration
	for range 7 * aimlessMax {
		asked = append(asked, b.last.To.Addr)
		began, seq := b.now, b.last.Req.Seq
		b.take(b.s.SendFailed(b.now, seq, Failure{Err: errors.New("no leader"), NoLeader: true}))
		for b.last.Req.Seq == seq && b.now.Sub(began) < time.Minute {
			b.pass(10 * time.Millisecond)
		}
		pauses = append(pauses, b.now.Sub(began))
	}
	for i, m := range asked {
		if m != asked[i/aimlessMax*aimlessMax] || i >= aimlessMax && m == asked[i-aimlessMax] {
			t.Fatalf("asked %v: each one %d times, then another one", asked, aimlessMax)
		}
	}
	within := func(from, to, low, high int) {
		var sum time.Duration
		for _, d := range pauses[from:to] {
			sum += d
		}
		if sum < time.Duration(low)*time.Millisecond || sum > time.Duration(high)*time.Millisecond {
			t.Errorf("asks %d to %d took %s, expected %d to %d ms: %v", from, to, sum, low, high, pauses)
		}
	}
	within(0, aimlessMax-1, 150, 480) // half a beat at most, until all have failed
	within(6*aimlessMax, 7*aimlessMax-1, 500, 3100)
}

// All agents lose their connections to a manager that dies at the same moment, and come
// to the next one over a beat; but who had waited for an answer for long comes sooner, or
// it would be missed. Silence they notice each at its own time.
func TestABrokenConnectionIsSpread(t *testing.T) {
	pauses := func(waited time.Duration, silent bool) (longest time.Duration) {
		for seed := range uint64(50) {
			b := newBench(t, Ledger{})
			b.cfg.Managers = []Manager{{Addr: "m1"}, {Addr: "m2"}, {Addr: "m3"}}
			b.cfg.Seed = seed
			b.boot()
			b.pass(100 * time.Millisecond)
			b.answer(func(r *lifeboatv1.ReportResponse) { r.BeatMs = 10_000 })
			b.pass(waited)
			began, seq := b.now, b.last.Req.Seq
			b.take(b.s.SendFailed(b.now, seq, Failure{Err: errors.New("reset"), Broken: !silent}))
			for b.last.Req.Seq == seq && b.now.Sub(began) < time.Minute {
				b.pass(50 * time.Millisecond)
			}
			longest = max(longest, b.now.Sub(began))
		}
		return longest
	}
	for waited, most := range map[time.Duration]time.Duration{time.Second: 10 * time.Second, 5 * time.Second: 7500 * time.Millisecond, 10 * time.Second: 2500 * time.Millisecond} {
		if d := pauses(waited, false); d < most*8/10 || d > most+200*time.Millisecond {
			t.Errorf("the last of 50 agents that have waited for %s comes after %v, expected just below %s", waited, d, most)
		}
	}
	if d := pauses(12490*time.Millisecond, true); d > 1700*time.Millisecond {
		t.Errorf("an agent that was not answered for a beat waits another %v", d)
	}
}

func TestDamagedLedger(t *testing.T) {
	b := newBench(t, Ledger{})
	b.s = New(b.cfg, Saved{LedgerErr: errors.New("torn")})
	b.take(b.s.Boot(b.now))
	b.pass(100 * time.Millisecond)
	b.starts(vm1, 8)
	b.pass(5 * time.Second)
	b.nothing("the ledger is damaged")
	if b.unsaved != nil || b.disk.Boot != "" {
		t.Error("it was written over")
	}
	if v := b.vm(vm1); v.Power != stateAbsent && v.Power != stateUnknown {
		t.Errorf("reported %v", v)
	}
}

// An agent that is sent on tries one other manager at a time, and comes back before
// anybody misses it: its host is suspect after three beats. One that was silent is
// left alone for long; one that answers is stayed with.
func TestSentOn(t *testing.T) {
	three := func(t *testing.T) *bench {
		b := newBench(t, Ledger{})
		b.cfg.Managers = []Manager{{Addr: "m1"}, {Addr: "m2"}, {Addr: "m3"}}
		b.boot()
		b.pass(100 * time.Millisecond)
		b.answer(func(r *lifeboatv1.ReportResponse) {})
		return b
	}
	sendOn := func(r *lifeboatv1.ReportResponse) { r.MoveOn = true }
	t.Run("nobody else answers", func(t *testing.T) {
		b := three(t)
		b.pass(time.Second)
		here := b.last.To.Addr
		heard, tries, last := b.now, map[string]int{}, Report{}
		for end := b.now.Add(50 * time.Second); b.now < end; b.pass(10 * time.Millisecond) {
			if b.last.Req == last.Req {
				continue
			}
			last = b.last
			if last.To.Addr != here {
				tries[last.To.Addr]++
				continue
			}
			if gap := b.now.Sub(heard); gap > 2800*time.Millisecond {
				t.Fatalf("nothing was heard for %s", gap)
			}
			heard = b.now
			b.answer(sendOn)
		}
		if len(tries) != 2 || tries["m1"]+tries["m2"]+tries["m3"] != 2 {
			t.Errorf("tried %v, want each of the others once", tries)
		}
	})
	t.Run("another answers", func(t *testing.T) {
		b := three(t)
		b.pass(time.Second)
		here := b.last.To.Addr
		b.answer(sendOn)
		b.pass(time.Second)
		there := b.last.To.Addr
		if there == here {
			t.Fatal("it stays")
		}
		for range 20 {
			b.answer(func(*lifeboatv1.ReportResponse) {})
			b.pass(time.Second)
			if b.last.To.Addr != there {
				t.Fatalf("it goes on to %s", b.last.To.Addr)
			}
		}
	})
}

// An attempt at the leader that nobody answers costs one beat and a half: the next
// report goes to the manager that answered before, not to another one that may be
// dead as well.
func TestBackFromASilentLeader(t *testing.T) {
	b := newBench(t, Ledger{})
	b.cfg.Managers = []Manager{{Addr: "m1"}, {Addr: "m2"}, {Addr: "m3"}}
	b.boot()
	b.pass(100 * time.Millisecond)
	here := b.last.To.Addr
	leader := map[string]string{"m1": "m2", "m2": "m3", "m3": "m1"}[here]
	heard, tries, last := b.now, 0, Report{}
	for end := b.now.Add(30 * time.Second); b.now < end; b.pass(10 * time.Millisecond) {
		if b.last.Req == last.Req {
			continue
		}
		switch last = b.last; last.To.Addr {
		case here:
			if gap := b.now.Sub(heard); gap > 2800*time.Millisecond {
				t.Fatalf("nothing was heard for %s", gap)
			}
			heard = b.now
			b.answer(func(r *lifeboatv1.ReportResponse) { r.LeaderAddr = leader })
		case leader:
			tries++
		default:
			t.Fatalf("it goes to %s", last.To.Addr)
		}
	}
	if tries < 2 || tries > 3 {
		t.Errorf("the leader was tried %d times in 30 s", tries)
	}
}

// At the beat that is the default agents try again soon; ten thousand of them beat
// slowly, and would keep a cluster that elects from electing.
func TestPausesGrowWithTheBeat(t *testing.T) {
	for _, x := range []struct {
		beat        time.Duration
		first, last time.Duration
	}{
		{100 * time.Millisecond, 100 * time.Millisecond, time.Second},
		{time.Second, 100 * time.Millisecond, time.Second},
		{10 * time.Second, time.Second, 5 * time.Second},
		{time.Minute, 6 * time.Second, 30 * time.Second},
	} {
		c := &connState{beat: x.beat}
		if first, last := c.backoff(0), c.backoff(50); first != x.first || last != x.last {
			t.Errorf("at a beat of %s the pauses are %s to %s, want %s to %s", x.beat, first, last, x.first, x.last)
		}
	}
}
