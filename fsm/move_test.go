package fsm

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// movers is fleet at the level of moves, with agents that migrate.
func movers(t testing.TB, hosts, vms int) *lab {
	t.Helper()
	l := fleet(t, hosts, vms)
	l.ok(&logpb.FeatureRaise{Level: LevelPolicy, Version: "x"})
	for i := range hosts {
		l.comesBack(HostID("h"+string(rune('1'+i))), "b1")
	}
	return l
}

// comesBack registers a host with an agent that migrates.
func (l *lab) comesBack(id HostID, boot string, vms ...said) {
	l.t.Helper()
	r := registration(id, boot, vms...)
	r.FeatureLevel, r.Inventory.MigrateUri = LevelMigrates, "qemu+tls://"+string(id)
	l.ok(r)
	l.seqs[id] = 0
}

func migrate(n int, to HostID) *logpb.VMMove {
	return &logpb.VMMove{Vm: idBytes(n), Kind: MoveLive, Target: string(to), Why: "test"}
}

func relocate(n int, to HostID) *logpb.VMMove {
	return &logpb.VMMove{Vm: idBytes(n), Kind: MoveRelocate, Target: string(to), Why: "test"}
}

func onAt(n uint64) said { return said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: inc(n)} }

func left(n uint64) said {
	return said{vm: 1, power: PowerOff, reason: ReasonMigrated, inc: inc(n)}
}

// outcome is what became of VM 1 and its last work, in a few words.
func (l *lab) outcome() string {
	v, h := l.state().VM(testVM(1))
	text := string(h.ID) + " " + v.Incarnation.String() + " " + v.Power.String()
	if v.Gone {
		text += " gone"
	}
	for _, w := range l.state().AllWork() {
		if w.VM == v.ID {
			text += ", " + w.Type.String() + " " + w.Step.String()
			break
		}
	}
	if n := len(h.Orders); n > 0 {
		text += ", " + h.Orders[n-1].Kind.String()
	}
	return text
}

