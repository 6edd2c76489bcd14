package node

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
)

// S24: a host that was heard just now is not taken for dead on somebody's word,
// whatever state it is in: its agent has said goodbye here, and it runs on.
func TestS24ConfirmDeadWaitsUntilNothingIsHeard(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(3, 1)
		confirm := func(force bool) error {
			return w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.ControlHost(ctx, connect.NewRequest(&lifeboatv1.ControlHostRequest{Host: "h1", Action: "confirm-dead", Force: force}))
				return err
			})
		}
		h := w.hosts["h1"]
		w.must(h.halt())
		w.within(2*time.Second, "its agent has said goodbye", w.hostIs("h1", fsm.Disconnected))
		if err := confirm(false); connect.CodeOf(err) != connect.CodeFailedPrecondition {
			t.Errorf("a host that was heard just now is declared dead: %v", err)
		}
		h.powerOff()
		time.Sleep(5 * time.Second)
		w.must(confirm(false))
		w.within(5*time.Second, "it is proven dead", func() bool { return w.state().Host("h1").HA == fsm.HAFenced })
	})
}
