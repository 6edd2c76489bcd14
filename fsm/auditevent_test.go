package fsm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// act is something that an operator does, and the event that tells of it.
type act struct {
	event string
	do    func(l *lab) proto.Message // what makes it possible, and then the command
}

// by applies a command as somebody's.
func (l *lab) by(actor string, body proto.Message) (rejected string) {
	l.t.Helper()
	c := command(body)
	c.Actor = actor
	return l.m.Apply([]Entry{l.entry(c)})[0].Rejected
}

// givesUp makes VM 1 one that is not started any more, and returns the work that failed.
func (l *lab) givesUp() uint64 {
	l.t.Helper()
	l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "max_restart", Value: "0"}, {Key: "max_relocate", Value: "0"}}})
	l.kill("h1", "h2")
	work := uint64(l.vm(1).Work)
	l.report("h2", said{vm: 1, power: PowerOff, failed: l.vm(1).Incarnation})
	if l.vm(1).Error == "" {
		l.t.Fatalf("VM 1 is tried again: %+v", l.vm(1))
	}
	return work
}

func just(body proto.Message) func(*lab) proto.Message {
	return func(*lab) proto.Message { return body }
}

// after is what is done once others were.
func after(body func(l *lab) proto.Message, before ...proto.Message) func(*lab) proto.Message {
	return func(l *lab) proto.Message {
		for _, b := range before {
			l.ok(b)
		}
		return body(l)
	}
}

func steering(id string, s NodeStep) *logpb.NodeSteer {
	return &logpb.NodeSteer{Id: id, RunId: "r1", Step: uint32(s), WithinNs: int64(time.Minute)}
}