// TestS7Migration is the table of docs/decisions/live-migration.md.
func TestS7Migration(t *testing.T) {
	failed := func(l *lab) {
		x := onAt(1)
		x.order = l.host("h1").order(OrderMigrate, testVM(1)).ID
		l.report("h1", x)
	}
	scenes := map[string]func(*lab){
		"Migrating":     func(l *lab) {},
		"Fencing":       func(l *lab) { l.ok(l.hostDown("h1")) },
		"Investigating": func(l *lab) { l.report("h1", crashed(1)) },
		"left":          func(l *lab) { l.report("h1", left(1)) },
		"dead":          func(l *lab) { l.kill("h1") },
	}
	arrived := func(l *lab) { l.report("h2", said{vm: 1, power: PowerOn, reason: ReasonBooted}) }
	released := func(l *lab) { l.do(&logpb.VMReleased{Vm: idBytes(1), Work: uint64(l.vm(1).Work), Reason: "all asked"}) }
	back := func(boot string, x said) func(*lab) { return func(l *lab) { l.comesBack("h1", boot, x) } }
	for _, c := range []struct {
		scene, event string
		do           func(*lab)
		want         string
	}{
		{"Migrating", "the source says it runs", func(l *lab) { l.report("h1", onAt(1)) }, "h1 1.1 PowerOn, Migration Migrating, migrate"},
		{"Migrating", "the order failed", failed, "h1 1.1 PowerOn, Migration Error"},
		{"Migrating", "another order failed", func(l *lab) { x := onAt(1); x.order = 1; l.report("h1", x) }, "h1 1.1 PowerOn, Migration Migrating, migrate"},
		{"Migrating", "it left", func(l *lab) { l.report("h1", left(1)) }, "h1 1.1 PowerOff, Migration Investigating"},
		{"Migrating", "it crashed", func(l *lab) { l.report("h1", crashed(1)) }, "h1 1.1 PowerOff, Migration Investigating"},
		{"Migrating", "it is missing", func(l *lab) { l.missing("h1", 1) }, "h1 1.1 PowerReportMissing, Migration Investigating"},
		{"Migrating", "it was given up", func(l *lab) { l.report("h1", said{vm: 1, power: PowerOff, inc: inc(1), refused: inc(1)}) }, "h1 1.1 PowerOff, Migration Investigating"},
		{"Migrating", "it is coming in", func(l *lab) { l.report("h2", said{vm: 1, power: PowerOn, reason: ReasonMigratingIn}) }, "h1 1.1 PowerOn, Migration Migrating, migrate"},
		{"Migrating", "it runs on the target", arrived, "h1 1.1 PowerOn, Migration Migrating, migrate"},
		{"Migrating", "an order to start is tried", func(l *lab) { l.do(l.place(1, "h2")) }, "h1 1.1 PowerOn, Migration Migrating, migrate"},
		{"Migrating", "it is stopped", func(l *lab) { l.rejected(&logpb.VMControl{Vm: idBytes(1), Action: VMStop}) }, "h1 1.1 PowerOn, Migration Migrating, migrate"},
		{"Migrating", "it is unprotected", func(l *lab) { l.rejected(&logpb.VMProtect{Vm: idBytes(1)}) }, "h1 1.1 PowerOn, Migration Migrating, migrate"},
		{"Migrating", "the source is down", func(l *lab) { l.ok(l.hostDown("h1")) }, "h1 1.1 PowerUnknown, Migration Fencing, migrate"},
		{"Migrating", "the source has rebooted", back("b2", said{vm: 1, power: PowerOff, inc: inc(1)}), "h1 1.1 PowerOff, Migration Investigating"},
		{"Migrating", "the source registers again", back("b1", onAt(1)), "h1 1.1 PowerOn, Migration Migrating, migrate"},
		{"Migrating", "the target dies", func(l *lab) { l.kill("h2") }, "h1 1.1 PowerOn, Migration Migrating, migrate"},
		{"Migrating", "released", released, "h1 1.1 PowerOn, Migration Migrating, migrate"},

		{"Fencing", "it runs on the target", arrived, "h1 1.1 PowerUnknown, Migration Fencing, migrate"},
		{"Fencing", "the source is back with it", back("b1", onAt(1)), "h1 1.1 PowerOn, Migration Migrating, migrate"},
		{"Fencing", "the source is back without it", back("b1", left(1)), "h1 1.1 PowerOff, Migration Investigating"},
		{"Fencing", "the source is dead", func(l *lab) { l.ok(l.fenced("h1", ProofPower)) }, "h1 1.1 PowerOff, Migration Investigating"},
		{"Fencing", "the source is dead, and a place is proposed", func(l *lab) { l.ok(l.fenced("h1", ProofPower, "h3")) }, "h1 1.1 PowerOff, Migration Investigating"},
		{"Fencing", "cancel", func(l *lab) { l.ok(&logpb.WorkUpdate{Work: uint64(l.vm(1).Work), Action: WorkCancel}) }, "h1 1.1 PowerUnknown, Migration Fencing, migrate"},

		{"Investigating", "it runs on the target", arrived, "h2 1.2 PowerOn, Migration Done"},
		{"Investigating", "it runs on the source", func(l *lab) { l.report("h1", onAt(1)) }, "h1 1.1 PowerOn, Migration Cancelled"},
		{"Investigating", "it is coming in", func(l *lab) { l.report("h2", said{vm: 1, power: PowerOn, reason: ReasonMigratingIn}) }, "h1 1.1 PowerOff, Migration Investigating"},
		{"Investigating", "cancel", func(l *lab) { l.rejected(&logpb.WorkUpdate{Work: uint64(l.vm(1).Work), Action: WorkCancel}) }, "h1 1.1 PowerOff, Migration Investigating"},
		{"Investigating", "a place is proposed", func(l *lab) { l.do(l.place(1, "h1")) }, "h1 1.1 PowerOff, Migration Investigating"},
		{"Investigating", "released", released, "h1 1.1 PowerOff, HA Scheduled"},
		{"Investigating", "the source dies", func(l *lab) { l.kill("h1") }, "h1 1.1 PowerOff, Migration Investigating"},

		{"left", "it runs on the target", arrived, "h2 1.2 PowerOn, Migration Done"},
		{"left", "it runs on a third host", func(l *lab) { l.report("h3", said{vm: 1, power: PowerOn, reason: ReasonBooted}) }, "h3 1.2 PowerOn, Migration Done"},
		{"left", "the source dies, then it arrives", func(l *lab) { l.kill("h1"); arrived(l) }, "h2 1.2 PowerOn, Migration Done"},

		{"dead", "it runs on the target", arrived, "h2 1.2 PowerOn, Migration Done"},
		{"dead", "released", released, "h1 1.1 PowerOff gone, HA Scheduled"},
		{"dead", "released, and placed", func(l *lab) { released(l); l.ok(l.place(1, "h3")) }, "h3 1.2 PowerOff, HA Restarting, start"},
	} {
		t.Run(c.scene+"/"+c.event, func(t *testing.T) {
			l := movers(t, 3, 1)
			l.ok(migrate(1, "h2"))
			scenes[c.scene](l)
			c.do(l)
			if got := l.outcome(); got != c.want {
				t.Errorf("%s", got)
				t.Errorf("%s, want", c.want)
			}
		})
	}
}

