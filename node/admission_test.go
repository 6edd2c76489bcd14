package node

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/ha"
)

// With n1_admission what would break the proof is refused with host, VM and resource,
// and of two that each leave room for one only, one is.
func TestAdmissionKeepsTheProof(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(3, 3, "bmc")
		time.Sleep(5 * time.Second)
		follower := w.others(w.leader())[0]
		control := func(host, action string) error {
			return w.operator(follower, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.ControlHost(ctx, connect.NewRequest(&lifeboatv1.ControlHostRequest{Host: host, Action: action}))
				return err
			})
		}
		set := func(value string) {
			w.Helper()
			w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.SetPolicy(ctx, connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: "n1_admission", Value: value}}}))
				return err
			}))
		}
		set("true")
		both := make([]error, 2)
		w.must(w.operator(follower, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			var wg sync.WaitGroup
			for i, host := range []string{"h2", "h3"} {
				wg.Go(func() {
					_, both[i] = c.ControlHost(ctx, connect.NewRequest(&lifeboatv1.ControlHostRequest{Host: host, Action: "disable"}))
				})
			}
			wg.Wait()
			return nil
		}))
		refused, done := both[0], "h3"
		if refused == nil {
			refused, done = both[1], "h2"
		}
		if refused == nil || both[0] != nil && both[1] != nil {
			t.Fatalf("of two hosts that are disabled at once, one is left: %v", both)
		}
		other := map[string]string{"h2": "h3", "h3": "h2"}[done]
		for _, part := range []string{"host " + other + " stays as it is", "host h1's failure would leave 3 VMs down that it would not today: vm01, vm02, vm03",
			"it is Disabled (" + "h2, h3)", "n1_admission=false"} {
			if connect.CodeOf(refused) != connect.CodeFailedPrecondition || !strings.Contains(refused.Error(), part) {
				t.Errorf("%v: without %q", refused, part)
			}
		}
		if err := control(other, "maintenance-on"); connect.CodeOf(err) != connect.CodeFailedPrecondition {
			t.Errorf("maintenance: %v", err)
		}
		rule := func() error {
			return w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.AddRule(ctx, connect.NewRequest(&lifeboatv1.AddRuleRequest{Kind: "hosts", Vms: []string{"vm01"}, Hosts: []*lifeboatv1.RuleHost{{Host: "h1"}}}))
				return err
			})
		}
		if err := rule(); connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "the rule is not written: afterwards host h1's failure would leave 1 VM down") {
			t.Errorf("a rule: %v", err)
		}
		w.must(control(done, "enable"))
		set("false")
		w.must(rule())
		w.must(control("h2", "disable"))
		w.must(control("h3", "disable"))
	})
}

// An objective that the other settings cannot keep is refused, and so is a setting that
// would break one which stands.
func TestRecoveryObjectiveIsKeptOrRefused(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(2, 1, "bmc")
		time.Sleep(3 * time.Second)
		set := func(key, value string) error {
			return w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.SetPolicy(ctx, connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: key, Value: value}}}))
				return err
			})
		}
		refused := func(err error, part string) {
			w.Helper()
			if err == nil || !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), "nothing was changed") {
				t.Errorf("%v: without %q", err, part)
			}
		}
		refused(set("recovery_objective", "5s"), "recovery_objective: 5s cannot be kept: a host is suspect 3s after its last report")
		w.must(set("recovery_objective", "15s"))
		refused(set("investigate", "30s"), "recovery_objective: 15s cannot be kept")
		w.must(set("investigate", "3s"))
		if p := w.leader().n.fsm.State().Policy; p.RecoveryObjective != 15*time.Second || p.Investigate != 3*time.Second {
			t.Errorf("%+v", p)
		}
	})
}

// Two settings that could be kept alone, and not together, are set at the same moment.
func TestTwoSettingsAtOnceBreakNoObjective(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(2, 1, "bmc")
		time.Sleep(3 * time.Second)
		term := w.leader().n.term.Load()
		failed := make(chan error, 2)
		for key, value := range map[string]string{"recovery_objective": "15s", "investigate": "30s"} {
			go func() {
				_, err := term.setPolicy(context.Background(), &lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: key, Value: value}}})
				failed <- err
			}()
		}
		one, other := <-failed, <-failed
		if (one == nil) == (other == nil) {
			t.Errorf("%v; %v: one of them is to be refused", one, other)
		}
		if p := w.leader().n.fsm.State().Policy; ha.Missed(w.leader().n.fsm.State(), p) != "" {
			t.Errorf("an objective of %s stands with investigate=%s", p.RecoveryObjective, p.Investigate)
		}
	})
}
