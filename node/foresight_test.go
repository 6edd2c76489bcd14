package node

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
)

// gauges are the metrics of a node whose names begin like that.
func (w *world) gauges(n *testNode, prefix string) map[string]float64 {
	w.Helper()
	all, err := n.n.metrics.registry.Gather()
	w.must(err)
	out := map[string]float64{}
	for _, f := range all {
		if name, ok := strings.CutPrefix(f.GetName(), prefix); ok && len(f.Metric) == 1 {
			out[name] = f.Metric[0].GetGauge().GetValue()
		}
	}
	return out
}

// The leader, and nobody else, counts what is at risk all the time; a status names host,
// VM and resource.
func TestForesightIsContinuous(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(3, 3, "bmc")
		time.Sleep(5 * time.Second)
		is := func(unsafe, open, vms float64) func() bool {
			return func() bool {
				g := w.gauges(w.leader(), "lifeboat_n1_")
				return len(g) == 5 && g["unsafe_sets"]+g["unproven_sets"] == 0 && g["unsafe_hosts"] == unsafe && g["unproven_hosts"] == open && g["vms_at_risk"] == vms
			}
		}
		w.within(3*time.Second, "all hosts may fail", is(0, 0, 0))
		if g := w.gauges(w.others(w.leader())[0], "lifeboat_n1_"); len(g) != 0 {
			t.Errorf("a node that does not lead says %v", g)
		}
		control := func(host, action string) {
			w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.ControlHost(ctx, connect.NewRequest(&lifeboatv1.ControlHostRequest{Host: host, Action: action}))
				return err
			}))
		}
		control("h2", "disable")
		control("h3", "disable")
		w.within(3*time.Second, "h1 must not fail", is(1, 0, 3))
		w.must(w.operator(w.others(w.leader())[0], func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			r, err := c.Status(ctx, connect.NewRequest(&lifeboatv1.StatusRequest{NPlusOne: true}))
			if err == nil && r.Msg.NPlusOne != "host h1's failure would leave 3 VMs down: vm01, vm02, vm03 [it is Disabled (h2, h3)]" {
				t.Errorf("it says %q", r.Msg.NPlusOne)
			}
			return err
		}))
		explains := func(host, want string) {
			w.Helper()
			w.must(w.operator(w.others(w.leader())[0], func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				r, err := c.Explain(ctx, connect.NewRequest(&lifeboatv1.ExplainRequest{Kind: "host", Name: host}))
				if err == nil && !slices.Contains(r.Msg.Lines, want) {
					t.Errorf("it says %q", r.Msg.Lines)
				}
				return err
			}))
		}
		explains("h1", "If it failed now, 3 of the 3 protected VMs that it runs would stay down: vm01, vm02, vm03 [it is Disabled (h2, h3)].")
		control("h3", "enable")
		w.within(3*time.Second, "all hosts may fail again", is(0, 0, 0))
		explains("h1", "If it failed now, the protected VMs that it runs (3) would be started on other hosts.")
		w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			_, err := c.SetPolicy(ctx, connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: "n1_hosts", Value: "2"}}}))
			return err
		}))
		w.within(3*time.Second, "h1 and h3 must not fail together", func() bool { return w.gauges(w.leader(), "lifeboat_n1_")["unsafe_sets"] == 1 })
		w.must(w.operator(w.others(w.leader())[0], func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			r, err := c.Status(ctx, connect.NewRequest(&lifeboatv1.StatusRequest{NPlusOne: true}))
			if err == nil && (r.Msg.NPlus != 2 || !strings.HasPrefix(r.Msg.NPlusOne, "hosts h1 and h3 failing together would leave 3 VMs down: vm01, vm02, vm03 [")) {
				t.Errorf("it says N+%d: %q", r.Msg.NPlus, r.Msg.NPlusOne)
			}
			return err
		}))
		w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			_, err := c.SetPolicy(ctx, connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: "n1_hosts", Value: "1"}}}))
			return err
		}))
		w.must(w.ha(&lifeboatv1.ControlHARequest{Action: "disarm"}))
		w.within(3*time.Second, "nothing is started again", is(1, 0, 3))
	})
}
