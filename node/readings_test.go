package node

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"lifeboat/agent"
	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/transport"
	"lifeboat/transport/memnet"
)

// A request of an agent that comes while nobody leads is refused before it is read: a
// body that nobody could decode makes no difference. Once somebody leads, it does.
func TestAgentsAreRefusedUnread(t *testing.T) {
	run(t, 3, func(w *world) {
		l := w.leader()
		f := w.others(l)[0]
		send := func() string {
			client, hangUp := w.client("h1", transport.KindHost, "h1")
			defer hangUp()
			q, err := http.NewRequestWithContext(w.Context(), http.MethodPost, "https://"+f.cfg.Advertise+"/lifeboat.v1.AgentService/Report", strings.NewReader("\xff\xff"))
			if err != nil {
				t.Fatal(err)
			}
			q.Header.Set("Content-Type", "application/proto")
			r, err := client.Do(q)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		if got := send(); !strings.Contains(got, "invalid_argument") {
			t.Errorf("with a leader: %s", got)
		}
		w.net.Isolate(f.id, l.id, w.others(l)[1].id)
		w.within(10*time.Second, "the leader is lost", func() bool { addr, _ := f.n.raft.LeaderWithID(); return addr == "" })
		if got := send(); !strings.Contains(got, "unavailable") || !strings.Contains(got, "no leader") {
			t.Errorf("without a leader: %s", got)
		}
		if err := w.raw("h1", f).register(); !agent.NobodyLeads(err) {
			t.Errorf("an agent would not know that nobody leads: %v", err)
		}
		w.net.HealAll()
		w.leader()
	})
}

// A node whose leader has just died says so: its agents then wait with it, over the
// connection that they have, instead of going to one that knows no better.
func TestLeaderHasJustDied(t *testing.T) {
	run(t, 3, func(w *world) {
		l := w.leader()
		f := w.others(l)[0]
		l.crash(memnet.Crash)
		err := w.raw("h1", f).register()
		if addr, _ := f.n.raft.LeaderWithID(); addr == "" {
			t.Fatal("the follower has noticed already: nothing is tested")
		}
		if !agent.NobodyLeads(err) {
			t.Errorf("an agent would go on to the next node: %v", err)
		}
	})
}

// Who passes a request on hands the leader's refusal back as it is.
func TestPassOn(t *testing.T) {
	for _, c := range []struct {
		refusal *connect.Error
		nobody  bool
	}{{noLeader(), true}, {errNoMember, false}} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = connect.NewErrorWriter().Write(w, r, c.refusal) }))
		defer srv.Close()
		_, err := lifeboatv1connect.NewAgentServiceClient(http.DefaultClient, srv.URL).Report(t.Context(), connect.NewRequest(&lifeboatv1.ReportRequest{}))
		var kept *connect.Error
		if !errors.As(passOn(err), &kept) || kept.Code() != connect.CodeUnavailable || kept.Message() != c.refusal.Message() {
			t.Errorf("%v became %v", c.refusal, passOn(err))
		} else if got := kept.Meta().Get(lifeboatv1.HeaderNoLeader) != ""; got != c.nobody {
			t.Errorf("%v: says that nobody leads: %v", c.refusal, got)
		}
	}
}

// Who has begun a request and sends no more delays the others for a moment only, and
// who has hung up takes no turn.
func TestReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReadings()
		began := time.Now()
		for range cap(r) {
			if _, err := r.begin(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		gone, cancel := context.WithCancelCause(t.Context())
		why := errors.New("gone")
		cancel(why)
		if _, err := r.begin(gone); !errors.Is(err, why) {
			t.Errorf("a caller that is gone: %v", err)
		}
		end, err := r.begin(t.Context())
		if took := time.Since(began); err != nil || took != readingTime {
			t.Errorf("the next one waited %s, %v; want %s", took, err, readingTime)
		}
		time.Sleep(2 * readingTime)
		end()
		end()
		if len(r) != 0 {
			t.Errorf("%d turns are still taken", len(r))
		}
	})
}

// A look that took long is followed by a rest that is longer, but not by much.
func TestRest(t *testing.T) {
	for cost, want := range map[time.Duration]time.Duration{0: 0, 900 * time.Microsecond: 0, 5 * time.Millisecond: 20 * time.Millisecond, time.Second: 200 * time.Millisecond} {
		if got := rest(cost); got != want {
			t.Errorf("after %s: %s, want %s", cost, got, want)
		}
	}
}
