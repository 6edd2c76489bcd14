package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/anishathalye/porcupine"
	"github.com/hashicorp/raft"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/transport"
	"lifeboat/transport/memnet"
)

// What operators read and write, as a register for each of two settings. A write
// whose outcome nobody knows may take effect at any later time, once; one that was
// refused never does and is left out.
func registers() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			by := map[string][]porcupine.Operation{}
			for _, o := range history {
				key := o.Input.(settingOp).key
				by[key] = append(by[key], o)
			}
			var out [][]porcupine.Operation
			for _, key := range sortedKeys(by) {
				out = append(out, by[key])
			}
			return out
		},
		Init: func() any { return "" }, // whatever it is at the beginning
		Step: func(state, input, output any) (bool, any) {
			op := input.(settingOp)
			if op.value != "" {
				return true, op.value
			}
			is := output.(string)
			return state == "" || state == is, is
		},
		DescribeOperation: func(input, output any) string {
			if op := input.(settingOp); op.value != "" {
				return "set " + op.key + " " + op.value
			}
			return fmt.Sprint("get ", input.(settingOp).key, " ", output)
		},
	}
}

// settingOp sets a key to a value, or reads it.
type settingOp struct{ key, value string }

// ledger is what the clients of a story saw.
type ledger struct {
	mu      sync.Mutex
	history []porcupine.Operation
	values  int
	unknown int
	again   int
}

const never = int64(1) << 62

func (b *ledger) note(client int, op settingOp, out string, call, ret time.Time, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	end := ret.UnixNano()
	if !known {
		end = never
		b.unknown++
	}
	b.history = append(b.history, porcupine.Operation{ClientId: client, Input: op, Call: call.UnixNano(), Output: out, Return: end})
}

// value is one that nobody has written before, and no default.
func (b *ledger) value(key string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.values++
	if key == "max_restart" {
		return strconv.Itoa(100 + b.values%900)
	}
	return (time.Duration(1000+b.values) * time.Second).String()
}

// verdict checks a history outside of virtual time.
func (b *ledger) verdict() porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(registers(), b.history, 20*time.Second)
}

// desk is an operator who asks any node.
type desk struct {
	*ledger
	n      int
	rand   *rand.Rand
	reads  lifeboatv1.Consistency
	ids    bool
	admins []lifeboatv1connect.AdminServiceClient
}

func (d *desk) any() lifeboatv1connect.AdminServiceClient {
	return d.admins[d.rand.IntN(len(d.admins))]
}

const deskPatience = 3 * time.Second

func (d *desk) work(stop <-chan struct{}, t *testing.T) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(d.rand.IntN(300)) * time.Millisecond):
		}
		key := []string{"brake_expiry", "max_restart"}[d.rand.IntN(2)]
		if d.rand.IntN(2) == 0 {
			d.read(key, t)
		} else {
			d.write(key)
		}
	}
}

func (d *desk) read(key string, t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), deskPatience)
	defer cancel()
	call := time.Now()
	r, err := d.any().GetPolicy(ctx, connect.NewRequest(&lifeboatv1.GetPolicyRequest{Consistency: d.reads}))
	if err != nil {
		return // it says nothing of the state
	}
	if a := r.Msg.Answered; a.GetConsistency() != d.reads || a.NodeId == "" || a.Index != r.Msg.Index {
		t.Errorf("asked for %s, answered %v at index %d", d.reads, a, r.Msg.Index)
	}
	for _, s := range r.Msg.Settings {
		if s.Key == key {
			d.note(d.n, settingOp{key: key}, s.Value, call, time.Now(), true)
		}
	}
}

// write sets a key. With a request id it is repeated, at any node, until its outcome
// is known.
func (d *desk) write(key string) {
	op := settingOp{key: key, value: d.value(key)}
	call := time.Now()
	id, unknown := "", false
	if d.ids {
		id = fmt.Sprintf("desk%d-%s", d.n, op.value)
	}
	for try := 0; try == 0 || id != "" && try < 6; try++ {
		ctx, cancel := context.WithTimeout(context.Background(), deskPatience)
		req := connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: op.key, Value: op.value}}})
		if id != "" {
			req.Header().Set(lifeboatv1.HeaderRequestID, id)
		}
		r, err := d.any().SetPolicy(ctx, req)
		cancel()
		if err == nil {
			if r.Msg.DoneBefore {
				d.mu.Lock()
				d.again++
				d.mu.Unlock()
			}
			d.note(d.n, op, "", call, time.Now(), true)
			return
		}
		if code := connect.CodeOf(err); !connect.IsWireError(err) || code != connect.CodeUnavailable && code != connect.CodeFailedPrecondition {
			unknown = true
		}
		time.Sleep(200 * time.Millisecond)
	}
	if unknown {
		d.note(d.n, op, "", call, time.Now(), false)
	}
}