// TestMigrationFails: an alert says so and counts; the next one that goes through
// resolves it, and the source gives its copy up.
func TestMigrationFails(t *testing.T) {
	l := movers(t, 2, 1)
	for range 2 {
		l.ok(migrate(1, "h2"))
		x := onAt(1)
		x.order = l.host("h1").order(OrderMigrate, testVM(1)).ID
		l.report("h1", x)
	}
	a := l.state().OpenAlert(VMAlert(l.vm(1), NotMoved))
	if a == nil || a.Count != 2 || l.vm(1).Error != "" {
		t.Fatalf("alert %+v, error %q", a, l.vm(1).Error)
	}
	l.ok(migrate(1, "h2"))
	l.report("h2", said{vm: 1, power: PowerOn, reason: ReasonBooted})
	if n := l.state().CountOpenAlerts(); n != 1 {
		t.Errorf("%d alerts while both list it", n)
	}
	l.report("h1", left(1))
	l.report("h2", said{vm: 1, power: PowerOn, reason: ReasonBooted})
	if l.owner(1) != "h2" || l.state().CountOpenAlerts() != 0 {
		t.Errorf("%s; %d alerts", l.outcome(), l.state().CountOpenAlerts())
	}
	if o := l.host("h1").order(OrderDestroy, testVM(1)); o == nil || o.Incarnation != inc(1) {
		t.Errorf("the source keeps its definition: %v", o)
	}
}

func TestMigrationCalledOff(t *testing.T) {
	l := movers(t, 2, 1)
	l.ok(migrate(1, "h2"))
	w := l.vm(1).Work
	l.ok(&logpb.WorkUpdate{Work: uint64(w), Action: WorkCancel})
	o := l.host("h1").order(OrderMigrate, testVM(1))
	if o == nil || !o.Abort {
		t.Fatalf("the order is %+v", o)
	}
	l.rejected(&logpb.WorkUpdate{Work: uint64(w), Action: WorkCancel})
	x := onAt(1)
	x.order = o.ID
	l.report("h1", x)
	if got := l.state().Work(w); got.Step != Cancelled || !strings.Contains(got.Outcome, "called off by") || l.state().CountOpenAlerts() != 0 {
		t.Errorf("%+v", got)
	}
}

