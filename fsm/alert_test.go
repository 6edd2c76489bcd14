package fsm

import (
	"strings"
	"testing"
)

// Two VMs may have one name: what ends for one goes on for the other.
func TestAlertsOfVMsOfOneName(t *testing.T) {
	l := fleet(t, 2, 4)
	name := func(host HostID, vm int, name string, reason Reason) {
		r := l.reportOf(host, said{vm: vm, power: PowerOn, reason: reason, inc: inc(1)})
		r.Reports[0].Vms.Details[0].Name = name
		l.ok(r)
	}
	open := func(vm int) *AlertRecord { return l.state().OpenAlert(VMAlert(l.vm(vm), "I/O error")) }
	a, b := 1, 2
	name(l.owner(a), a, "web", ReasonIOError)
	name(l.owner(b), b, "web", ReasonIOError)
	if open(a) == nil || open(b) == nil || open(a).ID == open(b).ID || open(a).Count != 1 || open(a).About() != "web" || open(b).About() != "web" {
		t.Fatalf("two VMs stand still, the alerts are %+v and %+v", open(a), open(b))
	}

	// A new name neither ends an alert nor opens another.
	was, n := open(a), l.state().CountOpenAlerts()
	name(l.owner(a), a, "mail", ReasonIOError)
	if is := open(a); is == nil || is.ID != was.ID || is.About() != "mail" || !strings.HasPrefix(is.Text, "VM mail on") || l.state().CountOpenAlerts() != n {
		t.Errorf("after a new name it is %+v of %d", is, l.state().CountOpenAlerts())
	}
	if open(b).About() != "web" || !strings.HasPrefix(open(b).Text, "VM web on") {
		t.Errorf("the other one has a new name too: %+v", open(b))
	}

	name(l.owner(a), a, "mail", ReasonBooted)
	if open(a) != nil || open(b) == nil {
		t.Errorf("one runs again: its alert %v, the other's %v", open(a), open(b))
	}
}
