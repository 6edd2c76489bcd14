package node

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/transport/memnet"
)

// One that is in maintenance and gets elected all the same hands over; nobody hands
// over to it while there is another.
func TestMaintenanceDoesNotLead(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(2, 1, "bmc")
		w.allUp()
		l, n := w.leader(), follower(w)
		w.steer(n, "maintenance-on")
		w.within(10*time.Second, "in maintenance", w.nodeIs(n.id, fsm.NodeMaintenance))
		for range 4 {
			now := w.leader()
			now.handOver()
			time.Sleep(time.Second)
			if w.leader() == n || w.leader() == now {
				t.Fatalf("%s handed over to %s", now.id, w.leader().id)
			}
		}
		err := w.control(l, &lifeboatv1.ControlNodeRequest{Id: n.id, Action: "transfer-leadership"})
		if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "in state Maintenance and is not to lead") {
			t.Errorf("it may be made leader: %v", err)
		}
		w.must(w.leader().n.raft.LeadershipTransferToServer(raft.ServerID(n.id), raft.ServerAddress(n.cfg.Advertise)).Error())
		w.within(5*time.Second, "another leads", func() bool { return len(w.serving()) == 1 && w.serving()[0] != n })
		w.stays(10*time.Second, "it stays so", func() bool { return !n.leads() && w.nodeIs(n.id, fsm.NodeMaintenance)() })
		for id := range w.hosts {
			w.within(2*time.Second, id+" is Up", w.hostIs(id, fsm.Up))
		}
	})
}

// Where no other node could lead, one that prepares leads on, and says so; once
// another is back it hands over.
func TestTheOnlyOneThatCouldLead(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(2, 1, "bmc")
		w.allUp()
		l := w.leader()
		dead, third := w.others(l)[0], w.others(l)[1]
		w.steer(third, "maintenance-on")
		w.within(10*time.Second, "one is in maintenance", w.nodeIs(third.id, fsm.NodeMaintenance))
		dead.crash(memnet.PowerLoss)
		w.within(5*time.Second, "one is Down", w.nodeIs(dead.id, fsm.NodeDown))
		w.steer(l, "maintenance-on")
		w.stays(20*time.Second, "it leads on, and the hosts are Up", func() bool {
			return l.leads() && w.hostIs("h1", fsm.Up)() && w.hostIs("h2", fsm.Up)() && w.nodeIs(l.id, fsm.NodePreparingForMaintenance)()
		})
		if v := w.listed(l); v.Waits != "it leads, and no other node that is Up could" || v.Role != "leader" {
			t.Errorf("node list says %v", v)
		}
		if code, _ := l.get("/leader"); code != http.StatusOK {
			t.Errorf("/leader says %d, and nobody else leads", code)
		}
		if code, _ := l.get("/readyz"); code != http.StatusServiceUnavailable {
			t.Errorf("/readyz says %d", code)
		}
		dead.back()
		w.within(20*time.Second, "the one that is back leads", dead.leads)
		w.within(10*time.Second, "the other is in maintenance", w.nodeIs(l.id, fsm.NodeMaintenance))
	})
}

// Leadership goes to the node that is named.
func TestTransferToANode(t *testing.T) {
	run(t, 5, func(w *world) {
		w.allUp()
		for _, id := range []string{"n4", "n2", "n5"} {
			w.must(w.control(w.leader(), &lifeboatv1.ControlNodeRequest{Id: id, Action: "transfer-leadership"}))
			w.within(2*time.Second, id+" leads", w.nodes[id].leads)
		}
		w.must(w.control(w.leader(), &lifeboatv1.ControlNodeRequest{Id: "n5", Action: "transfer-leadership"}))
		if err := w.control(w.leader(), &lifeboatv1.ControlNodeRequest{Id: "n9", Action: "transfer-leadership"}); connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("a stranger may lead: %v", err)
		}
		if !w.nodes["n5"].leads() {
			t.Error("n5 has lost it")
		}
	})
}
