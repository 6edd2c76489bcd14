package fsm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"lifeboat/fsm/logpb"
)

// However much was told of a resource, its end is taken: nothing is charged for ever. That
// something was refused is an alert until it ends.
func TestUsageEndsHoweverMuchWasTold(t *testing.T) {
	for name, again := range map[string]string{"VOLUME": "VOLUME.RESIZE", "NETWORK": "NETWORK.CREATE"} {
		l := usageLab(t)
		from := l.now
		c := told(ev("first", name+".CREATE", "x", from, "alice"))
		for i := range maxUsageFacts - 1 {
			e := ev(fmt.Sprint("e", i), again, "x", from+1+int64(i), "alice")
			e.Detail = &logpb.UsageDetail{Size: uint64(i + 1)}
			c.Events = append(c.Events, e)
		}
		l.ok(c)
		full := usageAlert(name+" x", "full")
		if l.state().OpenAlert(full) != nil {
			t.Errorf("%s: nothing was refused, and there is an alert", name)
		}
		if r := l.m.Apply([]Entry{l.entry(command(told(ev("more", again, "x", from+int64(time.Second), "alice"))))})[0]; r.Rejected == "" {
			t.Fatalf("%s: %d events are kept, and another one", name, maxUsageFacts)
		}
		if l.state().OpenAlert(full) == nil {
			t.Errorf("%s: an event was refused for all that is kept, and there is no alert", name)
		}
		end := told(ev("last", name+".DELETE", "x", from+int64(time.Minute), ""))
		l.ok(end)
		typ := l.state().UsageTypeNamed(name).ID
		if r := l.usage(typ, "x"); r.Open() != nil {
			t.Errorf("%s: its delete was told, and it is charged on", name)
		}
		if l.state().OpenAlert(full) != nil {
			t.Errorf("%s: it is closed, and the alert that its end may be refused is open", name)
		}
		l.ok(end) // said again
		for _, late := range []*logpb.UsageEvent{ev("even more", name+".DELETE", "x", from+int64(time.Minute)+1, ""), ev("anew", name+".CREATE", "x", from+int64(time.Minute)+2, "alice")} {
			no := l.rejected(told(late))
			if !strings.Contains(no, "has ended") || !strings.Contains(no, "another id") || !strings.Contains(no, "usage_keep") {
				t.Errorf("%s: it has ended, and %s is refused with %q", name, late.Type, no)
			}
			if l.state().OpenAlert(full) != nil {
				t.Errorf("%s: it has ended, and there is an alert that asks for its end", name)
			}
		}
		if n := len(l.usage(typ, "x").Facts); n != maxUsageFacts+1 {
			t.Errorf("%s: %d facts are kept", name, n)
		}
	}
}

// Enough of it, something more and its end in one batch: it has ended.
func TestUsageEndsInTheBatchThatIsTooMuch(t *testing.T) {
	l := usageLab(t)
	c := told()
	for i := range maxUsageFacts + 1 {
		c.Events = append(c.Events, ev(fmt.Sprint(i), "VOLUME.CREATE", "x", l.now+int64(i), "alice"))
	}
	c.Events = append(c.Events, ev("end", "VOLUME.DELETE", "x", l.now+int64(time.Minute), ""))
	if no := l.m.Apply([]Entry{l.entry(command(c))})[0].Rejected; !strings.HasPrefix(no, "1 of ") || !strings.Contains(no, "but its end") {
		t.Errorf("one event too many is refused with %q", no)
	}
	if l.state().OpenAlert(usageAlert("VOLUME x", "full")) != nil {
		t.Error("it has ended, and there is an alert that asks for its end")
	}
}

// Deletes that leave it open are kept up to a bound of their own, and the one that closes
// it even then.
func TestUsageDeletesAreBounded(t *testing.T) {
	l := usageLab(t)
	from := l.now - int64(time.Hour)
	c := told(ev("open", "LB.CREATE", "x", l.now, "alice"))
	for i := range maxUsageFacts + 2*maxUsageEnds {
		c.Events = append(c.Events, ev(fmt.Sprint("d", i), "LB.DELETE", "x", from+int64(i), ""))
	}
	l.m.Apply([]Entry{l.entry(command(c))})
	if n := len(l.usage(lb, "x").Facts); n != maxUsageFacts+maxUsageEnds {
		t.Errorf("%d facts are kept", n)
	}
	l.ok(told(ev("end", "LB.DELETE", "x", l.now+1, "")))
	if l.usage(lb, "x").Open() != nil {
		t.Error("its end was taken, and it is charged on")
	}
}

// What is open can always be closed: its type is there, with an event that closes it.
func TestUsageTypesStayWhileTheyAreOpen(t *testing.T) {
	l := usageLab(t)
	set := func(closes ...string) *logpb.UsageTypeSet {
		return &logpb.UsageTypeSet{Id: 1000, Name: "GPU", Opens: []string{"GPU.ASSIGN"}, Closes: closes}
	}
	l.ok(set("GPU.RELEASE", "GPU.LOST"))
	l.ok(told(ev("1", "GPU.ASSIGN", "g", l.now, "alice"), ev("2", "GPU.ASSIGN", "h", l.now, "bob")))
	for _, c := range []*logpb.UsageTypeSet{{Id: 1000, Remove: true}, set("GPU.FREE")} {
		no := l.rejected(c)
		for _, want := range []string{"2 resources of it are open", "`lifeboat usage resources --type GPU --open`"} {
			if !strings.Contains(no, want) {
				t.Errorf("%v: %s", c, no)
			}
		}
	}
	l.ok(set("GPU.RELEASE", "GPU.FREE"))
	l.ok(told(ev("3", "GPU.RELEASE", "g", l.now+1, ""), ev("4", "GPU.FREE", "h", l.now+1, "")))
	l.ok(set("GPU.OVER"))
	l.ok(&logpb.UsageTypeSet{Id: 1000, Remove: true})
}

