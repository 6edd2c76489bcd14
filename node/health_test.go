package node

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	gometrics "github.com/hashicorp/go-metrics"
	metricsprom "github.com/hashicorp/go-metrics/prometheus"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/transport/memnet"
)

func (n *testNode) get(path string) (int, string) {
	r := httptest.NewRecorder()
	n.n.health().ServeHTTP(r, httptest.NewRequest(http.MethodGet, path, nil))
	return r.Code, r.Body.String()
}

// A load balancer sends traffic to every node that has a leader, and to no other;
// /leader is 200 on one node only, and names it everywhere.
func TestHealth(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(2, 1, "bmc")
		w.allUp()
		l := w.leader()
		for _, n := range w.live() {
			if code, body := n.get("/readyz"); code != http.StatusOK {
				t.Errorf("%s is not ready: %d %s", n.id, code, body)
			}
			if code, _ := n.get("/healthz"); code != http.StatusOK {
				t.Errorf("%s is not healthy: %d", n.id, code)
			}
			var said struct {
				Leader, Address string
				Leads           bool `json:"this_node_leads"`
			}
			code, body := n.get("/leader")
			if err := json.Unmarshal([]byte(body), &said); err != nil || said.Leader != l.id || said.Address != l.cfg.Advertise || said.Leads != (n == l) || (code == http.StatusOK) != (n == l) {
				t.Errorf("%s: /leader says %d %s, %v", n.id, code, body, err)
			}
		}
		_, text := l.get("/metrics")
		for _, want := range []string{`lifeboat_hosts{status="Up"} 2`, `lifeboat_nodes{state="Up"} 3`, "lifeboat_vms 1\n", "lifeboat_vms_protected 1\n", "lifeboat_vms_protected_running 1\n",
			"lifeboat_leader 1\n", "lifeboat_ha_armed 1\n", "lifeboat_work_open 0\n", `lifeboat_usage_open{type="VOLUME"} 0`, `lifeboat_usage_known{type="VOLUME"} 0`, "lifeboat_usage_trouble 0\n", `lifeboat_recovery_worst_seconds{by="power"} 9`, `lifeboat_recovery_worst_seconds{by="lease"} `, "lifeboat_recovery_objective_seconds 0\n", "lifeboat_usage_closed_until_seconds 0\n", "lifeboat_reports_total", "lifeboat_canary_commit_seconds_count", "go_goroutines", "process_"} {
			if !strings.Contains(text, want) {
				t.Errorf("/metrics lacks %q", want)
			}
		}
		if strings.Contains(text, vmName(1)) {
			t.Error("/metrics names a VM")
		}
		// One node alone has no leader.
		for _, n := range w.others(l) {
			n.crash(memnet.PowerLoss)
		}
		w.within(3*time.Second, "the last node is not ready", func() bool { code, _ := l.get("/readyz"); return code == http.StatusServiceUnavailable })
		if code, _ := l.get("/leader"); code != http.StatusServiceUnavailable {
			t.Errorf("/leader says %d without a majority", code)
		}
		if code, _ := l.get("/healthz"); code != http.StatusOK {
			t.Errorf("/healthz says %d without a majority: the process is well", code)
		}
		if code, _ := l.get("/nothing"); code != http.StatusNotFound {
			t.Errorf("/nothing says %d", code)
		}
	})
}

// With a sink, Raft's own metrics stand beside ours.
func TestRaftMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	sink, err := metricsprom.NewPrometheusSinkFrom(metricsprom.PrometheusOpts{Registerer: registry, Expiration: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	conf := gometrics.DefaultConfig("")
	conf.EnableHostname, conf.EnableRuntimeMetrics = false, false
	if _, err := gometrics.NewGlobal(conf, sink); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = gometrics.NewGlobal(conf, &gometrics.BlackholeSink{}) })
	runWith(t, 1, func(w *world) { w.nodes["n1"].registry = registry }, func(w *world) {
		time.Sleep(3 * time.Second)
		if _, text := w.leader().get("/metrics"); !strings.Contains(text, "raft_apply") || !strings.Contains(text, "lifeboat_leader 1") {
			t.Errorf("/metrics lacks raft_apply or lifeboat_leader:\n%.2000s", text)
		}
	})
}

// A node that comes back with a snapshot has the state it left, and catches up.
func TestSnapshotAndRestart(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(3, 2, "bmc")
		n := follower(w)
		w.must(n.n.raft.Snapshot().Error())
		at := n.n.fsm.State().Index
		n.crash(memnet.Crash)
		w.hosts["h1"].powerOff()
		w.onceElsewhere(2, 12*time.Second)
		n.back()
		restored := n.n.fsm.State().Index
		if restored < at {
			t.Errorf("it came back at index %d, its snapshot was of %d", restored, at)
		}
		w.within(5*time.Second, n.id+" is Up", w.nodeIs(n.id, fsm.NodeUp))
		w.within(2*time.Second, "it has caught up", func() bool { return n.n.fsm.State().Index == w.state().Index })
		if n.n.fsm.State().Sum() != w.state().Sum() {
			t.Error("its state differs from the leader's")
		}
		// And it leads as well as any.
		for !n.leads() {
			w.leader().handOver()
			time.Sleep(500 * time.Millisecond)
			w.leader()
		}
		w.stays(5*time.Second, "h2 is Up", w.hostIs("h2", fsm.Up))
	})
}

// A watchdog that is gone makes a lease that is no proof: silence alone starts
// nothing elsewhere any more (S12).
func TestS12LostWatchdogIsNoProof(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(3, 1, "lease")
		w.armed()
		h := w.hosts["h1"]
		h.dog.lose()
		w.within(10*time.Second, "the state knows", func() bool {
			l := w.state().Host("h1").Lease
			return l == nil || l.Watchdog == fsm.WatchdogNone
		})
		for _, n := range w.live() {
			w.net.CutBoth("h1", n.id)
		}
		w.stays(40*time.Second, "the VM stays h1's", func() bool { _, on := w.vm(1); return on == "h1" })
		if got := w.starts(1); len(got) != 1 {
			t.Errorf("it began %v", got)
		}
		w.net.HealAll()
	})
}

// A long log is replaced by a snapshot soon after the start, or a node that never runs for
// a minute would have more to apply with each start.
func TestLongLogIsReplacedAfterTheStart(t *testing.T) {
	run(t, 3, func(w *world) {
		l := w.leader()
		entry, err := proto.Marshal(&logpb.Command{TimeUnixNs: time.Now().UnixNano(), Body: &logpb.Command_Canary{Canary: &logpb.Canary{}}})
		w.must(err)
		var last raft.ApplyFuture
		for range longLog {
			last = l.n.raft.Apply(entry, 0)
		}
		w.must(last.Error())
		n := follower(w)
		snapshots := func() int {
			list, err := n.n.store.snapshots.List()
			w.must(err)
			return len(list)
		}
		w.within(5*time.Second, "it has caught up", func() bool { return n.n.raft.AppliedIndex() >= last.Index() })
		if n := snapshots(); n > 0 {
			t.Fatalf("%d snapshots before the restart", n)
		}
		n.crash(memnet.Crash)
		n.back()
		w.within(5*time.Second, n.id+" has a snapshot", func() bool { return snapshots() > 0 })
		n.crash(memnet.Crash)
		n.back()
		if at := n.n.fsm.State().Index; at < last.Index() {
			t.Errorf("it begins at index %d, and had applied %d", at, last.Index())
		}
	})
}
