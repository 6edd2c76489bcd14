package cli

import (
	"context"
	"errors"
	"net/http/httptrace"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
)

// electing is a node that has no leader until a moment, and counts how often it is
// asked.
type electing struct {
	lifeboatv1connect.AdminServiceClient
	until time.Time
	asked int
}

func (e *electing) SetPolicy(context.Context, *connect.Request[lifeboatv1.SetPolicyRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	e.asked++
	if time.Now().Before(e.until) {
		return nil, connect.NewWireError(connect.CodeUnavailable, errors.New("there is no leader at the moment"))
	}
	return connect.NewResponse(&lifeboatv1.WriteResponse{Index: 7}), nil
}

// A leader that stops in order has a successor within some 20 ms: a write that comes
// between is not to wait much longer. While a whole election takes place nobody is
// asked every few milliseconds.
func TestWriteIsRepeatedSoon(t *testing.T) {
	for _, x := range []struct {
		without, within time.Duration
		asked           int
	}{
		{20 * time.Millisecond, 60 * time.Millisecond, 4},
		{3 * time.Second, 3150 * time.Millisecond, 80}, // some 25 times a second
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			node := &electing{until: began.Add(x.without)}
			c := &Client{nodes: []endpoint{{"n1:7000", node}}, timeout: 15 * time.Second}
			r, err := Write(t.Context(), c, lifeboatv1connect.AdminServiceClient.SetPolicy, &lifeboatv1.SetPolicyRequest{})
			if err != nil || r.Index != 7 {
				t.Fatal(r, err)
			}
			if took := time.Since(began); took > x.within {
				t.Errorf("without a leader for %s the write took %s, want at most %s", x.without, took, x.within)
			}
			if node.asked > x.asked {
				t.Errorf("the node was asked %d times in %s", node.asked, x.without)
			}
		})
	}
}

// broken is a node whose connections break once it has received the request.
type broken struct {
	lifeboatv1connect.AdminServiceClient
	asked int
}

func (b *broken) SetPolicy(ctx context.Context, _ *connect.Request[lifeboatv1.SetPolicyRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	b.asked++
	httptrace.ContextClientTrace(ctx).GotConn(httptrace.GotConnInfo{})
	return nil, connect.NewError(connect.CodeUnavailable, errors.New("connection reset by peer"))
}

// A write whose outcome is not known is repeated at another node: the one that was
// asked stops, or is dead.
func TestWriteIsRepeatedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		bad, good := &broken{}, &electing{}
		c := &Client{nodes: []endpoint{{"n1:7000", bad}, {"n2:7000", good}}, timeout: 15 * time.Second, ids: requestIDs{honors: true}}
		r, err := Write(t.Context(), c, lifeboatv1connect.AdminServiceClient.SetPolicy, &lifeboatv1.SetPolicyRequest{})
		if err != nil || r.Index != 7 {
			t.Fatal(r, err)
		}
		if bad.asked != 1 || good.asked != 1 || time.Since(began) > 2*repeatSoon {
			t.Errorf("the broken node was asked %d times, the other %d times, in %s", bad.asked, good.asked, time.Since(began))
		}
	})
}
