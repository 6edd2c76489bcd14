package wire

import (
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fence"
)

func TestJobAndOutcomeSurviveTheWire(t *testing.T) {
	j := fence.Job{Task: fence.TaskOff, Expect: fence.Expect{Identity: "serial-1", Reach: 3 * time.Second}, Target: fence.Target{
		Driver: "ipmi", Address: "10.0.0.1", User: "admin", Password: fence.NewSecret("pw"), Options: map[string]string{"cipher": "17"}}}
	p := Job("h1", 7, j)
	got := ReadJob(p)
	if got.Target.Password.Reveal() != "pw" {
		t.Error("the password is lost")
	}
	got.Target.Password, j.Target.Password = fence.Secret{}, fence.Secret{}
	if !reflect.DeepEqual(got, j) {
		t.Errorf("%+v", got)
	}
	for _, o := range []fence.Outcome{
		{Identity: "serial-1", Took: 3 * time.Second, AlreadyOff: true, Readings: []fence.Read{{After: time.Second, State: fence.Off}, {After: 2 * time.Second, State: fence.Off}}},
		{Failure: "it does not answer", Reason: fence.Unreachable, Stage: fence.StageIdentity, OffSent: true},
	} {
		if back := ReadOutcome(Outcome(p, 3, o)); !reflect.DeepEqual(back, o) {
			t.Errorf("%+v became %+v", o, back)
		}
	}
}

// An executor that says anything at all makes no proof of it that its readings
// do not hold.
func FuzzReadOutcome(f *testing.F) {
	good := Outcome(&lifeboatv1.FenceJob{}, 1, fence.Outcome{Identity: "serial-1", Took: 3 * time.Second,
		Readings: []fence.Read{{After: time.Second, State: fence.Off}, {After: 2 * time.Second, State: fence.Off}}})
	b, err := proto.Marshal(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var p lifeboatv1.FenceOutcome
		if proto.Unmarshal(raw, &p) != nil {
			return
		}
		now := time.Now()
		proof, err := ReadOutcome(&p).Proof(fence.Endpoint{}, fence.Expect{Identity: "serial-1"}, now)
		if err != nil {
			return
		}
		n := len(proof.Readings)
		if n < 2 || proof.Readings[n-1].State != fence.Off || proof.Readings[n-1].At.After(now) || proof.Readings[n-1].At.Sub(proof.Readings[0].At) < fence.MinGap {
			t.Fatalf("this is no proof: %+v", proof)
		}
	})
}
