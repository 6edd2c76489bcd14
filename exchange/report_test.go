package exchange

import (
	"testing"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
)

func TestRead(t *testing.T) {
	const (
		powerOn  = lifeboatv1.PowerState_POWER_STATE_ON
		powerOff = lifeboatv1.PowerState_POWER_STATE_OFF
		absent   = lifeboatv1.PowerState_POWER_STATE_ABSENT
		starting = lifeboatv1.PowerState_POWER_STATE_STARTING
		crashed  = lifeboatv1.PowerReason_POWER_REASON_CRASHED
	)
	for _, c := range []struct {
		p    lifeboatv1.PowerState
		r    lifeboatv1.PowerReason
		want said
	}{
		{powerOn, 0, said{power: fsm.PowerOn, reason: 0, listed: true}},
		{powerOff, crashed, said{power: fsm.PowerOff, reason: fsm.ReasonCrashed, listed: true}},
		{absent, crashed, said{power: fsm.PowerOff, reason: fsm.ReasonCrashed, listed: true}}, // it is known how it ended
		{absent, 0, said{power: fsm.PowerStarting, reason: 0, listed: false}},                 // missing: says nothing
		{starting, 0, said{power: fsm.PowerStarting, reason: 0, listed: true}},
		{0, 0, said{power: fsm.PowerUnknown, reason: 0, listed: true}},
		{99, 99, said{power: fsm.PowerUnknown, reason: 0, listed: true}},
		{powerOn, -1, said{power: fsm.PowerOn, reason: 0, listed: true}},
		// What only the state machine may say.
		{powerOff, lifeboatv1.PowerReason(fsm.ReasonHostDead), said{power: fsm.PowerOff, reason: 0, listed: true}},
		{powerOff, 256 + lifeboatv1.PowerReason(fsm.ReasonShutdown), said{power: fsm.PowerOff, reason: 0, listed: true}},
	} {
		if got := read(&lifeboatv1.VMReport{Power: c.p, Reason: c.r}); got != c.want {
			t.Errorf("read(%v, %v) = %+v, want %+v", c.p, c.r, got, c.want)
		}
	}
}