// operatorActs are by command, as the field of logpb.Command is called, what operators
// do. A text says why no operator does it, or why it is no event of its own.
func operatorActs() map[string]any {
	vm := idBytes(1)
	node := &logpb.NodeHello{Id: "n2", RunId: "r1", Version: "1"}
	owner := &logpb.UsageAccount{Account: "alice"}
	typ := &logpb.UsageTypeSet{Id: 1000, Name: "GPU", Opens: []string{"GPU.ASSIGN"}, Closes: []string{"GPU.RELEASE"}}
	tell := func(what string) *logpb.UsageEvent {
		return &logpb.UsageEvent{Id: what, Type: what, Resource: "7", TimeUnixNs: epochStart, Account: owner}
	}
	rule := &logpb.RuleAdd{Rule: &logpb.Rule{Kind: 2, Vms: [][]byte{idBytes(1), idBytes(2)}}}
	token := &logpb.TokenCreate{Id: "t1", Kind: uint32(MemberHost), Hash: make([]byte, 32), Uses: 1, LastsNs: int64(time.Hour)}
	alert := func(action uint32) func(*lab) proto.Message {
		return func(l *lab) proto.Message {
			l.ok(raised("h1", "hot"))
			if action >= alertArchive {
				l.ok(itEnded("h1", "hot"))
			}
			return &logpb.AlertControl{Action: action, Match: &logpb.AlertMatch{Subjects: []string{"h1"}}}
		}
	}
	failed := func(action uint32) func(*lab) proto.Message {
		return func(l *lab) proto.Message {
			l.ok(l.hostDown("h1"))
			return &logpb.WorkUpdate{Work: uint64(l.vm(1).Work), Action: action}
		}
	}
	update := func(action uint32) func(*lab) proto.Message {
		return func(l *lab) proto.Message {
			l.ok(raised("h1", "hot"))
			return &logpb.AlertUpdate{Id: uint64(l.state().OpenAlert(AlertKey{"HOST", "h1", External + "hot"}).ID), Action: action}
		}
	}
	failedThen := func(l *lab) proto.Message {
		l.kill("h1")
		return &logpb.WorkUpdate{Work: uint64(l.vm(1).Work), Action: WorkRetry}
	}
	return map[string]any{
		"policy_set": []act{{"POLICY.SET", just(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "beat", Value: "2s"}}})}},
		"arm": []act{{"HA.DISARM", just(&logpb.Arm{})}, {"HA.DISARM", just(&logpb.Arm{Ignore: true})},
			{"HA.ARM", after(func(*lab) proto.Message { return &logpb.Arm{Armed: true} }, &logpb.Arm{})}},
		"accept_time": []act{{"CLUSTER.TIME", func(l *lab) proto.Message { l.wait(2 * time.Hour); return &logpb.AcceptTime{} }}},
		"host_control": []act{
			{"HOST.RESOURCE", just(&logpb.HostControl{Host: "h2", Action: HostDisable})},
			{"HOST.RESOURCE", after(func(*lab) proto.Message { return &logpb.HostControl{Host: "h2", Action: HostEnable} }, &logpb.HostControl{Host: "h2", Action: HostDisable})},
			{"HOST.RESOURCE", just(&logpb.HostControl{Host: "h2", Action: HostMaintenanceOn})},
			{"HOST.RESOURCE", after(func(*lab) proto.Message { return &logpb.HostControl{Host: "h2", Action: HostMaintenanceOff} }, &logpb.HostControl{Host: "h2", Action: HostMaintenanceOn})},
			{"HOST.REMOVE", just(&logpb.HostControl{Host: "h2", Action: HostRemove, Force: true})},
			{"HOST.REMOVE", just(&logpb.HostControl{Host: "h7", Action: HostRemove, Force: true})},
			{"HOST.ADMIT", after(func(*lab) proto.Message { return &logpb.HostControl{Host: "h2", Action: HostAdmit} }, &logpb.HostControl{Host: "h2", Action: HostRemove, Force: true})},
		},
		"host_fence_levels": []act{{"HOST.FENCE.SET", just(levels("h2"))}},
		"host_fenced": []act{{"HOST.FENCED", func(l *lab) proto.Message {
			l.ok(l.hostDown("h1"))
			return l.fenced("h1", ProofOperator)
		}}},
		"vm_protect": []act{{"VM.UNPROTECT", just(&logpb.VMProtect{Vm: vm, Protect: &logpb.Protection{}})},
			{"VM.PROTECT", after(func(*lab) proto.Message { return &logpb.VMProtect{Vm: vm, Protect: &logpb.Protection{On: true}} }, &logpb.VMProtect{Vm: vm, Protect: &logpb.Protection{}})}},
		"vm_control": []act{{"WORK.OPEN", just(&logpb.VMControl{Vm: vm, Action: VMStop})}, {"WORK.OPEN", just(&logpb.VMControl{Vm: vm, Action: VMForceStop})},
			{"VM.STOP", just(&logpb.VMControl{Vm: vm, Action: VMStop})},
			{"WORK.OPEN", func(l *lab) proto.Message {
				l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonShutdown, inc: l.vm(1).Incarnation})
				return &logpb.VMControl{Vm: vm, Action: VMStart}
			}},
			{"VM.CLEAR", func(l *lab) proto.Message { l.givesUp(); return &logpb.VMControl{Vm: vm, Action: VMClear} }}},
		"vm_set":   []act{{"VM.SET", just(&logpb.VMSet{Vm: vm, Settings: []*logpb.Setting{{Key: "priority", Value: "low"}}})}},
		"vm_move":  []act{{"WORK.OPEN", just(&logpb.VMMove{Vm: vm, Kind: MoveRelocate, Target: "h2", Why: "fits"})}},
		"rule_add": []act{{"RULE.ADD", just(rule)}},
		"rule_remove": []act{{"RULE.REMOVE", after(func(*lab) proto.Message { return &logpb.RuleRemove{Id: 1} },
			rule)}},
		"work_update": []act{{"WORK.CANCEL", failed(WorkCancel)}, {"WORK.RETRY", failedThen},
			{"VM.CLEAR", func(l *lab) proto.Message { return &logpb.WorkUpdate{Work: l.givesUp(), Action: WorkRetry} }}},
		"alert_update": []act{{"ALERT.ACKNOWLEDGE", update(1)}, {"ALERT.RESOLVE", update(2)}},
		"alert_control": []act{{"ALERT.ACKNOWLEDGE", alert(alertAck)}, {"ALERT.RESOLVE", alert(alertResolve)}, {"ALERT.ARCHIVE", alert(alertArchive)},
			{"ALERT.DELETE", alert(alertDelete)}},
		"alert_raise": []act{{"ALERT.GENERATE", just(raised("h1", "hot"))}, {"ALERT.RESOLVE", after(func(*lab) proto.Message { return itEnded("h1", "hot") }, raised("h1", "hot"))}},
		"notify_set":  []act{{"NOTIFY.SET", just(&logpb.NotifySet{Name: "x", Kind: "webhook"})}},
		"notify_remove": []act{{"NOTIFY.REMOVE", after(func(*lab) proto.Message { return &logpb.NotifyRemove{Name: "x"} },
			&logpb.NotifySet{Name: "x", Kind: "webhook"})}},
		"silence_set": []act{{"SILENCE.START", just(&logpb.SilenceSet{Reason: "x", ForNs: 1})},
			{"SILENCE.PLAN", just(&logpb.SilenceSet{Reason: "x", FromUnixNs: epochStart + 1, ForNs: 1})},
			{"SILENCE.END", func(l *lab) proto.Message {
				l.ok(&logpb.SilenceSet{Reason: "x", ForNs: 1})
				for id := range l.state().Silences() {
					return &logpb.SilenceSet{Id: uint64(id)}
				}
				return nil
			}}},
		"event_purge":  []act{{"EVENT.PURGE", just(&logpb.EventPurge{BeforeUnixNs: epochStart + 1})}},
		"node_control": []act{{"NODE.REMOVE", after(func(*lab) proto.Message { return &logpb.NodeControl{Id: "n2", Action: uint32(GoingRemove)} }, node)}, {"NODE.LEAVE", after(func(*lab) proto.Message { return &logpb.NodeControl{Id: "n2", Action: uint32(GoingLeave)} }, node)}},
		"node_steer": []act{
			{"NODE.STATE", after(func(*lab) proto.Message { return steering("n2", StepMaintain) }, node)},
			{"NODE.STATE", after(func(*lab) proto.Message { return steering("n2", StepResume) }, node, steering("n2", StepMaintain))},
			{"NODE.STATE", after(func(*lab) proto.Message { return steering("n2", StepPrepareStop) }, node)},
			{"NODE.STATE", after(func(*lab) proto.Message { return steering("n2", StepCancelStop) }, node, steering("n2", StepPrepareStop))},
			{"NODE.STATE", after(func(*lab) proto.Message { x := steering("n2", StepStop); x.Force = true; return x }, node, steering("n2", StepPrepareStop))},
		},
		"token_create": []act{{"TOKEN.CREATE", just(token)}},
		"token_revoke": []act{{"TOKEN.REVOKE", after(func(*lab) proto.Message { return &logpb.TokenRevoke{Id: "t1"} }, token)}},
		"operator_set": []act{{"OPERATOR.SET", just(&logpb.OperatorSet{Name: "bob", Role: uint32(RoleAdmin)})}, {"OPERATOR.REMOVE", after(func(*lab) proto.Message { return &logpb.OperatorSet{Name: "bob"} },
			&logpb.OperatorSet{Name: "carol", Role: uint32(RoleAdmin)}, &logpb.OperatorSet{Name: "bob", Role: uint32(RoleViewer)})}},
		"usage_events": []act{{"USAGE.REPAIR", after(func(*lab) proto.Message {
			return &logpb.UsageEvents{Repair: "ticket 12", Events: []*logpb.UsageEvent{tell("LB.DELETE")}}
		}, &logpb.UsageEvents{Events: []*logpb.UsageEvent{tell("LB.CREATE")}})}},
		"usage_account_set": []act{{"USAGE.ACCOUNT", after(func(*lab) proto.Message { return &logpb.UsageAccountSet{Account: owner, RemovedUnixNs: epochStart} },
			&logpb.UsageEvents{Events: []*logpb.UsageEvent{tell("LB.CREATE")}})}},
		"usage_type_set":  []act{{"USAGE.TYPE", just(typ)}, {"USAGE.TYPE", after(func(*lab) proto.Message { return &logpb.UsageTypeSet{Id: 1000, Remove: true} }, typ)}},
		"usage_owner_set": []act{{"USAGE.OWNER", just(&logpb.UsageOwnerSet{Vm: vm, Account: owner})}},
		"audit": []act{{"SNAPSHOT.SAVE", just(&logpb.Audit{Action: AuditSnapshot, Subject: "n1", Text: "x"})},
			{"NOTIFY.TEST", just(&logpb.Audit{Action: AuditNotifyTest, Subject: "ops", Text: "x"})},
			{"HOST.FENCE.TEST", just(&logpb.Audit{Action: AuditFenceTest, Subject: "h1", Text: "x"})}},

		"cluster_init":  "it founds the cluster: there are no operators yet",
		"fence_checked": "the test itself is noted before (audit); what it finds is an event when it is news",
		"ca_set":        "the first node does it",
		"token_use":     "a member that joins does it",
		"node_hello":    "a node", "node_down": "the leader", "node_admit": "the leader", "feature_raise": "the leader",
		"host_register": "an agent", "host_reports": "an agent", "host_leave": "an agent", "host_stopping": "an agent", "host_heeds": "an agent", "vm_specs": "an agent",
		"host_suspect": "the leader", "host_evidence": "the leader", "host_seen": "the leader", "host_down": "the leader", "host_unproven": "the leader",
		"fence_attempt": "the leader", "fence_result": "the leader", "host_lease": "the leader", "host_drained": "the leader", "brake": "the leader",
		"vm_released": "the leader", "vm_storage": "the leader", "vm_copy": "the leader", "vm_guest": "the leader", "place": "the leader",
		"usage_close": "the leader", "usage_trim": "the leader", "usage_sync": "the leader", "notify_step": "the leader", "canary": "the leader",
	}
}