// TestRelocation: off, given up, started where it was wished.
func TestRelocation(t *testing.T) {
	l := movers(t, 3, 1)
	l.ok(relocate(1, "h2"))
	for _, x := range []struct {
		do   func()
		want string
	}{
		{func() {}, "h1 1.1 PowerOn, Relocation Stopping, stop"},
		{func() { l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonOrdered, inc: inc(1)}) }, "h1 1.1 PowerOff, Relocation Stopping, destroy"},
		{func() { l.do(l.place(1, "h2")) }, "h1 1.1 PowerOff, Relocation Stopping, destroy"},
		{func() { l.report("h1", said{vm: 1, power: PowerOff, inc: inc(1), refused: inc(1)}) }, "h1 1.1 PowerOff gone, Relocation Scheduled"},
		{func() { l.ok(l.place(1, "h2")) }, "h2 1.2 PowerOff, Relocation Restarting, start"},
		{func() {
			l.report("h2", said{vm: 1, power: PowerOff, inc: inc(2), failed: inc(2)})
		}, "h2 1.2 PowerOff gone, Relocation Scheduled"},
		{func() { l.wait(time.Minute); l.ok(l.place(1, "h3")) }, "h3 1.3 PowerOff, Relocation Restarting, start"},
		{func() { l.report("h3", onAt(3)) }, "h3 1.3 PowerOn, Relocation Done"},
	} {
		if x.do(); l.outcome() != x.want {
			t.Fatalf("%s, want %s", l.outcome(), x.want)
		}
	}
}

// TestRelocationInterrupted: what goes wrong while it is being stopped.
func TestRelocationInterrupted(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*lab)
		want string
	}{
		"migrated by hand": {func(l *lab) { l.report("h1", left(1)) }, "h1 1.1 PowerOff, HA Investigating"},
		"missing":          {func(l *lab) { l.missing("h1", 1) }, "h1 1.1 PowerReportMissing, HA Investigating"},
		"host down":        {func(l *lab) { l.ok(l.hostDown("h1")) }, "h1 1.1 PowerUnknown, Relocation Fencing, stop"},
		"host dead":        {func(l *lab) { l.kill("h1") }, "h1 1.1 PowerOff gone, HA Scheduled"},
		"host rebooted":    {func(l *lab) { l.comesBack("h1", "b2") }, "h1 1.1 PowerOff gone, HA Scheduled"},
		"given up":         {func(l *lab) { l.report("h1", said{vm: 1, power: PowerOff, inc: inc(1), refused: inc(1)}) }, "h1 1.1 PowerOff gone, Relocation Scheduled"},
	} {
		l := movers(t, 3, 1)
		l.ok(relocate(1, "h2"))
		if c.do(l); l.outcome() != c.want {
			t.Errorf("%s: %s, want %s", name, l.outcome(), c.want)
		}
	}
}

