package fsm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// propose lets n goroutines race to append commands to one log, as concurrent
// requests to a leader do, and applies it on three replicas in batches of
// different sizes. It returns the replicas, which are equal.
func propose(t *testing.T, l *lab, n int, body func(i int) proto.Message) []*Machine {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var log []Entry
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			mu.Lock()
			defer mu.Unlock()
			log = append(log, l.entry(command(body(i))))
		})
	}
	close(start)
	wg.Wait()
	raw := snapshotOf(t, l.state())
	var out []*Machine
	for replica := range 3 {
		m := NewMachine()
		s, err := ReadState(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		m.Restore(s)
		r := rand.New(rand.NewPCG(uint64(replica), 1))
		for rest := log; len(rest) > 0; {
			k := 1 + r.IntN(min(len(rest), 100*(replica+1)))
			m.Apply(rest[:k])
			rest = rest[k:]
		}
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	for _, m := range out[1:] {
		if diff := sameState(out[0].State(), m.State()); diff != "" {
			t.Fatalf("replicas differ:\n%s", diff)
		}
	}
	return out
}

// A thousand observers report the death of one host at once: one alert, one
// work item per VM, on every replica.
func TestThousandReportsOfOneDeadHost(t *testing.T) {
	const vms = 50
	l := fleet(t, 3, vms)
	for _, m := range propose(t, l, 1000, func(i int) proto.Message {
		switch i % 3 {
		case 0:
			return &logpb.HostSuspect{Host: "h1", Epoch: 1, Reason: fmt.Sprintf("observer %d", i)}
		case 1:
			return &logpb.HostFenced{Host: "h1", Epoch: 1, Proof: &logpb.Proof{Kind: uint32(ProofPower), By: "bmc"}}
		}
		return &logpb.HostDown{Host: "h1", Epoch: 1, Reason: fmt.Sprintf("observer %d", i)}
	}) {
		s := m.State()
		down := 0
		for _, a := range s.Alerts() {
			if a.Key == (AlertKey{AlertHost, "h1", "down"}) {
				down++
				if a.Count != 1 {
					t.Errorf("the alert counts %d deaths", a.Count)
				}
			}
		}
		if down != 1 || s.work.len() != vms || s.CountOpenWork() != vms || s.CountOpenAlerts() != 1+vms {
			t.Fatalf("%d alerts about the host, %d work items, %d open, %d open alerts; want 1, %d, %d, %d", down, s.work.len(),
				s.CountOpenWork(), s.CountOpenAlerts(), vms, vms, 1+vms)
		}
	}
}

// A thousand reports of one crash: the sequence orders them, the first counts.
func TestThousandReportsOfOneCrash(t *testing.T) {
	const vms = 20
	l := fleet(t, 2, vms)
	var all []said
	for n := 1; n <= vms; n++ {
		all = append(all, said{vm: n, power: PowerOff, reason: ReasonCrashed, inc: inc(1)})
	}
	for _, m := range propose(t, l, 1000, func(i int) proto.Message {
		return &logpb.HostReports{Reports: []*logpb.HostReport{{Host: "h1", Epoch: 1, Seq: uint64(1 + i), Vms: columns(append([]said(nil), all...)...)}}}
	}) {
		s := m.State()
		if s.work.len() != vms || s.CountOpenWork() != vms || s.CountOpenAlerts() != vms {
			t.Fatalf("%d work items, %d open, %d open alerts; want %d of each", s.work.len(), s.CountOpenWork(), s.CountOpenAlerts(), vms)
		}
		for _, a := range s.Alerts() {
			if a.Count != 1 {
				t.Errorf("%v counts %d", a.Key, a.Count)
			}
		}
	}
}

// A thousand leaders, one after the other, order the same start: one does.
func TestThousandPlacementsOfOneVM(t *testing.T) {
	l := fleet(t, 3, 1)
	l.kill("h1")
	work := uint64(l.vm(1).Work)
	for _, m := range propose(t, l, 1000, func(i int) proto.Message {
		return &logpb.Place{Placements: []*logpb.WorkPlacement{{Work: work, Vm: idBytes(1), Target: fmt.Sprintf("h%d", 2+i%2), Why: "fits"}}}
	}) {
		v, h := m.State().VM(testVM(1))
		w := m.State().Work(v.Work)
		other := map[HostID]HostID{"h2": "h3", "h3": "h2"}[h.ID]
		if v.Incarnation != inc(2) || w.Attempt != 1 || len(m.State().Host(other).Orders) != 0 {
			t.Fatalf("%s", essence(m.State()))
		}
	}
}

// Readers hold states, write snapshots and ask for changes while entries are
// applied: run with -race.
func TestReadersWhileApplying(t *testing.T) {
	_, log := story(t.Fatalf, rand.New(rand.NewPCG(6, 6)).IntN, 150)
	m := NewMachine()
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				s := m.State()
				if err := s.Check(); err != nil {
					t.Error(err)
					return
				}
				if got, err := ReadState(bytes.NewReader(snapshotOf(t, s))); err != nil || got.Sum() != s.Sum() {
					t.Errorf("a snapshot beside Apply: %v", err)
					return
				}
				for id, h := range s.Hosts() {
					s.Changes(h, testVM(1), PowerOn, ReasonNone, 0, 0, 0)
					_ = id
				}
			}
		})
	}
	for _, e := range log {
		m.Apply([]Entry{e})
	}
	close(done)
	wg.Wait()
}
