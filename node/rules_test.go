package node

import (
	"context"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
)

// Rules and the order of starts through the API of a node that does not lead: names
// become UUIDs, what cannot be kept is refused with the reason, and a recovery heeds
// what was written.
func TestRulesThroughTheAPI(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(3, 3, "bmc")
		var at *testNode
		for _, n := range w.nodes {
			if n != w.leader() {
				at = n
			}
		}
		add := func(q *lifeboatv1.AddRuleRequest) (message string, err error) {
			err = w.operator(at, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				r, err := c.AddRule(ctx, connect.NewRequest(q))
				if err == nil {
					message = r.Msg.Message
				}
				return err
			})
			return message, err
		}
		set := func(vm, key, value string) error {
			return w.operator(at, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.SetVM(ctx, connect.NewRequest(&lifeboatv1.SetVMRequest{Vm: vm, Settings: []*lifeboatv1.Setting{{Key: key, Value: value}}}))
				return err
			})
		}
		a, b := vmName(1), vmName(2)
		message, err := add(&lifeboatv1.AddRuleRequest{Kind: "together", Vms: []string{a, b}})
		w.must(err)
		if !strings.HasPrefix(message, "rule 1 (together, strict: ") {
			t.Errorf("message %q", message)
		}
		_, err = add(&lifeboatv1.AddRuleRequest{Kind: "hosts", Vms: []string{a}, Hosts: []*lifeboatv1.RuleHost{{Host: "h1", Priority: 2}, {Host: "h3", Priority: 1}}})
		w.must(err)
		// What is broken as it is written is mended, and it is said how.
		message, err = add(&lifeboatv1.AddRuleRequest{Kind: "hosts", Vms: []string{vmName(3)}, Hosts: []*lifeboatv1.RuleHost{{Host: "h3"}}})
		w.must(err)
		if want := "it is broken as things are: " + vmName(3) + " is on host h1; " + vmName(3) + " "; !strings.Contains(message, want) {
			t.Errorf("message %q, want %q", message, want)
		}
		for want, q := range map[string]*lifeboatv1.AddRuleRequest{
			"the new rule would keep": {Kind: "apart", Vms: []string{b, a}},
			"there is no VM nobody":   {Kind: "apart", Vms: []string{a, "nobody"}},
			"is no kind of rule":      {Kind: "near", Vms: []string{a, b}},
			"there is no host h9":     {Kind: "hosts", Vms: []string{a}, Hosts: []*lifeboatv1.RuleHost{{Host: "h9"}}},
		} {
			if _, err := add(q); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v: %v, want %q", q, err, want)
			}
		}
		w.must(set(a, "depends_on", b))
		if err := set(b, "depends_on", a); err == nil || !strings.Contains(err.Error(), "which waits for it") {
			t.Errorf("a circle: %v", err)
		}
		w.hosts["h1"].powerOff()
		time.Sleep(time.Minute)
		for i := 1; i <= 2; i++ {
			if _, h := w.vm(i); h != "h3" {
				t.Errorf("%s is on %s, not on h3 as the rules say", vmName(i), h)
			}
		}
		w.must(w.operator(at, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			r, err := c.ListRules(ctx, connect.NewRequest(&lifeboatv1.ListRulesRequest{}))
			if err != nil {
				return err
			}
			if len(r.Msg.Rules) != 3 || !r.Msg.Rules[0].Kept || r.Msg.Rules[0].Vms[0].Host != "h3" || r.Msg.Rules[1].Hosts[0].Priority != 2 {
				t.Errorf("rules %v", r.Msg.Rules)
			}
			_, err = c.RemoveRule(ctx, connect.NewRequest(&lifeboatv1.RemoveRuleRequest{Id: 2}))
			return err
		}))
	})
}