func TestMoveRefused(t *testing.T) {
	for name, c := range map[string]struct {
		before func(*lab)
		move   *logpb.VMMove
		say    string
	}{
		"same host":      {nil, migrate(1, "h1"), "already"},
		"no such host":   {nil, migrate(1, "h9"), "there is no host"},
		"target down":    {func(l *lab) { l.ok(l.hostDown("h2")) }, migrate(1, "h2"), "is Down"},
		"disabled":       {func(l *lab) { l.ok(&logpb.HostControl{Host: "h2", Action: HostDisable}) }, migrate(1, "h2"), "is Disabled"},
		"going down":     {func(l *lab) { l.ok(&logpb.HostStopping{Host: "h2", Epoch: l.host("h2").Epoch}) }, migrate(1, "h2"), "shutting down"},
		"disarmed":       {func(l *lab) { l.ok(&logpb.Arm{}) }, migrate(1, "h2"), "disarmed"},
		"other work":     {func(l *lab) { l.ok(migrate(1, "h2")) }, migrate(1, "h3"), "open work"},
		"off":            {func(l *lab) { l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonShutdown, inc: inc(1)}) }, migrate(1, "h2"), "not running"},
		"unprotected":    {func(l *lab) { l.ok(&logpb.VMProtect{Vm: idBytes(1)}) }, migrate(1, "h2"), "not protected"},
		"not live":       {func(l *lab) { l.noLive() }, migrate(1, "h2"), "vm relocate"},
		"old agent":      {func(l *lab) { l.register("h1", "b1", onAt(1)) }, migrate(1, "h2"), "newer"},
		"no address":     {func(l *lab) { l.register("h2", "b1") }, migrate(1, "h2"), "migrate_uri"},
		"storage lost":   {func(l *lab) { x := onAt(1); x.reason = ReasonIOError; l.report("h1", x) }, migrate(1, "h2"), "I/O error"},
		"bound":          {func(l *lab) { l.bind() }, relocate(1, "h2"), "bound to host"},
		"neither of two": {nil, &logpb.VMMove{Vm: idBytes(1), Kind: 3, Target: "h2"}, "live"},
	} {
		l := movers(t, 3, 1)
		if c.before != nil {
			c.before(l)
		}
		if no := l.rejected(c.move); !strings.Contains(no, c.say) {
			t.Errorf("%s: %s", name, no)
		}
	}
	l := fleet(t, 2, 1)
	if no := l.rejected(migrate(1, "h2")); !strings.Contains(no, "feature level") {
		t.Errorf("at an older level: %s", no)
	}
}

func (l *lab) noLive() {
	no := false
	l.ok(&logpb.VMProtect{Vm: idBytes(1), Protect: &logpb.Protection{On: true, LiveMigration: &no}})
}

func (l *lab) bind() {
	x := spec(1)
	x.Local = []string{"disk /dev/sdb"}
	l.ok(&logpb.VMSpecs{Host: "h1", Epoch: l.host("h1").Epoch, Specs: []*logpb.Spec{x}})
}

// TestHome: who was moved away for a maintenance goes home; an operator's move makes
// a new home, and so does the return.
func TestHome(t *testing.T) {
	l := movers(t, 3, 1)
	move := func(to HostID, cause Cause) {
		t.Helper()
		from := l.owner(1)
		m := migrate(1, to)
		m.Cause = uint32(cause)
		l.ok(m)
		x := said{vm: 1, power: PowerOff, reason: ReasonMigrated, inc: l.vm(1).Incarnation}
		l.report(from, x)
		l.report(from, said{vm: 1, power: PowerOff, inc: x.inc, refused: x.inc})
		l.report(to, said{vm: 1, power: PowerOn, reason: ReasonBooted})
		if o := l.host(from).order(OrderDestroy, testVM(1)); o != nil {
			l.report(from, said{vm: 1, power: PowerOff, refused: o.Incarnation})
		}
	}
	for i, c := range []struct {
		to    HostID
		cause Cause
		home  HostID
	}{
		{"h2", CauseMaintenance, "h1"}, {"h3", CauseMaintenance, "h1"}, {"h1", CauseFailback, ""},
		{"h2", CauseHostStops, "h1"}, {"h3", CauseOperator, ""}, {"h1", CauseRebalance, ""},
	} {
		if move(c.to, c.cause); l.vm(1).Home() != c.home || l.owner(1) != c.to {
			t.Errorf("move %d: on %s, home %q, want %q", i, l.owner(1), l.vm(1).Home(), c.home)
		}
	}
	no := false
	l.ok(&logpb.VMProtect{Vm: idBytes(1), Protect: &logpb.Protection{On: true, Failback: &no}})
	if move("h2", CauseMaintenance); l.vm(1).Home() != "" {
		t.Errorf("one that stays has the home %s", l.vm(1).Home())
	}
}

