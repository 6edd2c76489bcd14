package fsm

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// Golden logs: entries as some build has committed them, and the state that
// they made. Every later build must make the same state of them, or a cluster
// whose nodes run both diverges. A log is never changed once a release has
// written it; behaviour that must change is changed by feature level, and gets
// a log of its own.
//
// A log is text: index, term and the encoded command in hex on a line each.
// Beside it lie the digest, with what matters of the state in words, and the
// snapshot.

// recorded are the logs of this build; -update writes them.
func recorded(t *testing.T) map[string]func() *lab {
	return map[string]func() *lab{
		"host-death": func() *lab { // by lease, with a fence that fails first; then the host returns
			l := fleet(t, 3, 3)
			l.ok(&logpb.NodeHello{Id: "n1", Addr: "10.0.0.1:7000", RunId: "r1", Version: "0.1", Machine: "h3"})
			l.ok(l.suspect("h1"))
			l.wait(time.Second)
			l.ok(&logpb.HostEvidence{Host: "h1", Epoch: 1, Evidence: []*logpb.Evidence{{Source: "peer h2", Detail: "no answer"}, {Source: "bmc", Detail: "no answer"}}})
			l.ok(l.hostDown("h1"))
			l.ok(l.attempt("h1", 1))
			l.wait(10 * time.Second)
			l.ok(&logpb.FenceResult{Host: "h1", Epoch: 1, Attempt: 1, Failure: "connection refused"})
			l.wait(10 * time.Second)
			l.ok(l.fenced("h1", ProofLease, "h2", "h3"))
			l.ok(l.place(3, "h2"))
			l.ok(&logpb.Canary{Node: "n1", Term: 1, Seq: 1})
			l.report("h2", said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: inc(2)}, said{vm: 3, power: PowerStarting, inc: inc(2)})
			l.report("h3", said{vm: 2, power: PowerOff, inc: inc(2), failed: inc(2)})
			l.wait(2 * time.Second)
			l.ok(l.place(2, "h2"))
			l.report("h2", said{vm: 2, power: PowerOn, inc: inc(3)}, said{vm: 3, power: PowerOn, inc: inc(2)})
			l.register("h1", "b2", said{vm: 1, power: PowerOff, inc: inc(1)})
			l.report("h1", said{vm: 1, power: PowerOff, refused: inc(1)}, said{vm: 2, power: PowerOff, refused: inc(1)}, said{vm: 3, power: PowerOff, refused: inc(1)})
			return l
		},
		"storage-loss": func() *lab { // paused on I/O errors: one VM goes on, one starts elsewhere; and a start that took too long
			l := fleet(t, 3, 3)
			l.report("h1", stalledVM(1), stalledVM(2), said{vm: 3, power: PowerOff, reason: ReasonCrashed, inc: inc(1)})
			l.wait(10 * time.Second)
			l.ok(l.storage(1, StorageBack))
			l.report("h1", said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: inc(1)})
			l.ok(l.place(3, "h1"))
			l.wait(2 * time.Minute)
			l.ok(l.storage(2, StorageLost))
			l.ok(&logpb.WorkUpdate{Work: uint64(l.vm(3).Work), Action: WorkWithdraw, Reason: "too slow"})
			l.report("h1", said{vm: 2, power: PowerOff, refused: inc(1)}, said{vm: 3, power: PowerOff, refused: inc(2)})
			l.ok(l.place(2, "h2"))
			l.ok(l.place(3, "h3"))
			l.report("h2", said{vm: 2, power: PowerOn, reason: ReasonBooted, inc: inc(2)})
			l.report("h3", said{vm: 3, power: PowerOn, reason: ReasonBooted, inc: inc(3)})
			return l
		},
		"vm-trouble": func() *lab { // crashes, migrations and copies behind our back, operators
			l := fleet(t, 3, 4)
			l.report("h1", crashed(1))
			l.ok(l.place(1, "h1"))
			l.report("h1", said{vm: 1, power: PowerOn, inc: inc(2)})
			l.report("h1", said{vm: 2, power: PowerOff, reason: ReasonMigrated, inc: inc(1)})
			l.report("h2", said{vm: 2, power: PowerOn})
			l.missing("h1", 3)
			l.ok(&logpb.VMReleased{Vm: idBytes(3), Work: uint64(l.vm(3).Work), Reason: "nobody has it"})
			l.ok(&logpb.WorkUpdate{Work: uint64(l.vm(3).Work), Action: WorkWithdraw, Reason: "another host is better"})
			l.report("h1", said{vm: 3, power: PowerOff, refused: inc(1)})
			l.ok(l.place(3, "h3"))
			l.report("h3", said{vm: 3, power: PowerOn, inc: inc(2)})
			l.report("h2", said{vm: 4, power: PowerOn, reason: ReasonBooted})
			l.report("h1", said{vm: 4, power: PowerOn, reason: ReasonIOError, inc: inc(1)})
			l.ok(&logpb.VMControl{Vm: idBytes(4), Action: VMStop})
			l.report("h1", said{vm: 4, power: PowerOff, reason: ReasonOrdered, inc: inc(1)})
			l.ok(&logpb.VMProtect{Vm: idBytes(4)})
			l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "max_restart", Value: "0"}, {Key: "max_relocate", Value: "0"}}})
			l.report("h1", crashed(2))
			l.ok(l.place(1, "h1"))
			l.report("h1", said{vm: 1, power: PowerOff, inc: inc(3), failed: inc(3)})
			l.ok(&logpb.Brake{Domain: "rack a", On: true, Reason: "4 of 5 hosts are silent together"})
			l.ok(&logpb.Arm{})
			l.wait(5 * time.Hour)
			l.ok(&logpb.AcceptTime{})
			return l
		},
		"moves": func() *lab { // a migration, one that fails, one whose source dies; a relocation, a maintenance; HA disarmed, and as if unmanaged
			l := movers(t, 3, 3)
			l.ok(migrate(1, "h2"))
			l.report("h1", left(1))
			l.report("h2", said{vm: 1, power: PowerOn, reason: ReasonBooted})
			l.report("h1", said{vm: 1, power: PowerOff, refused: inc(1)})
			l.ok(migrate(2, "h2"))
			l.report("h1", said{vm: 2, power: PowerOn, reason: ReasonBooted, inc: inc(1), order: l.host("h1").order(OrderMigrate, testVM(2)).ID})
			l.ok(relocate(3, "h3"))
			l.report("h1", said{vm: 3, power: PowerOff, reason: ReasonOrdered, inc: inc(1)})
			l.report("h1", said{vm: 3, power: PowerOff, inc: inc(1), refused: inc(1)})
			l.ok(l.place(3, "h3"))
			l.report("h3", said{vm: 3, power: PowerOn, reason: ReasonBooted, inc: inc(2)})
			l.ok(&logpb.HostControl{Host: "h1", Action: HostMaintenanceOn, Force: true})
			l.ok(&logpb.HostDrained{Host: "h1", State: DrainStuck, Reason: "vm2", Force: true})
			l.ok(migrate(2, "h2"))
			l.kill("h1")
			l.ok(&logpb.VMReleased{Vm: idBytes(2), Work: uint64(l.vm(2).Work), Reason: "host h2 does not have it"})
			l.ok(l.place(2, "h3"))
			l.ok(&logpb.HostStopping{Host: "h2", Epoch: l.host("h2").Epoch, Session: "s1", Reboot: true})
			l.ok(&logpb.Arm{Ignore: true})
			l.ok(&logpb.HostHeeds{Host: "h3", Epoch: l.host("h3").Epoch, Index: l.state().ArmedIndex})
			l.report("h2", said{vm: 1, power: PowerOff, reason: ReasonHostShutdown, inc: inc(2)})
			l.ok(&logpb.Arm{Armed: true})
			return l
		},
		"copies": func() *lab { // one that competes and is destroyed, one that is another machine
			l := fleet(t, 3, 2)
			l.report("h1", said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: inc(1)}, said{vm: 2, power: PowerOn, reason: ReasonBooted, inc: inc(1)})
			l.report("h2", said{vm: 1, power: PowerOn, reason: ReasonBooted}, said{vm: 2, power: PowerOn, reason: ReasonBooted})
			l.wait(3 * time.Second)
			l.ok(l.copy(1, "h2", CopyDestroy))
			l.ok(l.copy(2, "h2", CopyApart))
			l.wait(time.Second)
			l.report("h2", said{vm: 1, power: PowerOff, refused: inc(0)}, said{vm: 2, power: PowerOn, reason: ReasonBooted})
			return l
		},
		"fence-path": func() *lab { // levels that are tried: proven, failing, proven again; then used through others
			l := fleet(t, 3, 1)
			check := func(failure string) {
				f := l.host("h1").Fence[0]
				l.ok(&logpb.FenceChecked{Host: "h1", Levels: []*logpb.LevelCheck{{Driver: f.Driver, Address: f.Address, Identity: f.Identity, Failure: failure, By: "leader", LastUnixNs: f.Check.Checked}}})
				l.wait(time.Hour)
			}
			for _, failure := range []string{"", "no answer", "no answer", "no answer", "", "no answer"} {
				check(failure)
			}
			l.ok(l.suspect("h1"))
			l.ok(l.hostDown("h1"))
			a := l.attempt("h1", 1)
			a.Via = []string{ViaLeader, ViaNode + "n2"}
			l.ok(a)
			return l
		},
		"nodes": func() *lab { // one leaves for good, one is dead and removed
			l := newLab(t)
			for _, n := range []string{"n1", "n2", "n3"} {
				l.ok(&logpb.NodeHello{Id: n, Addr: n + ":7000", RunId: "r1", Version: "0.1", StartedUnixNs: 1})
			}
			l.ok(&logpb.NodeControl{Id: "n2", Action: uint32(GoingLeave)})
			l.ok(&logpb.NodeDown{Id: "n3", RunId: "r1", Reason: "silent"})
			l.ok(&logpb.NodeControl{Id: "n3", Action: uint32(GoingRemove)})
			return l
		},
		"node-states": func() *lab { // one through maintenance, one to its end, one whose time is over, one that restarts
			l := newLab(t)
			for _, n := range []string{"n1", "n2", "n3", "n4"} {
				l.ok(&logpb.NodeHello{Id: n, Addr: n + ":7000", RunId: "r1", Version: "0.1", StartedUnixNs: 1})
			}
			step := func(id string, s NodeStep) {
				l.wait(time.Second)
				l.ok(&logpb.NodeSteer{Id: id, RunId: "r1", Step: uint32(s), WithinNs: int64(time.Minute), ForNs: int64(time.Hour)})
			}
			for _, s := range []NodeStep{StepMaintain, StepNothingLeft, StepMaintain, StepResume, StepMaintain} {
				step("n1", s)
			}
			for _, s := range []NodeStep{StepPrepareStop, StepNothingLeft, StepCancelStop, StepPrepareStop, StepNothingLeft, StepStop} {
				step("n2", s)
			}
			l.ok(&logpb.NodeDown{Id: "n2", RunId: "r1", Reason: "it was stopped", Left: true})
			step("n3", StepPrepareStop)
			l.wait(time.Minute)
			l.ok(&logpb.NodeSteer{Id: "n3", RunId: "r1", Step: uint32(StepDeadline), Reason: "2 agents still come to it"})
			step("n4", StepMaintain)
			l.ok(&logpb.NodeHello{Id: "n4", Addr: "n4:7000", RunId: "r2", Version: "0.2", StartedUnixNs: 2})
			return l
		},
		"joining": func() *lab { // everything that tokens are good for
			l := joinLab(t)
			l.ok(&logpb.NodeHello{Id: "n1", Addr: "n1:7000", RunId: "r1", Version: "0.3", FeatureLevel: LevelJoin})
			l.ok(&logpb.CASet{Cert: []byte("certificate"), SealedKey: []byte("sealed")})
			made := func(id string, kind Member, name string, role Role, uses uint32) {
				l.ok(&logpb.TokenCreate{Id: id, Kind: uint32(kind), Hash: sum(id), Name: name, Role: uint32(role), Uses: uses, LastsNs: int64(time.Hour)})
			}
			used := func(id string, kind Member, name string) *logpb.TokenUse {
				return &logpb.TokenUse{Id: id, Hash: sum(id), Kind: uint32(kind), Name: name, Key: sum(name), Addr: name + ":7000"}
			}
			made("t1", MemberNode, "", RoleNone, 2)
			made("t2", MemberHost, "", RoleNone, 100)
			made("t3", MemberOperator, "alice", RoleOperator, 1)
			made("t5", MemberHost, "", RoleNone, 1)
			l.ok(used("t1", MemberNode, "n2"))
			l.ok(&logpb.NodeAdmit{Id: "n2", Step: 1, Addr: "n2:7000"})
			l.ok(&logpb.NodeHello{Id: "n2", Addr: "n2:7000", RunId: "r1", Version: "0.3", FeatureLevel: LevelJoin})
			l.ok(&logpb.NodeAdmit{Id: "n2", Step: 2})
			l.ok(&logpb.NodeAdmit{Id: "n2", Step: 3, Addr: "n2:7001"})
			l.ok(used("t1", MemberNode, "n3"))
			l.ok(used("t2", MemberHost, "h1"))
			l.ok(registration("h1", "b1"))
			l.ok(used("t3", MemberOperator, "alice"))
			l.ok(&logpb.HostLeave{Host: "h1", Epoch: 1, Session: l.host("h1").Session, Reason: "stopped"})
			l.ok(&logpb.HostControl{Host: "h1", Action: HostRemove})
			l.rejected(registration("h1", "b2"))
			made("t4", MemberHost, "h1", RoleNone, 1)
			l.ok(used("t4", MemberHost, "h1"))
			l.ok(registration("h1", "b2"))
			l.ok(&logpb.OperatorSet{Name: "bob", Role: uint32(RoleViewer)})
			l.ok(&logpb.OperatorSet{Name: "alice"})
			l.rejected(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "unknown_operator", Value: "viewer"}}})
			l.ok(&logpb.OperatorSet{Name: "carol", Role: uint32(RoleAdmin)})
			l.ok(&logpb.TokenRevoke{Id: "t5"})
			l.rejected(used("t5", MemberHost, "h5"))
			l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "unknown_operator", Value: "viewer"}, {Key: "dead_node_cleanup", Value: "1h"}, {Key: "certificate_validity", Value: "720h"}}})
			l.ok(&logpb.NodeControl{Id: "n3", Action: uint32(GoingRemove)})
			return l
		},
		"levels": func() *lab { // a cluster of level 1 is upgraded, and its leaders say so more than once
			l := fleet(t, 2, 1)
			for _, n := range []string{"n1", "n2"} {
				l.ok(&logpb.NodeHello{Id: n, Addr: n + ":7000", RunId: "r2", Version: "0.3", FeatureLevel: 3, StartedUnixNs: 2})
			}
			l.ok(&logpb.FeatureRaise{Level: 3, Version: "0.3"})
			l.ok(&logpb.FeatureRaise{Level: 2, Version: "0.2"})
			l.ok(&logpb.FeatureRaise{Level: 3, Version: "0.3.1"})
			return l
		},
		"requests": func() *lab { // asked again, asked otherwise, by another, rejected, and forgotten after a day
			l := level3(t)
			l.ask(asked("operator/alice", "r1", limit("7")))
			l.ask(asked("operator/alice", "r1", limit("7")))
			l.ask(asked("operator/alice", "r1", limit("9")))
			l.ask(asked("operator/bob", "r1", limit("8")))
			l.ask(asked("operator/bob", "r2", limit("nonsense")))
			l.ask(asked("operator/bob", "r2", limit("nonsense")))
			for range 24 {
				l.wait(time.Hour)
				l.ok(&logpb.Canary{Node: "n1", Term: 1})
			}
			l.wait(time.Second)
			l.ask(asked("operator/alice", "r1", limit("9")))
			l.ask(asked("operator/alice", "r3", &logpb.Arm{}))
			return l
		},
		"rules": func() *lab { // written, refused, removed; and the order of starts
			l := policyFleet(t, 3, 4)
			l.ok(together(1, 2))
			l.ok(apart(1, 3))
			l.ok(onHosts(ruleOf(RuleHosts, false, 3, 4), "h3", "h2"))
			l.rejected(apart(1, 2))
			l.ok(&logpb.RuleRemove{Id: 2})
			l.ok(setVM(1, "depends_on", uuids(3), "priority", "high"))
			l.ok(setVM(3, "gate", "10s", "gate_timeout", "1m"))
			l.rejected(setVM(3, "depends_on", uuids(1)))
			l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "placement", Value: "load"}, {Key: "cpu_overcommit", Value: "4"}, {Key: "reserved_memory", Value: "4GiB"}}})
			l.kill("h1")
			l.ok(&logpb.WorkUpdate{Work: uint64(l.work(1).ID), Action: WorkGated, Reason: "it waits for vm3"})
			l.ok(l.place(3, "h3"))
			l.report("h3", said{vm: 3, power: PowerOn, reason: ReasonBooted, inc: inc(2)})
			l.ok(l.place(1, "h2"))
			l.ok(l.place(2, "h3")) // not with vm1
			l.ok(l.place(2, "h2"))
			return l
		},
		"guests": func() *lab { // watched; one hangs until it is given up, and is well again
			l := movers(t, 2, 2)
			l.ok(setVM(1, "guest_health", "both", "guest_timeout", "30s", "guest_grace", "1m"))
			l.rejected(setVM(2, "guest_timeout", "1s"))
			l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "guest_window", Value: "30m"}}})
			for range 2 {
				l.ok(l.hangs(GuestSilent))
				l.stopped()
				l.runsAgain("h1")
				l.wait(10 * time.Minute)
			}
			l.ok(setVM(1, "max_relocate", "0"))
			l.ok(l.hangs(GuestWatchdog))
			l.ok(l.hangs(GuestSilent))
			l.ok(l.hangs(GuestWell))
			l.ok(l.hangs(GuestLeft))
			return l
		},
		"usage": func() *lab { // told in every order, closed, corrected, mended, given up; VMs that come and go
			l := usageLab(t)
			l.ok(&logpb.UsageTypeSet{Id: 1000, Name: "GPU", Opens: []string{"GPU.ASSIGN"}, Closes: []string{"GPU.RELEASE"}})
			l.ok(&logpb.UsageSync{Vms: [][]byte{idBytes(1), idBytes(9)}})
			l.ok(told(ev("e1", "LB.CREATE", "7", l.now, "alice"), ev("e2", "GPU.ASSIGN", "g1", l.now, "bob"), ev("e3", "VOLUME.CREATE", "v1", l.now, "bob")))
			l.ok(told(ev("e4", "LB.DELETE", "8", l.now, "")))
			l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonShutdown})
			l.ok(&logpb.UsageOwnerSet{Vm: idBytes(1), Account: &logpb.UsageAccount{Domain: "ROOT", Account: "carol"}})
			from := l.now
			l.wait(50 * time.Minute)
			l.report("h1", said{vm: 1, power: PowerOn, reason: ReasonBooted})
			l.wait(50 * time.Minute)
			l.ok(closing(from, from+int64(time.Hour)))
			l.ok(told(ev("e5", "LB.DELETE", "7", from+int64(time.Minute), ""), ev("e6", "VOLUME.RESIZE", "v1", from+int64(2*time.Minute), "")))
			l.ok(told(ev("e7", "LB.CREATE", "8", from-int64(time.Minute), "bob")))
			l.ok(&logpb.UsageAccountSet{Account: &logpb.UsageAccount{Account: "bob"}, RemovedUnixNs: l.now})
			l.ok(&logpb.UsageEvents{Repair: "the account was removed", Events: []*logpb.UsageEvent{ev("r1", "GPU.RELEASE", "g1", l.now, "")}})
			for range 30 {
				l.wait(50 * time.Minute)
				l.ok(&logpb.Canary{Node: "n1", Term: 1})
			}
			l.ok(closing(from+int64(time.Hour), from+int64(25*time.Hour), from+int64(26*time.Hour)))
			l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "usage_keep", Value: "24h"}}})
			l.ok(&logpb.UsageTrim{BeforeUnixNs: from + int64(time.Hour), Keys: []*logpb.UsageKey{{Type: 11, Resource: "7"}, {Type: 11, Resource: "8"}}})
			return l
		},
		"alerts": func() *lab { // raised, silenced, delivered, reopened, archived, deleted and purged
			l := level4(t)
			l.ok(&logpb.NotifySet{Name: "hook", Kind: "webhook", Address: "http://a", Match: &logpb.AlertMatch{Severity: uint32(Warning)}, Secret: []byte("sealed")})
			l.ok(&logpb.NotifySet{Name: "mail", Kind: "mail", Address: "smtp://a", Options: []*logpb.Setting{{Key: "to", Value: "ops@example.org"}}})
			l.ok(raised("h1", "hot"))
			l.ok(raised("h1", "hot"))
			l.ok(&logpb.SilenceSet{Match: &logpb.AlertMatch{Subjects: []string{"h2"}}, Reason: "works", ForNs: int64(time.Minute)})
			l.ok(raised("h2", "hot"))
			l.deliver("hook", true)
			l.ok(&logpb.AlertControl{Action: alertResolve, Match: &logpb.AlertMatch{Subjects: []string{"h1"}}})
			l.ok(raised("h1", "hot"))
			l.deliver("mail", false)
			l.wait(2 * time.Minute)
			l.ok(&logpb.Canary{Node: "n1", Term: 1})
			l.ok(&logpb.AlertControl{Action: alertResolve})
			l.ok(&logpb.AlertControl{Action: alertArchive, Match: &logpb.AlertMatch{Subjects: []string{"h1"}}})
			l.ok(&logpb.AlertControl{Action: alertDelete, Match: &logpb.AlertMatch{Subjects: []string{"h2"}}})
			l.ok(&logpb.NotifyRemove{Name: "mail"})
			l.ok(&logpb.EventPurge{BeforeId: 10})
			l.ok(raised("h1", "hot"))
			return l
		},
		"silences": func() *lab { // planned, begun, over, called off; told again; noted for the audit
			l := level4(t)
			l.ok(&logpb.NotifySet{Name: "prom", Kind: "alertmanager", Address: "http://a", RepeatNs: int64(time.Minute)})
			l.ok(&logpb.NodeHello{Id: "n1", RunId: "r1", Version: "0.4", SnapshotUnixNs: l.now})
			l.ok(&logpb.Audit{Action: AuditSnapshot, Subject: "n1", Text: "a snapshot was read"})
			l.ok(raised("h1", "hot"))
			l.ok(&logpb.SilenceSet{Reason: "works", FromUnixNs: l.now + int64(time.Minute), UntilUnixNs: l.now + int64(2*time.Minute)})
			l.ok(&logpb.SilenceSet{Reason: "more works", FromUnixNs: l.now + int64(time.Hour), ForNs: int64(time.Hour)})
			l.ok(&logpb.SilenceSet{Reason: "at once", Match: &logpb.AlertMatch{Subjects: []string{"x"}}, ForNs: int64(time.Hour)})
			for range 4 {
				l.wait(40 * time.Second)
				l.ok(&logpb.Canary{Node: "n1", Term: 1})
				if len(l.pending("prom")) > 0 {
					l.deliver("prom", true)
				}
				l.ok(raised("h2", "hot"))
			}
			var planned SilenceID
			for id, x := range l.state().Silences() {
				if x.StateAt(l.now) == "planned" {
					planned = id
				}
			}
			l.ok(&logpb.SilenceSet{Id: uint64(planned)})
			l.ok(&logpb.Canary{Node: "n1", Term: 1})
			return l
		},
		"anything": func() *lab { // random commands, nonsense included
			_, log := story(t.Fatalf, rand.New(rand.NewPCG(2026, 11)).IntN, 400)
			return &lab{t: t, log: log}
		},
	}
}

