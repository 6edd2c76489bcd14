package fsm

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"lifeboat/fsm/logpb"
)

func protoUint(n uint64) protoreflect.Value { return protoreflect.ValueOfUint64(n) }

// inc is the n-th incarnation of generation 1.
func inc(n uint64) Incarnation { return NewIncarnation(1, n) }

// crash is the owner's word that VM 1 died at incarnation n.
func crashed(n uint64) said {
	return said{vm: 1, power: PowerOff, reason: ReasonCrashed, inc: inc(n)}
}

func workScenes() []scene {
	scheduled := func(l *lab) { l.report("h1", crashed(1)) }
	restarting := func(l *lab) { scheduled(l); l.ok(l.place(1, "h1")) }
	elsewhere := func(l *lab) { l.kill("h1", "h2") } // inc 2 on h2
	return []scene{
		{"on", func(*lab) {}},
		{"off by hand", func(l *lab) {
			l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonShutdown, inc: inc(1)})
		}},
		{"Scheduled, crashed", scheduled},
		{"Scheduled, gone", func(l *lab) { l.kill("h1") }},
		{"Investigating, missing", func(l *lab) { l.missing("h1", 1) }},
		{"Investigating, migrated", func(l *lab) {
			l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonMigrated, inc: inc(1)})
		}},
		{"Fencing", func(l *lab) { l.ok(l.hostDown("h1")) }},
		{"Fencing, migrated", func(l *lab) {
			l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonMigrated, inc: inc(1)})
			l.ok(l.hostDown("h1"))
		}},
		{"Fencing, host back", func(l *lab) { l.ok(l.hostDown("h1")); l.register("h1", "b1") }},
		{"Restarting in place", restarting},
		{"Restarting elsewhere", elsewhere},
		{"Restarting, host down", func(l *lab) { restarting(l); l.ok(l.hostDown("h1")) }},
		{"Stopping, withdrawn", func(l *lab) {
			restarting(l)
			l.ok(&logpb.WorkUpdate{Work: uint64(l.vm(1).Work), Action: WorkWithdraw, Reason: "too slow"})
		}},
		{"Stopping, by operator", func(l *lab) { l.ok(&logpb.VMControl{Vm: idBytes(1), Action: VMStop}) }},
		{"error", func(l *lab) {
			scheduled(l)
			for range 4 {
				to := HostID("h1")
				if l.work(1).TriedOn("h1") > 1 {
					to = "h2"
				}
				l.ok(l.place(1, to))
				l.report(l.owner(1), said{vm: 1, power: PowerOff, inc: l.vm(1).Incarnation, failed: l.vm(1).Incarnation})
			}
			if l.vm(1).Error == "" {
				l.t.Fatal("not in error")
			}
		}},
		{"unprotected", func(l *lab) { l.ok(&logpb.VMProtect{Vm: idBytes(1)}) }},
	}
}

