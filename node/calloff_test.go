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

// A host that is back before its controller has answered is not switched off:
// the attempt is called off at once, not only at its deadline (S10).
func TestS10AttemptIsCalledOffWhenTheHostIsBack(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(3, 1, "bmc")
		h := w.hosts["h1"]
		w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			_, err := c.SetPolicy(ctx, connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: "fence_timeout", Value: "2m"}}}))
			return err
		}))
		h.slow(time.Minute) // every answer
		for _, n := range w.nodes {
			w.net.CutBoth("h1", n.id)
		}
		w.within(20*time.Second, "the controller is asked to", func() bool {
			a := w.leader().n.fsm.State().Host("h1").Attempt
			return a != nil && a.Open && h.busy() > 0
		})
		for _, n := range w.nodes {
			w.net.Heal("h1", n.id)
		}
		w.within(20*time.Second, "the host is back", func() bool { return w.leader().n.fsm.State().Host("h1").Status != fsm.Down })
		w.within(5*time.Second, "nobody asks its controller any more", func() bool { return h.busy() == 0 })
		w.stays(3*time.Minute, "its machine is on", h.powered)
		w.within(time.Minute, "it is Up", w.hostIs("h1", fsm.Up))
	})
}