// What replaces a default type can be taken out while something is open that the default
// type closes as well, and only while nobody else has the default type's events or name.
func TestUsageTypesGoBackToTheDefault(t *testing.T) {
	l := usageLab(t)
	set := func(id uint32, name, opens string, closes ...string) *logpb.UsageTypeSet {
		return &logpb.UsageTypeSet{Id: id, Name: name, Opens: []string{opens}, Closes: closes}
	}
	remove := &logpb.UsageTypeSet{Id: lb, Remove: true}
	l.ok(set(lb, "BALANCER", "LB.CREATE", "LB.DELETE", "LB.LOST"))
	l.ok(told(ev("1", "LB.CREATE", "7", l.now, "alice")))
	l.ok(remove)
	l.ok(told(ev("2", "LB.DELETE", "7", l.now+1, "")))
	if x := l.state().UsageType(lb); x.Name != "LOAD_BALANCER_POLICY" || x.Added || l.usage(lb, "7").Open() != nil {
		t.Errorf("the default type is %+v, and its delete was told", x)
	}
	l.ok(set(lb, "BALANCER", "BALANCER.ADD", "BALANCER.DROP"))
	l.ok(told(ev("1", "BALANCER.ADD", "8", l.now, "alice")))
	if no := l.rejected(remove); !strings.Contains(no, "1 resource of it is open") {
		t.Error(no)
	}
	l.ok(told(ev("2", "BALANCER.DROP", "8", l.now+1, "")))
	for want, other := range map[string]*logpb.UsageTypeSet{
		"the event LB.DELETE belongs to usage type GPU":          set(1000, "GPU", "GPU.ASSIGN", "LB.DELETE"),
		"usage type 1000 is called LOAD_BALANCER_POLICY already": set(1000, "LOAD_BALANCER_POLICY", "GPU.ASSIGN", "GPU.RELEASE"),
	} {
		l.ok(other)
		if no := l.rejected(remove); !strings.Contains(no, want) {
			t.Errorf("%q is not %q", no, want)
		}
		l.ok(&logpb.UsageTypeSet{Id: 1000, Remove: true})
	}
	l.ok(remove)
}

// An account may be gone before the first of it is heard of.
func TestUsageAccountsAreRemovedUnheardOf(t *testing.T) {
	l := usageLab(t)
	gone := l.now
	for _, bad := range []*logpb.UsageAccountSet{{Account: &logpb.UsageAccount{Account: "nobody"}}, {Account: &logpb.UsageAccount{Domain: "ROOT"}, RemovedUnixNs: gone},
		{RemovedUnixNs: gone}, {Account: &logpb.UsageAccount{Account: strings.Repeat("x", maxUsageText+1)}, RemovedUnixNs: gone}} {
		l.rejected(bad)
	}
	l.ok(&logpb.UsageAccountSet{Account: &logpb.UsageAccount{Account: "alice"}, RemovedUnixNs: gone})
	l.wait(time.Minute)
	l.rejected(told(ev("1", "LB.CREATE", "7", gone+1, "alice")))
	l.ok(told(ev("2", "LB.CREATE", "8", gone-1, "alice")))
	if a := l.state().Account(Owner{Account: "alice"}); a == nil || a.Removed != gone {
		t.Errorf("the account is %+v", a)
	}
	if l.state().OpenAlert(usageAlert("account alice", "removed")) == nil {
		t.Error("something is open of a removed account, and there is no alert")
	}
}

// Usage outlives a restore, and its alerts do.
func TestUsageAlertsOutliveARestore(t *testing.T) {
	l := usageLab(t)
	at := l.now
	l.ok(told(ev("1", "LB.DELETE", "mended", at, "")))
	l.ok(&logpb.AlertRaise{Alerts: []*logpb.Raised{{Type: AlertUsage, Subject: "bills", Cause: "printer", Text: "no paper", Severity: uint32(Warning)}}})
	s := l.state()
	l.ok(told(ev("2", "LB.CREATE", "mended", at-1, "alice"), ev("3", "LB.DELETE", "amiss", at, "")))
	mended, amiss := usageAlert("LOAD_BALANCER_POLICY mended", "facts"), usageAlert("LOAD_BALANCER_POLICY amiss", "facts")
	before := l.state().OpenAlert(amiss)
	l.wake(s)
	if l.state().OpenAlert(mended) != nil {
		t.Error("what fits is an alert again after a restore")
	}
	if a := l.state().OpenAlert(amiss); a == nil || a.Text != before.Text || a.Severity != before.Severity {
		t.Errorf("what does not fit is the alert %+v after a restore", a)
	}
	if l.state().OpenAlert(usageAlert("bills", External+"printer")) == nil {
		t.Error("what somebody else has raised about usage is gone with a restore")
	}
	if _, trouble := l.state().CountUsage(); trouble != 1 {
		t.Errorf("%d resources are in trouble", trouble)
	}
}
