package fsm

import (
	"testing"

	"lifeboat/fsm/logpb"
)

// S18: what somebody switched off while it was not protected stays off when it
// is protected again; what crashed is brought back.
func TestS18OffByHandWhileUnprotected(t *testing.T) {
	for reason, wanted := range map[Reason]bool{ReasonShutdown: false, ReasonDestroyed: false, ReasonSaved: false, ReasonCrashed: true, ReasonNone: true} {
		for _, ha := range []string{"", "always"} {
			l := fleet(t, 3, 1)
			l.report("h1", booted(1))
			l.ok(&logpb.VMProtect{Vm: idBytes(1)})
			l.report("h1", said{vm: 1, power: PowerOff, reason: reason, inc: inc(1)})
			l.ok(&logpb.VMProtect{Vm: idBytes(1), Protect: &logpb.Protection{On: true, Ha: ha}})
			want := wanted || ha == "always"
			if got := l.vm(1).Wanted; got != want || (l.work(1) != nil) != want {
				t.Errorf("%s, policy %q: wanted %v, work %+v", reason, ha, got, l.work(1))
			}
		}
	}
}