// stated is the digest file.
func stated(s *State) string {
	return fmt.Sprintf("digest %016x\nindex %d time %d seq %d events %d\n%s", s.Sum(), s.Index, s.Time, s.seq, s.events.len(), essence(s))
}

func writeLog(path string, log []Entry) error {
	var b bytes.Buffer
	for _, e := range log {
		fmt.Fprintf(&b, "%d %d %s\n", e.Index, e.Term, hex.EncodeToString(e.Data))
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

func readLog(t *testing.T, path string) []Entry {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var log []Entry
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e Entry
		var data string
		if _, err := fmt.Sscan(lines.Text(), &e.Index, &e.Term, &data); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if e.Data, err = hex.DecodeString(data); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		log = append(log, e)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return log
}

func TestGoldenLogs(t *testing.T) {
	dir := filepath.Join("testdata", "logs")
	if *update {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, record := range recorded(t) {
			log := record().log
			m := NewMachine()
			m.Apply(log)
			base := filepath.Join(dir, name)
			for path, err := range map[string]error{
				base + ".log":    writeLog(base+".log", log),
				base + ".digest": os.WriteFile(base+".digest", []byte(stated(m.State())), 0o644),
				base + ".snap":   os.WriteFile(base+".snap", snapshotOf(t, m.State()), 0o644),
			} {
				if err != nil {
					t.Fatalf("write %s: %v", path, err)
				}
			}
		}
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no golden logs in %s: %v", dir, err)
	}
	for _, path := range logs {
		t.Run(filepath.Base(path), func(t *testing.T) {
			log := readLog(t, path)
			base := strings.TrimSuffix(path, ".log")
			want, err := os.ReadFile(base + ".digest")
			if err != nil {
				t.Fatal(err)
			}
			m := NewMachine()
			m.Apply(log)
			if got := stated(m.State()); got != string(want) {
				t.Errorf("replaying it makes another state than it made then:\n%s\nwas:\n%s", got, want)
			}
			if err := m.Check(); err != nil {
				t.Error(err)
			}
			raw, err := os.ReadFile(base + ".snap")
			if err != nil {
				t.Fatal(err)
			}
			s, err := ReadState(bytes.NewReader(raw))
			if err != nil {
				t.Fatalf("the snapshot of then cannot be read: %v", err)
			}
			if diff := sameState(m.State(), s); diff != "" {
				t.Errorf("the snapshot of then is another state:\n%s", diff)
			}
		})
	}
}

// Every command of the format stands in some golden log.
func TestGoldenLogsHoldEveryCommand(t *testing.T) {
	logs, _ := filepath.Glob(filepath.Join("testdata", "logs", "*.log"))
	seen := map[string]bool{}
	for _, path := range logs {
		for _, e := range readLog(t, path) {
			var c logpb.Command
			if err := proto.Unmarshal(e.Data, &c); err != nil {
				t.Fatal(err)
			}
			body := c.ProtoReflect().Descriptor().Oneofs().ByName("body")
			seen[string(c.ProtoReflect().WhichOneof(body).Name())] = true
		}
	}
	fields := (&logpb.Command{}).ProtoReflect().Descriptor().Oneofs().ByName("body").Fields()
	for i := range fields.Len() {
		if name := string(fields.Get(i).Name()); !seen[name] {
			t.Errorf("no golden log holds %s", name)
		}
	}
}