// troubled runs operators against three nodes to which things happen.
func troubled(t *testing.T, seed uint64, reads lifeboatv1.Consistency, length time.Duration) *ledger {
	b := &ledger{}
	var mu sync.Mutex
	disks := map[string]*slowDisk{}
	runWith(t, 3, func(w *world) {
		for id, n := range w.nodes {
			n.faults.logs = func(l raft.LogStore) raft.LogStore {
				mu.Lock()
				defer mu.Unlock()
				disks[id] = &slowDisk{LogStore: l}
				return disks[id]
			}
		}
	}, func(w *world) {
		r := rand.New(rand.NewPCG(seed, 4))
		stop := make(chan struct{})
		var all sync.WaitGroup
		for i := range 4 {
			c, done := w.client("desk", transport.KindOperator, fmt.Sprintf("alice%d", i))
			w.closers = append(w.closers, done)
			d := &desk{ledger: b, n: i, rand: rand.New(rand.NewPCG(seed, uint64(100+i))), reads: reads, ids: i%2 == 0}
			for _, id := range sortedKeys(w.nodes) {
				d.admins = append(d.admins, lifeboatv1connect.NewAdminServiceClient(c, "https://"+w.nodes[id].cfg.Listen))
			}
			all.Go(func() { d.work(stop, w.T) })
		}
		for begin := time.Now(); time.Since(begin) < length; {
			w.trouble(r, func(id string) *slowDisk { mu.Lock(); defer mu.Unlock(); return disks[id] })
		}
		w.leader()
		close(stop)
		all.Wait()
	})
	return b
}

// trouble is one thing that goes wrong for a while, mostly at the leader, and a
// pause that may be too short to recover in.
func (w *world) trouble(r *rand.Rand, disk func(id string) *slowDisk) {
	w.Helper()
	nodes := w.live()
	victim := nodes[r.IntN(len(nodes))]
	if leading := w.serving(); len(leading) > 0 && r.IntN(4) > 0 {
		victim = leading[r.IntN(len(leading))]
	}
	var rest []string
	for _, n := range w.others(victim) {
		rest = append(rest, n.id)
	}
	span := 300*time.Millisecond + time.Duration(r.IntN(3000))*time.Millisecond
	switch kind := r.IntN(6); kind {
	case 0, 1: // cut off from the others, not from operators; what was sent arrives later
		w.net.Isolate(victim.id, rest...)
		time.Sleep(span)
		w.net.HealAll()
	case 2: // it hears and is not heard, or the other way round
		for _, id := range rest {
			if r.IntN(2) == 0 {
				w.net.Cut(victim.id, id)
			} else {
				w.net.Cut(id, victim.id)
			}
		}
		time.Sleep(span)
		w.net.HealAll()
	case 3: // its disk stalls: it goes on heartbeating
		d := disk(victim.id)
		d.stall()
		time.Sleep(min(span, 2*time.Second))
		d.goOn()
	default: // killed, or the power of its machine fails
		victim.crash([]memnet.Death{memnet.Crash, memnet.PowerLoss}[kind-4])
		time.Sleep(span)
		victim.back()
	}
	time.Sleep(time.Duration(r.IntN(2500)) * time.Millisecond)
}

// seeds of a story that is told anew for each.
func linearSeeds(t *testing.T) (from, to uint64) {
	if n, err := strconv.Atoi(os.Getenv("LIFEBOAT_LINEAR_SEEDS")); err == nil {
		return 1, uint64(n)
	}
	if testing.Short() {
		return 1, 1
	}
	return 1, 3
}

// Reads and writes of operators are linearizable, whatever happens to the nodes.
// More stories: LIFEBOAT_LINEAR_SEEDS=100.
func TestAdminIsLinearizable(t *testing.T) {
	from, to := linearSeeds(t)
	for seed := from; seed <= to; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			b := troubled(t, seed, lifeboatv1.Consistency_CONSISTENCY_LINEARIZABLE, 45*time.Second)
			got := b.verdict()
			t.Logf("%d operations, %d of unknown outcome, %d repeated and done before: %s", len(b.history), b.unknown, b.again, got)
			if got != porcupine.Ok {
				t.Errorf("seed %d: the history is %s", seed, got)
			}
			if len(b.history) < 200 {
				t.Errorf("seed %d: only %d operations had an outcome", seed, len(b.history))
			}
		})
	}
}

// The checker finds what is wrong: the same stories with stale reads are not
// linearizable.
func TestStaleReadsAreNotLinearizable(t *testing.T) {
	b := troubled(t, 1, lifeboatv1.Consistency_CONSISTENCY_STALE, 20*time.Second)
	if got := b.verdict(); got != porcupine.Illegal {
		t.Errorf("%d operations with stale reads: %s", len(b.history), got)
	}
}
