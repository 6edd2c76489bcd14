package node

import (
	"context"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
)

// A host dies for real: its incident is told by a node that does not lead, with the
// time that passed until the VM ran elsewhere.
func TestIncidentsThroughTheAPI(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(3, 1, "bmc")
		at := w.others(w.leader())[0]
		ask := func(id uint64) (all []*lifeboatv1.IncidentView, err error) {
			err = w.operator(at, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				r, err := c.ListIncidents(ctx, connect.NewRequest(&lifeboatv1.ListIncidentsRequest{Id: id}))
				if err == nil {
					all = r.Msg.Incidents
				}
				return err
			})
			return all, err
		}
		if all, err := ask(0); err != nil || len(all) != 0 {
			t.Fatalf("nothing has failed: %v, %v", all, err)
		}
		if _, err := ask(1 << 40); connect.CodeOf(err) != connect.CodeNotFound || !strings.Contains(err.Error(), "lifeboat incident list") {
			t.Errorf("an unknown one: %v", err)
		}
		const from = "h1"
		w.hosts[from].powerOff()
		took := w.onceElsewhere(1, time.Minute)
		w.within(10*time.Second, "the work is done", func() bool { return w.state().CountOpenWork() == 0 })
		all, err := ask(0)
		w.must(err)
		if len(all) != 1 || all[0].Subject != "host "+from || all[0].What != "dead" || len(all[0].Vms) != 1 || all[0].Down != 0 || len(all[0].Timeline) != 0 {
			t.Fatalf("incidents %v", all)
		}
		down := time.Duration(all[0].Vms[0].DowntimeMs) * time.Millisecond
		if down < took-2*time.Second || down > took+4*time.Second {
			t.Errorf("it was down %s, and is told to have been %s", took, down)
		}
		all, err = ask(all[0].Id)
		w.must(err)
		if i := all[0]; len(i.Timeline) < 5 || len(i.Alerts) == 0 || i.Proof == "" || i.Slowest == nil || i.EndedUnixNs == 0 {
			t.Errorf("incident %v", i)
		}
		if leastRole(lifeboatv1connect.AdminServiceListIncidentsProcedure) != fsm.RoleViewer {
			t.Error("it takes more than a viewer to see incidents")
		}
	})
}