// TestMaintenance: a host is emptied, is in maintenance when it is empty, and its
// being so survives a reboot.
func TestMaintenance(t *testing.T) {
	l := movers(t, 2, 2)
	on := func(force bool) proto.Message {
		return &logpb.HostControl{Host: "h1", Action: HostMaintenanceOn, Force: force}
	}
	l.ok(on(false))
	h := l.host("h1")
	if h.Resource != PrepareForMaintenance || h.Drain == nil || h.Drain.Total != 2 || h.Drain.Force {
		t.Fatalf("%s, %+v", h.Resource, h.Drain)
	}
	l.ok(&logpb.HostDrained{Host: "h1", State: DrainDone})
	if l.host("h1").Resource != PrepareForMaintenance {
		t.Error("a host with VMs is in maintenance")
	}
	l.ok(&logpb.HostDrained{Host: "h1", State: DrainStuck, Reason: "vm1 is bound to it"})
	if l.host("h1").Resource != ErrorInMaintenance || l.state().OpenAlert(drainAlert("h1")) == nil {
		t.Error("nobody is told that it cannot be emptied")
	}
	l.ok(on(false))
	if l.host("h1").Resource != ErrorInMaintenance {
		t.Errorf("what is asked for again makes no difference, and the host is %s", l.host("h1").Resource)
	}
	l.ok(on(true))
	if !l.host("h1").Drain.Force || l.host("h1").Drain.Total != 2 {
		t.Errorf("%+v", l.host("h1").Drain)
	}
	// Who forces it may wait for how it ends: what was said before is over with this write.
	if l.host("h1").Resource != PrepareForMaintenance || l.state().OpenAlert(drainAlert("h1")) != nil {
		t.Errorf("a maintenance that is forced has failed already: %s", l.host("h1").Resource)
	}
	l.ok(&logpb.HostDrained{Host: "h1", State: DrainStuck, Reason: "vm1 is bound to it"}) // decided before
	if l.host("h1").Resource != PrepareForMaintenance {
		t.Errorf("what was decided before it was forced makes it %s", l.host("h1").Resource)
	}
	l.ok(&logpb.HostDrained{Host: "h1", State: DrainStuck, Reason: "vm1 is bound to it", Force: true})
	if l.host("h1").Resource != ErrorInMaintenance || l.state().OpenAlert(drainAlert("h1")) == nil {
		t.Error("nobody is told that it cannot be emptied by force either")
	}
	l.comesBack("h1", "b2")
	l.ok(&logpb.HostDrained{Host: "h1", State: DrainOn})
	if l.host("h1").Resource != PrepareForMaintenance || l.state().OpenAlert(drainAlert("h1")) != nil {
		t.Error("a reboot ends the maintenance, or the alert stays")
	}
	for n := 1; n <= 2; n++ {
		l.ok(l.place(n, "h2"))
		l.report("h2", said{vm: n, power: PowerOn, reason: ReasonBooted, inc: l.vm(n).Incarnation})
	}
	l.ok(&logpb.HostDrained{Host: "h1", State: DrainDone})
	if h := l.host("h1"); h.Resource != Maintenance || h.Drain != nil {
		t.Errorf("%s, %+v", h.Resource, h.Drain)
	}
	l.ok(&logpb.HostControl{Host: "h1", Action: HostMaintenanceOff})
	if l.host("h1").Resource != Enabled {
		t.Error("it does not come back")
	}
}

func TestShutdownPolicy(t *testing.T) {
	for policy, want := range map[string][2]Holding{
		"conditional": {HeldRecover, HeldFreeze}, "freeze": {HeldFreeze, HeldFreeze},
		"failover": {HeldRecover, HeldRecover}, "migrate": {HeldMigrate, HeldMigrate},
	} {
		for i, reboot := range []bool{false, true} {
			l := movers(t, 2, 1)
			l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "shutdown_policy", Value: policy}}})
			l.ok(&logpb.HostStopping{Host: "h1", Epoch: l.host("h1").Epoch, Session: "s1", Reboot: reboot})
			if h := l.host("h1"); h.Held != want[i] || (h.Drain != nil) != (h.Held == HeldMigrate) {
				t.Errorf("%s, reboot %v: %s, %+v", policy, reboot, h.Held, h.Drain)
			}
			l.comesBack("h1", "b2")
			if h := l.host("h1"); h.Held != 0 || h.Stopping != 0 || h.Drain != nil {
				t.Errorf("%s: after its return %s %s", policy, h.Held, h.Stopping)
			}
		}
	}
}

