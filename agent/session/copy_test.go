package session

import (
	"testing"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

// S6: a VM that runs again where it was given up was not started by us: it may
// have been migrated here, and is no leftover.
func TestS6BackWhereItWasGivenUp(t *testing.T) {
	for name, tc := range map[string]struct {
		entry Entry
		owned bool
		want  uint64
	}{
		"given up, not owned": {Entry{Incarnation: 8, Phase: PhaseEnded, Refusing: 8, Refused: 8}, false, 0},
		"given up and owned":  {Entry{Incarnation: 8, Phase: PhaseEnded, Refusing: 8, Refused: 8}, true, 8},
		"never given up":      {Entry{Incarnation: 8, Phase: PhaseRunning, Boot: "boot1"}, false, 8},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, Ledger{VMs: map[hypervisor.UUID]Entry{vm1: tc.entry}}).boot()
			b.pass(100 * time.Millisecond)
			b.assign(func(a *lifeboatv1.Assignment) {
				if tc.owned {
					a.Vms = []*lifeboatv1.AssignedVM{own(vm1, 8)}
				}
			})
			b.pass(1100 * time.Millisecond)
			b.set(vm1, hypervisor.StateRunning, hypervisor.ReasonMigrated)
			b.pass(1100 * time.Millisecond)
			if v := b.report(vm1, stateOn); v.Incarnation != tc.want {
				t.Errorf("reported %v, want incarnation %d", v, tc.want)
			}
		})
	}
}

// A report names the report that had been answered when its oldest look began:
// what the agent still repeats from before is not taken for news.
func TestS6ReportsTellHowOldTheyAre(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.set(vm1, hypervisor.StateRunning, hypervisor.ReasonBooted)
	b.pass(100 * time.Millisecond)
	answered := b.last.Req.Seq
	b.answer()
	b.pass(3 * time.Second)
	if got := b.last.Req.LookedAfterSeq; got != answered {
		t.Fatalf("looked after %d, want %d", got, answered)
	}
	b.slowPoll = true // libvirtd hangs
	b.pass(2 * time.Second)
	for range 3 {
		b.answer()
		b.pass(1100 * time.Millisecond)
	}
	if got := b.last.Req.LookedAfterSeq; got >= b.last.Req.Seq-2 {
		t.Fatalf("report %d says it looked after %d", b.last.Req.Seq, got)
	}
	b.slowPoll = false
	b.polled()
	for range 3 {
		b.pass(1100 * time.Millisecond)
		b.answer()
	}
	b.pass(1100 * time.Millisecond)
	if got := b.last.Req.LookedAfterSeq; got < b.last.Req.Seq-2 {
		t.Fatalf("report %d says it looked after %d", b.last.Req.Seq, got)
	}
}
