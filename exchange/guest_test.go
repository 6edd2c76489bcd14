package exchange

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// What a report says of a guest is evidence where somebody watches it, and is forgotten
// with the next report that does not say it.
func TestGuestEvidence(t *testing.T) {
	id, inc := fsm.VMID{1}, fsm.NewIncarnation(1, 1)
	on := func(silent, watchdog int64) *lifeboatv1.VMReport {
		return &lifeboatv1.VMReport{Id: id[:], Power: lifeboatv1.PowerState_POWER_STATE_ON, Reason: lifeboatv1.PowerReason_POWER_REASON_BOOTED,
			Incarnation: uint64(inc), GuestAnswers: true, GuestSilentMs: silent, WatchdogMs: watchdog}
	}
	paused := on(0, 1)
	paused.WatchdogPaused = true
	off := on(5000, 0)
	off.Power = lifeboatv1.PowerState_POWER_STATE_OFF
	for name, c := range map[string]struct {
		watch string
		said  *lifeboatv1.VMReport
		want  ha.Guest // none when zero
	}{
		"silent":          {"ping", on(5000, 0), ha.Guest{VM: id, Incarnation: inc, Heard: true, Silent: 5 * time.Second}},
		"watchdog fired":  {"ping", on(0, 7000), ha.Guest{VM: id, Incarnation: inc, Heard: true, Watchdog: 7 * time.Second}},
		"watchdog paused": {"ping", paused, ha.Guest{VM: id, Incarnation: inc, Heard: true, Watchdog: time.Millisecond, Paused: true}},
		"paused, none":    {"none", paused, ha.Guest{VM: id, Incarnation: inc, Heard: true, Watchdog: time.Millisecond, Paused: true}},
		"well":            {"ping", on(0, 0), ha.Guest{}},
		"nobody watches":  {"none", on(5000, 7000), ha.Guest{}},
		"off":             {"ping", off, ha.Guest{}},
		"absurd":          {"ping", on(-5000, -1), ha.Guest{}},
		"absurd and real": {"ping", on(-5000, 1000), ha.Guest{VM: id, Incarnation: inc, Heard: true, Watchdog: time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			s := guestState(t, id, c.watch)
			h := s.Host("h1")
			var x Memory
			if a := Assignment(s, h, nil).Vms; len(a) != 1 || a[0].WatchGuest != (c.watch == "ping") {
				t.Fatalf("its host is told %v", a)
			}
			Diff(s, h, &x, &lifeboatv1.ReportRequest{Vms: []*lifeboatv1.VMReport{c.said}}, time.Hour)
			if got := x.Guests(); len(got) > 1 || len(got) == 1 != (c.want != ha.Guest{}) || len(got) == 1 && got[0] != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			Diff(s, h, &x, &lifeboatv1.ReportRequest{Vms: []*lifeboatv1.VMReport{on(0, 0)}}, time.Hour)
			if got := x.Guests(); len(got) > 0 {
				t.Errorf("it is well, and %+v is remembered", got)
			}
		})
	}
}

// guestState is a state in which a VM runs on h1 and its guest is watched.
func guestState(t *testing.T, id fsm.VMID, watch string) *fsm.State {
	t.Helper()
	m := fsm.NewMachine()
	for i, c := range []*logpb.Command{
		{Body: &logpb.Command_ClusterInit{ClusterInit: &logpb.ClusterInit{ClusterId: "c", FeatureLevel: fsm.LevelPolicy}}},
		{Body: &logpb.Command_HostRegister{HostRegister: &logpb.HostRegister{Id: "h1", MachineId: "m", BootId: "b", Inventory: &logpb.Inventory{},
			Vms: &logpb.VMEntries{Ids: id[:], Power: []byte{byte(fsm.PowerOn)}, Reason: []byte{byte(fsm.ReasonBooted)}, Details: []*logpb.VMDetail{{Name: "vm1"}}}}}},
		{Body: &logpb.Command_VmProtect{VmProtect: &logpb.VMProtect{Vm: id[:], Protect: &logpb.Protection{On: true}}}},
		{Body: &logpb.Command_VmSet{VmSet: &logpb.VMSet{Vm: id[:], Settings: []*logpb.Setting{{Key: "guest_health", Value: watch}}}}},
	} {
		b, err := proto.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if no := m.Apply([]fsm.Entry{{Index: uint64(i + 1), Term: 1, Data: b}})[0].Rejected; no != "" {
			t.Fatalf("%v: %s", c, no)
		}
	}
	return m.State()
}

// How long a guest is asked to shut down depends on why it is stopped.
func TestGraceOfAGuestThatHangs(t *testing.T) {
	s := fsm.NewMachine().State()
	for w, want := range map[*fsm.Work]time.Duration{
		nil:                        s.Policy.StopGrace,
		{Type: fsm.WorkStop}:       s.Policy.StopGrace,
		{Type: fsm.WorkRelocation}: s.Policy.StopGrace,
		{Type: fsm.WorkForceStop}:  0,
		{Type: fsm.WorkHA, Cause: fsm.CauseGuestSilent}: hungGrace,
		{Type: fsm.WorkHA, Cause: fsm.CauseWatchdog}:    0,
		{Type: fsm.WorkHA, Cause: fsm.CauseHostDown}:    s.Policy.StopGrace,
	} {
		if got := grace(s, w); got != want {
			t.Errorf("%+v: %s, want %s", w, got, want)
		}
	}
}
