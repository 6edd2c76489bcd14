package fsm

import (
	"slices"
	"testing"

	"lifeboat/fsm/logpb"
)

// Who was told by the labels of a host that something began is told that it is over,
// with the same labels, whatever has become of the host or of the VM's place: an
// Alertmanager knows an alert by its labels, and would have it firing for ever.
func TestAlertsKeepTheLabelsTheyBeganWith(t *testing.T) {
	l := newLab(t)
	for id, rack := range map[HostID]string{"h1": "r1", "h2": "r2"} {
		r := registration(id, "b1")
		if r.Labels = []*logpb.Label{{Key: "rack", Value: rack}}; id == "h1" {
			r.Vms = columns(said{vm: 1, power: PowerOn})
		}
		l.ok(r)
		l.seqs[id] = 0
		l.ok(levels(id))
		l.arm(id)
	}
	l.protect(1)
	l.ok(&logpb.FeatureRaise{Level: LevelPolicy, Version: "0.4"})
	l.ok(&logpb.NotifySet{Name: "rack", Kind: "webhook", Address: "http://a", Match: &logpb.AlertMatch{Labels: []*logpb.Label{{Key: "rack", Value: "r1"}}}})
	vm := func(over bool) *logpb.AlertRaise {
		return &logpb.AlertRaise{Alerts: []*logpb.Raised{{Type: "VM", Subject: testVM(1).String(), Cause: "loud", Severity: uint32(Critical), Text: "It is loud.", Resolved: over}}}
	}
	l.ok(vm(false))
	l.ok(raised("h1", "hot"))
	l.kill("h1", "h2") // the VM goes to rack r2
	if l.owner(1) != "h2" {
		t.Fatalf("the VM is on %s", l.owner(1))
	}
	l.ok(&logpb.HostControl{Host: "h1", Action: HostRemove})
	l.ok(itEnded("h1", "hot"))
	l.ok(vm(true))
	ends := 0
	for n := range l.state().Pending(l.state().Receiver("rack")) {
		if got := l.state().LabelsOf(n.Alert); !slices.Equal(got, []Label{{"rack", "r1"}}) {
			t.Errorf("%s %s has the labels %v", n.Kind, n.Alert.About(), got)
		}
		if n.Kind == NoticeResolved && (n.Alert.Key.Cause == External+"hot" || n.Alert.Key.Cause == External+"loud") {
			ends++
		}
	}
	if ends != 2 {
		t.Errorf("it is told of %d ends of two: %q", ends, l.pending("rack"))
	}
	// What begins anew has the labels of now.
	l.ok(vm(false))
	if got := l.state().LabelsOf(l.state().OpenAlert(AlertKey{AlertVM, testVM(1).String(), External + "loud"})); !slices.Equal(got, []Label{{"rack", "r2"}}) {
		t.Errorf("it came back with %v", got)
	}
	s := l.state()
	copied := replay(t, func(n int) int { return 0 }, l.log).State()
	if diff := sameState(s, copied); diff != "" {
		t.Errorf("through snapshots it is another:\n%s", diff)
	}
}
