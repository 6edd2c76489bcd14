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
	"lifeboat/notify"
)

// toldCall is one call of the API that changes something, or hands something out, and the
// event that tells of it.
type toldCall struct {
	rpc, event string
	call       func(context.Context, lifeboatv1connect.AdminServiceClient) error
}

// quiet are the calls that no event tells of, and why.
var quiet = map[string]string{
	"RecordUsage":     "what is told is kept as it is, with its log index; a repair is an event",
	"VerifyUsage":     "it only looks",
	"Plan":            "it only reckons",
	"Explain":         "it only looks",
	"WriteSnapshot":   "nothing happens before RestoreSnapshot",
	"RestoreSnapshot": "CLUSTER.RESTORE; see the tests of restoring",
	"Status":          "it only looks",
	"GetPolicy":       "it only looks",
	"DescribeUsage":   "it only looks",
}

func toldCalls(w *world) []toldCall {
	type ctx = context.Context
	type api = lifeboatv1connect.AdminServiceClient
	var token string
	return []toldCall{
		{"SetPolicy", "POLICY.SET", func(c ctx, a api) error {
			return ask(c, a.SetPolicy, &lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: "max_restart", Value: "7"}}})
		}},
		{"SetVM", "VM.SET", func(c ctx, a api) error {
			return ask(c, a.SetVM, &lifeboatv1.SetVMRequest{Vm: vmName(1), Settings: []*lifeboatv1.Setting{{Key: "priority", Value: "low"}}})
		}},
		{"AddRule", "RULE.ADD", func(c ctx, a api) error {
			return ask(c, a.AddRule, &lifeboatv1.AddRuleRequest{Kind: "together", Vms: []string{vmName(1), vmName(2)}})
		}},
		{"RemoveRule", "RULE.REMOVE", func(c ctx, a api) error { return ask(c, a.RemoveRule, &lifeboatv1.RemoveRuleRequest{Id: 1}) }},
		{"ProtectVM", "VM.UNPROTECT", func(c ctx, a api) error {
			return ask(c, a.ProtectVM, &lifeboatv1.ProtectVMRequest{Vm: vmName(2)})
		}},
		{"ControlVM", "VM.STOP", func(c ctx, a api) error {
			return ask(c, a.ControlVM, &lifeboatv1.ControlVMRequest{Vm: vmName(1), Action: "stop"})
		}},
		{"ControlHost", "HOST.RESOURCE", func(c ctx, a api) error {
			return ask(c, a.ControlHost, &lifeboatv1.ControlHostRequest{Host: "h2", Action: "disable"})
		}},
		{"SetFence", "HOST.FENCE.SET", func(c ctx, a api) error {
			return ask(c, a.SetFence, &lifeboatv1.SetFenceRequest{Host: "h1", Levels: []*lifeboatv1.FenceSpec{{Driver: "manual"}}})
		}},
		{"TestFence", "HOST.FENCE.TEST", func(c ctx, a api) error { return ask(c, a.TestFence, &lifeboatv1.TestFenceRequest{Host: "h1"}) }},
		{"RaiseAlerts", "ALERT.GENERATE", func(c ctx, a api) error { return ask(c, a.RaiseAlerts, hotHost("h1")) }},
		{"ControlAlert", "ALERT.ACKNOWLEDGE", func(c ctx, a api) error {
			return ask(c, a.ControlAlert, &lifeboatv1.ControlAlertRequest{Action: "ack", Filter: &lifeboatv1.AlertFilter{Subjects: []string{"h1"}}})
		}},
		{"SetReceiver", "NOTIFY.SET", func(c ctx, a api) error {
			return ask(c, a.SetReceiver, &lifeboatv1.SetReceiverRequest{Name: "x", Kind: "inbox", Address: "x"})
		}},
		{"TestReceiver", "NOTIFY.TEST", func(c ctx, a api) error {
			return ask(c, a.TestReceiver, &lifeboatv1.TestReceiverRequest{Name: "x"})
		}},
		{"RemoveReceiver", "NOTIFY.REMOVE", func(c ctx, a api) error {
			return ask(c, a.RemoveReceiver, &lifeboatv1.RemoveReceiverRequest{Name: "x"})
		}},
		{"SetSilence", "SILENCE.PLAN", func(c ctx, a api) error {
			return ask(c, a.SetSilence, &lifeboatv1.SetSilenceRequest{Reason: "works", FromUnixNs: time.Now().Add(time.Hour).UnixNano(), ForMs: 1000})
		}},
		{"CreateToken", "TOKEN.CREATE", func(c ctx, a api) error {
			r, err := a.CreateToken(c, connect.NewRequest(&lifeboatv1.CreateTokenRequest{Kind: "agent", Name: "h9", Uses: 1, LastsMs: time.Hour.Milliseconds()}))
			if err == nil {
				token = r.Msg.Id
			}
			return err
		}},
		{"RevokeToken", "TOKEN.REVOKE", func(c ctx, a api) error { return ask(c, a.RevokeToken, &lifeboatv1.RevokeTokenRequest{Id: token}) }},
		{"SetOperator", "OPERATOR.SET", func(c ctx, a api) error {
			return ask(c, a.SetOperator, &lifeboatv1.SetOperatorRequest{Name: "alice", Role: "admin"})
		}},
		{"SetUsage", "USAGE.OWNER", func(c ctx, a api) error {
			return ask(c, a.SetUsage, &lifeboatv1.SetUsageRequest{Action: "vm-owner", Vm: vmName(1), Account: "bob"})
		}},
		{"RepairUsage", "USAGE.REPAIR", func(c ctx, a api) error {
			begun := time.Now().Add(-time.Minute).UnixNano()
			if err := ask(c, a.RecordUsage, &lifeboatv1.RecordUsageRequest{Events: []*lifeboatv1.UsageEvent{{Id: "1", Type: "LB.CREATE", Resource: "7", TimeUnixNs: begun, Account: "bob"}}}); err != nil {
				return err
			}
			return ask(c, a.RepairUsage, &lifeboatv1.VerifyUsageRequest{Type: "LOAD_BALANCER_POLICY", Given: true, NoneLives: true, EndedUnixNs: begun + 1, Reason: "ticket 12"})
		}},
		{"ReadSnapshot", "SNAPSHOT.SAVE", func(c ctx, a api) error { return ask(c, a.ReadSnapshot, &lifeboatv1.ReadSnapshotRequest{}) }},
		{"ReadSnapshot", "SNAPSHOT.SAVE", func(c ctx, a api) error {
			return ask(c, a.ReadSnapshot, &lifeboatv1.ReadSnapshotRequest{Stale: true})
		}},
		{"ControlWork", "WORK.CANCEL", func(c ctx, a api) error {
			w.Helper()
			w.hosts["h1"].powerOff() // VM 3 waits for it to be proven dead by hand
			w.within(time.Minute, "there is work for VM 3", func() bool { v, _ := w.vm(3); return v != nil && v.Work != 0 })
			v, _ := w.vm(3)
			return ask(c, a.ControlWork, &lifeboatv1.ControlWorkRequest{Id: uint64(v.Work), Action: "cancel"})
		}},
		{"ControlHA", "HA.DISARM", func(c ctx, a api) error {
			return ask(c, a.ControlHA, &lifeboatv1.ControlHARequest{Action: "disarm"})
		}},
		{"ControlNode", "NODE.STATE", func(c ctx, a api) error {
			return ask(c, a.ControlNode, &lifeboatv1.ControlNodeRequest{Id: w.others(w.leader())[0].id, Action: "maintenance-on", Force: true})
		}},
		{"PurgeEvents", "EVENT.PURGE", func(c ctx, a api) error { return ask(c, a.PurgeEvents, &lifeboatv1.PurgeEventsRequest{BeforeId: 20}) }},
	}
}