func workEvents() []happening {
	ev := func(name string, f func(l *lab) proto.Message) happening { return happening{name: name, body: f} }
	// word is an entry about VM 1 at its current incarnation from its owner.
	word := func(name string, p Power, r Reason) happening {
		return ev(name, func(l *lab) proto.Message {
			return l.reportOf(l.owner(1), said{vm: 1, power: p, reason: r, inc: l.vm(1).Incarnation})
		})
	}
	other := func(l *lab) HostID { return map[HostID]HostID{"h1": "h2", "h2": "h1"}[l.owner(1)] }
	foreign := func(name string, p Power, r Reason, back uint64) happening {
		return ev(name, func(l *lab) proto.Message {
			i := Incarnation(0)
			if back > 0 {
				i = max(l.vm(1).Incarnation, inc(back)) - Incarnation(back-1)
			}
			return l.reportOf(other(l), said{vm: 1, power: p, reason: r, inc: i})
		})
	}
	work := func(l *lab) uint64 {
		if w := l.vm(1).Work; w != 0 {
			return uint64(w)
		}
		for id, w := range l.state().AllWork() {
			if w.VM == testVM(1) {
				return uint64(id)
			}
		}
		return 1 << 40
	}
	update := func(name string, action uint32, again bool) happening {
		return happening{name, func(l *lab) proto.Message {
			return &logpb.WorkUpdate{Work: work(l), Action: action, Reason: "r", DelayNs: 5e9}
		}, again}
	}
	control := func(name string, action uint32) happening {
		return ev(name, func(*lab) proto.Message { return &logpb.VMControl{Vm: idBytes(1), Action: action} })
	}
	return []happening{
		word("on", PowerOn, ReasonBooted),
		word("on, I/O error", PowerOn, ReasonIOError),
		word("off, crashed", PowerOff, ReasonCrashed),
		word("off, shut down", PowerOff, ReasonShutdown),
		word("off, migrated", PowerOff, ReasonMigrated),
		word("off, self-fenced", PowerOff, ReasonSelfFenced),
		word("off, host shutdown", PowerOff, ReasonHostShutdown),
		word("unknown", PowerUnknown, ReasonNone),
		word("starting", PowerStarting, ReasonNone),
		word("absent", PowerReportMissing, ReasonNone),
		ev("missing twice", func(l *lab) proto.Message {
			r := l.reportOf(l.owner(1))
			r.Reports[0].Missing = idBytes(1)
			return r
		}),
		ev("on, old incarnation", func(l *lab) proto.Message {
			return l.reportOf(l.owner(1), said{vm: 1, power: PowerOn, inc: l.vm(1).Incarnation - 1})
		}),
		ev("off, old incarnation", func(l *lab) proto.Message {
			return l.reportOf(l.owner(1), said{vm: 1, power: PowerOff, reason: ReasonCrashed, inc: l.vm(1).Incarnation - 1})
		}),
		ev("refused", func(l *lab) proto.Message {
			return l.reportOf(l.owner(1), said{vm: 1, power: PowerOff, refused: l.vm(1).Incarnation})
		}),
		ev("older refused", func(l *lab) proto.Message {
			return l.reportOf(l.owner(1), said{vm: 1, power: PowerOff, refused: l.vm(1).Incarnation - 1})
		}),
		ev("failed", func(l *lab) proto.Message {
			return l.reportOf(l.owner(1), said{vm: 1, power: PowerOff, inc: l.vm(1).Incarnation, failed: l.vm(1).Incarnation})
		}),
		ev("older failed", func(l *lab) proto.Message {
			return l.reportOf(l.owner(1), said{vm: 1, power: PowerOff, inc: l.vm(1).Incarnation - 1, failed: l.vm(1).Incarnation - 1})
		}),
		foreign("copy by hand", PowerOn, ReasonBooted, 0),
		foreign("copy, older", PowerOn, ReasonBooted, 2),
		foreign("copy, same", PowerOn, ReasonBooted, 1),
		foreign("copy, incoming", PowerOn, ReasonMigratingIn, 0),
		foreign("copy, off", PowerOff, ReasonNone, 0),
		ev("place on owner", func(l *lab) proto.Message { return l.place(1, l.owner(1)) }),
		ev("place elsewhere", func(l *lab) proto.Message { return l.place(1, other(l)) }),
		ev("place nowhere", func(l *lab) proto.Message { return l.place(1, "h9") }),
		update("cancel", WorkCancel, false), update("retry", WorkRetry, true), update("no target", WorkNoTarget, true),
		update("withdraw", WorkWithdraw, false), update("nonsense", 9, false),
		ev("released", func(l *lab) proto.Message {
			return &logpb.VMReleased{Vm: idBytes(1), Work: work(l), Reason: "nobody has it"}
		}),
		control("vm start", VMStart), control("vm stop", VMStop), control("vm stop --force", VMForceStop), control("vm clear", VMClear), control("vm nonsense", 9),
		ev("protect", func(*lab) proto.Message {
			return &logpb.VMProtect{Vm: idBytes(1), Protect: &logpb.Protection{On: true}}
		}),
		ev("protect, none", func(*lab) proto.Message {
			return &logpb.VMProtect{Vm: idBytes(1), Protect: &logpb.Protection{On: true, Ha: "none"}}
		}),
		ev("unprotect", func(*lab) proto.Message { return &logpb.VMProtect{Vm: idBytes(1)} }),
		ev("host down", func(l *lab) proto.Message { return l.hostDown(l.owner(1)) }),
		ev("host fenced", func(l *lab) proto.Message { return l.fenced(l.owner(1), ProofPower) }),
		{"host back", func(l *lab) proto.Message { return registration(l.owner(1), "b1") }, true},
		{"host rebooted", func(l *lab) proto.Message { return registration(l.owner(1), "b7") }, true},
		ev("host gone, forced", func(l *lab) proto.Message {
			c := l.fenced(l.owner(1), ProofOperator)
			c.Force = true
			return c
		}),
	}
}

func lookVM(l *lab) string {
	v := l.vm(1)
	s := fmt.Sprintf("%s on %s at %s", v.Power, l.owner(1), v.Incarnation)
	if !v.Wanted {
		s += " unwanted"
	}
	if v.Gone {
		s += " gone"
	}
	if v.Error != "" {
		s += " error"
	}
	if !v.Protected() {
		s += " unprotected"
	}
	if w := l.work(1); w != nil {
		s += fmt.Sprintf("; %s %s (%s)", w.Type, w.Step, w.Cause)
	}
	for id, h := range l.state().Hosts() {
		for _, o := range h.Orders {
			s += fmt.Sprintf("; %s: %s %s", id, o.Kind, o.Incarnation)
		}
	}
	for k := range l.state().raised.all() {
		if k.Type == AlertVM {
			s += "; alert " + k.Cause
		}
	}
	return s
}

func TestWorkTable(t *testing.T) {
	golden(t, "work.table", cross(t, func(t *testing.T) *lab { return fleet(t, 2, 1) }, workScenes(), workEvents(), lookVM))
}
