package main

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/internal/cli"
)

// remembering is a world whose nodes remember requests.
func remembering(t *testing.T) *world {
	w := newWorld(t, busyState())
	w.admin.state.status.FeatureLevel = 3
	w.admin.remembers = map[string]connect.AnyResponse{}
	return w
}

func (f *fakeAdmin) loseAnswers(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lose = n
}

// The leader executes a write and dies before it answers: the command asks again
// with the same id, and it is done once.
func TestALostAnswerIsAskedForAgain(t *testing.T) {
	w := remembering(t)
	w.admin.loseAnswers(1)
	w.run("policy", "set", "beat=2s").want(t, cli.ExitOK, "done already")
	if n := w.admin.writes(); n != 1 {
		t.Errorf("it was done %d times", n)
	}
}

// While nobody leads, a write waits; what was never done needs no id for that.
func TestAWriteWaitsForALeader(t *testing.T) {
	for name, w := range map[string]*world{"remembers": remembering(t), "older": newWorld(t, busyState())} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			w.admin.behave(func(ctx context.Context, p string) error {
				if p == "SetPolicy" && asked.Add(1) < 3 {
					return noLeader(ctx, p)
				}
				return nil
			})
			w.run("policy", "set", "beat=2s").want(t, cli.ExitOK, "1 setting changed")
			if n := w.admin.writes(); n != 1 {
				t.Errorf("it was done %d times", n)
			}
		})
	}
}

// A token can be made right after the first node was started.
func TestATokenWaitsForALeader(t *testing.T) {
	w := remembering(t)
	var asked atomic.Int32
	w.admin.behave(func(ctx context.Context, p string) error {
		switch {
		case p != "CreateToken":
			return nil
		case asked.Add(1) < 3:
			return noLeader(ctx, p)
		}
		return connect.NewError(connect.CodePermissionDenied, errors.New("it was asked"))
	})
	w.run("token", "create", "agent").want(t, cli.ExitRefused, "it was asked")
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times", n)
	}
}

// Nothing is waited for where no node can be reached at all.
func TestAWriteDoesNotWaitForNobody(t *testing.T) {
	w := newWorld(t, busyState())
	w.use(closedPort(t))
	begin := time.Now()
	w.run("host", "disable", "h1").want(t, cli.ExitUnreachable, "connection refused")
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

// The outcome stays unknown: the error has the command that asks again, and that
// command does no harm.
func TestAnUnknownOutcomeSaysHowToAskAgain(t *testing.T) {
	w := remembering(t)
	w.admin.behave(func(_ context.Context, p string) error {
		if p == "SetPolicy" && w.admin.writes() > 0 {
			return connect.NewError(connect.CodeUnknown, errors.New("the leader does not answer"))
		}
		return nil
	})
	w.admin.loseAnswers(1)
	r := w.run("policy", "set", "beat=2s", "--timeout=1s")
	r.want(t, cli.ExitUnknown, "outcome unknown", "repeat it without harm: lifeboat policy set beat=2s --timeout=1s --request-id ")
	_, again, _ := strings.Cut(strings.TrimSpace(r.stderr), "without harm: lifeboat ")
	w.admin.behave(nil)
	w.run(strings.Fields(again)...).want(t, cli.ExitOK, "done already")
	if n := w.admin.writes(); n != 1 {
		t.Errorf("it was done %d times", n)
	}
}

// A cluster that does not remember requests: one says so, an older one passes over
// the id. Neither is sent a write twice.
func TestNothingIsRepeatedWhereItIsNotRemembered(t *testing.T) {
	refuses := func(ids *atomic.Int32) func(http map[string][]string) error {
		return func(h map[string][]string) error {
			if len(h[pb.HeaderRequestID]) > 0 {
				ids.Add(1)
				return connect.NewError(connect.CodeUnimplemented, errors.New("the cluster's feature level is 2, and request ids are remembered from level 3 on"))
			}
			return nil
		}
	}
	for name, older := range map[string]bool{"says so": false, "older": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, busyState())
			w.admin.state.status.FeatureLevel = 2
			var ids atomic.Int32
			if !older {
				w.admin.headers = refuses(&ids)
			}
			w.run("policy", "set", "beat=2s").want(t, cli.ExitOK, "1 setting changed")
			w.admin.loseAnswers(1)
			w.run("policy", "set", "beat=3s", "--timeout=3s").want(t, cli.ExitUnknown, "look before you repeat it")
			if n := w.admin.writes(); n != 2 {
				t.Errorf("%d writes were done, want 2", n)
			}
			if older {
				return
			}
			if ids.Load() != 2 {
				t.Errorf("%d ids were refused, want 2", ids.Load())
			}
			w.run("policy", "set", "beat=4s", "--request-id", "mine").want(t, cli.ExitRefused, "the cluster's feature level is 2")
			if n := w.admin.writes(); n != 2 {
				t.Error("the user's id was left out")
			}
		})
	}
}

// What the cluster cannot remember carries no id, and is sent once.
func TestATransferIsSentOnce(t *testing.T) {
	w := remembering(t)
	w.admin.loseAnswers(1)
	w.run("node", "transfer-leadership").want(t, cli.ExitUnknown, "look before you repeat it")
	if n, k := w.admin.writes(), len(w.admin.remembers); n != 1 || k > 0 {
		t.Errorf("it was done %d times, %d ids were given", n, k)
	}
}

func TestConsistencyIsChosen(t *testing.T) {
	w := newWorld(t, busyState())
	w.run("host", "list", "--stale", "--consistency=linearizable").want(t, cli.ExitUsage, "contradict")
	w.run("host", "list", "--consistency=linearizable").want(t, cli.ExitFailed, "does not know such reads")
	w.run("host", "list", "--consistency=eventual").want(t, cli.ExitUsage, "--consistency")
	w.admin.answered = &pb.Answered{NodeId: "n2", Index: 812, Consistency: pb.Consistency_CONSISTENCY_STALE, LastContactMs: 40}
	for _, line := range []string{"host list --stale", "host list --consistency=stale"} {
		w.run(strings.Fields(line)...).want(t, cli.ExitOK, "answered by n2 from the state of log index 812; it heard a leader 40ms ago")
		if !w.admin.last.GetStale() {
			t.Errorf("%s: the request does not say stale", line)
		}
	}
	w.admin.answered = &pb.Answered{NodeId: "n1", Index: 812, Consistency: pb.Consistency_CONSISTENCY_LINEARIZABLE}
	w.run("host", "list", "--consistency=linearizable").want(t, cli.ExitOK, "h1")
	if w.admin.last.Consistency != pb.Consistency_CONSISTENCY_LINEARIZABLE {
		t.Error("the request does not say linearizable")
	}
}