// TestDisarmIgnore: what happens meanwhile opens no work, and is how it is wanted
// afterwards. Disarming is done where an agent has acted on it.
func TestDisarmIgnore(t *testing.T) {
	l := movers(t, 2, 2)
	l.ok(&logpb.Arm{Ignore: true})
	l.rejected(&logpb.Arm{})
	if n := l.state().Unheeding(); len(n) != 2 {
		t.Errorf("%v have not heeded", n)
	}
	l.ok(&logpb.HostHeeds{Host: "h1", Epoch: l.host("h1").Epoch, Index: l.state().ArmedIndex})
	if n := l.state().Unheeding(); len(n) != 1 || n[0] != "h2" {
		t.Errorf("%v have not heeded", n)
	}
	l.report("h1", crashed(1))
	if l.work(1) != nil {
		t.Error("work was opened")
	}
	l.ok(&logpb.Arm{Armed: true})
	if l.work(1) != nil || l.vm(1).Wanted || !l.vm(2).Wanted {
		t.Errorf("work %v, wanted %v and %v", l.work(1), l.vm(1).Wanted, l.vm(2).Wanted)
	}
	if l.state().Unheeding() != nil || l.state().Ignoring {
		t.Error("it is not over")
	}
}

// TestDisarmIgnoreUnknown: what nobody knows is wanted as it was before.
func TestDisarmIgnoreUnknown(t *testing.T) {
	l := movers(t, 3, 2)
	l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonShutdown, inc: inc(1)})
	l.report("h1", said{vm: 1, power: PowerUnknown, inc: inc(1)})
	l.ok(l.hostDown("h1"))
	l.ok(&logpb.Arm{Ignore: true})
	l.ok(&logpb.Arm{Armed: true})
	if l.vm(1).Wanted || l.work(1) != nil {
		t.Errorf("the one that was off: wanted %v, work %v", l.vm(1).Wanted, l.work(1))
	}
	if !l.vm(2).Wanted || l.work(2) == nil {
		t.Errorf("the one that was on: wanted %v, work %v", l.vm(2).Wanted, l.work(2))
	}
}

// TestDisarmFinishes: what was permitted before HA was disarmed is finished, what
// comes later waits.
func TestDisarmFinishes(t *testing.T) {
	l := movers(t, 3, 2)
	l.kill("h1")
	l.wait(time.Second)
	l.ok(&logpb.Arm{})
	if l.ok(l.place(1, "h2")); l.step(1) != Restarting {
		t.Errorf("what was permitted is %s", l.step(1))
	}
	l.report("h2", said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: inc(2)})
	l.wait(time.Second)
	l.report("h2", crashed(2))
	if l.ok(l.place(1, "h2")); l.step(1) != Scheduled {
		t.Errorf("what comes later is %s", l.step(1))
	}
}

// TestMaintenanceEndsInDisable: who disables a host that cannot be emptied does not want
// it emptied any more, and the alert about that ends.
func TestMaintenanceEndsInDisable(t *testing.T) {
	l := movers(t, 2, 2)
	l.ok(&logpb.HostControl{Host: "h1", Action: HostMaintenanceOn})
	l.ok(&logpb.HostDrained{Host: "h1", State: DrainStuck, Reason: "vm1 is bound to it"})
	l.ok(&logpb.HostControl{Host: "h1", Action: HostDisable})
	if h := l.host("h1"); h.Resource != Disabled || h.Drain != nil {
		t.Errorf("%s, %+v", h.Resource, h.Drain)
	}
	if a := l.state().OpenAlert(drainAlert("h1")); a != nil {
		t.Errorf("nobody empties it any more, and the alert stays: %s", a.Text)
	}
}