// Whatever an operator does is an event with that operator's name. A command that is new
// must say here what operators do by it, or that none does.
func TestEveryActOfAnOperatorIsAnEvent(t *testing.T) {
	acts := operatorActs()
	fields := (&logpb.Command{}).ProtoReflect().Descriptor().Oneofs().ByName("body").Fields()
	for i := range fields.Len() {
		name := string(fields.Get(i).Name())
		list, known := acts[name].([]act)
		if why, none := acts[name].(string); none && why != "" {
			continue
		}
		if !known || len(list) == 0 {
			t.Errorf("%s: say in operatorActs what operators do by it, or why none does", name)
		}
		for j, x := range list {
			t.Run(fmt.Sprint(name, " ", j), func(t *testing.T) {
				l := level4(t)
				body := x.do(l)
				if got := string(command(body).ProtoReflect().WhichOneof(command(body).ProtoReflect().Descriptor().Oneofs().ByName("body")).Name()); got != name {
					t.Fatalf("it is about %s", got)
				}
				if no := l.by("operator/alice", body); no != "" {
					t.Fatalf("refused: %s", no)
				}
				var got []string
				for _, e := range l.state().EventsAfter(0) {
					if e.Index != l.index {
						continue
					}
					got = append(got, e.Type)
					if e.Type == x.event && e.Actor == "operator/alice" && e.Subject != "" && strings.TrimSpace(e.Text) != "" {
						return
					}
				}
				t.Errorf("it is no event %s of the operator; events are %q", x.event, got)
			})
		}
	}
	if n := fields.Len(); len(acts) != n {
		t.Errorf("there are %d commands, and %d are written about", n, len(acts))
	}
}

// A node tells of a snapshot until it knows that it was noted; told again it is no news.
func TestASnapshotIsNotedOnce(t *testing.T) {
	l := level4(t)
	for _, text := range []string{"snapshot a of log index 7", "snapshot b of log index 7", "snapshot a of log index 7"} {
		l.ok(&logpb.Audit{Action: AuditSnapshot, Subject: "n1", Text: text})
	}
	n := 0
	for _, e := range l.state().EventsAfter(0) {
		if e.Type == "SNAPSHOT.SAVE" {
			n++
		}
	}
	if n != 2 {
		t.Errorf("two snapshots are %d events", n)
	}
}
