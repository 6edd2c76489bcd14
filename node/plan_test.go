package node

import (
	"context"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
)

// A plan that is asked of a node which does not lead says where the VM goes that then
// goes there; the status has the line N+1 when it is asked for; questions that are none
// are refused.
func TestPlanThroughTheAPI(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(3, 3, "bmc")
		at := w.others(w.leader())[0]
		ask := func(q *lifeboatv1.PlanRequest) (p *lifeboatv1.PlanResponse, err error) {
			err = w.operator(at, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				r, err := c.Plan(ctx, connect.NewRequest(q))
				if err == nil {
					p = r.Msg
				}
				return err
			})
			return p, err
		}
		for want, q := range map[string]*lifeboatv1.PlanRequest{
			"one question":            {},
			"about one question":      {Fail: []string{"h1"}, Each: true},
			"there is no host h9":     {Fail: []string{"h1", "h9"}},
			"no host has the label":   {Maintenance: []string{"rack=nowhere"}},
			"a start is taken to":     {Fail: []string{"h1"}, StartMs: -1},
			"between 0 and 1h0m0s":    {Each: true, StartMs: 1 << 40},
			"no host has the label =": {Fail: []string{"="}},
		} {
			if _, err := ask(q); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v: %v, want %q", q, err, want)
			}
		}
		index := w.state().Index
		each, err := ask(&lifeboatv1.PlanRequest{Each: true})
		w.must(err)
		if len(each.Each) != 3 || each.Each[0].Starts == 0 || !strings.HasPrefix(each.NPlusOne, "any one host may fail") {
			t.Errorf("each: %v", each)
		}
		p, err := ask(&lifeboatv1.PlanRequest{Fail: []string{"h1"}})
		w.must(err)
		if len(p.Steps) == 0 || len(p.Stays) != 0 || p.Steps[0].From != "h1" || p.Index < index || p.Answered == nil {
			t.Fatalf("plan %v", p)
		}
		w.must(w.operator(at, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			for _, asked := range []bool{false, true} {
				r, err := c.Status(ctx, connect.NewRequest(&lifeboatv1.StatusRequest{NPlusOne: asked}))
				if err != nil {
					return err
				}
				if asked != strings.HasPrefix(r.Msg.NPlusOne, "any one host may fail") {
					t.Errorf("N+1 asked for: %t, and it is %q", asked, r.Msg.NPlusOne)
				}
			}
			return nil
		}))
		w.hosts["h1"].powerOff()
		time.Sleep(time.Minute)
		for _, x := range p.Steps {
			for i := 1; i <= 9; i++ {
				if vmName(i) != x.Name {
					continue
				}
				if _, h := w.vm(i); string(h) != x.To {
					t.Errorf("%s is on %s, and was to go to %s", x.Name, h, x.To)
				}
			}
		}
	})
}