// Whatever an operator has the API do is an event with that operator's name. Calls that
// are new must stand in one of the lists here.
func TestEveryCallThatChangesSomethingIsAnEvent(t *testing.T) {
	in := newInbox()
	runWith(t, 3, func(w *world) { w.notifiers = notify.NewRegistry(in.kind()) }, func(w *world) {
		w.within(20*time.Second, "the cluster is at level 4", func() bool { return w.state().Level >= fsm.LevelPolicy })
		w.armed()
		w.fleet(2, 3, "manual")
		seen := map[string]bool{}
		for _, x := range toldCalls(w) {
			seen[x.rpc] = true
			var last fsm.EventID
			for id := range w.state().EventsAfter(0) {
				last = id
			}
			// Another node than the leader is asked: it passes the call on, but for a
			// read of its own, of which it tells the leader.
			if err := w.operator(w.others(w.leader())[0], x.call); err != nil {
				t.Errorf("%s: %v", x.rpc, err)
				continue
			}
			w.within(10*time.Second, x.rpc+" is the event "+x.event, func() bool {
				for _, e := range w.state().EventsAfter(last) {
					if e.Type == x.event && e.Actor == "operator/alice" {
						return true
					}
				}
				return false
			})
		}
		methods := lifeboatv1.File_lifeboat_v1_admin_proto.Services().ByName("AdminService").Methods()
		for i := range methods.Len() {
			name := string(methods.Get(i).Name())
			if !seen[name] && quiet[name] == "" && !strings.HasPrefix(name, "List") {
				t.Errorf("%s is neither an event nor among the calls of which none tells", name)
			}
		}
	})
}
