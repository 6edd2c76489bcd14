package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/notify"
	"lifeboat/transport"
	"lifeboat/transport/memnet"
)

// ask is a call whose answer nobody reads.
func ask[Q, R any](ctx context.Context, f func(context.Context, *connect.Request[Q]) (*connect.Response[R], error), q *Q) error {
	_, err := f(ctx, connect.NewRequest(q))
	return err
}

// inbox is a driver in memory: what arrives at each address, in a whole cluster.
type inbox struct {
	mu   sync.Mutex
	got  map[string][]*notify.Message
	hung map[string]bool // takes the message, and never says so
	bad  map[string]bool
}

func newInbox() *inbox {
	return &inbox{got: map[string][]*notify.Message{}, hung: map[string]bool{}, bad: map[string]bool{}}
}

type inboxDriver struct {
	in      *inbox
	address string
}

func (in *inbox) kind() notify.Kind {
	repeat := func(t notify.Target) time.Duration { d, _ := time.ParseDuration(t.Options["repeat"]); return d }
	return notify.Kind{Name: "inbox", Options: []notify.Option{{Name: "repeat"}}, Repeat: repeat, Open: func(t notify.Target) (notify.Driver, error) {
		if t.Address == "" {
			return nil, errors.New("no address")
		}
		return inboxDriver{in, t.Address}, nil
	}}
}

func (d inboxDriver) Send(ctx context.Context, m *notify.Message) error {
	d.in.mu.Lock()
	hung, bad := d.in.hung[d.address], d.in.bad[d.address]
	if !bad {
		d.in.got[d.address] = append(d.in.got[d.address], m)
	}
	d.in.mu.Unlock()
	switch {
	case bad:
		return errors.New("no such inbox")
	case hung:
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (in *inbox) set(what map[string]bool, address string, is bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	what[address] = is
}

// at are the deliveries to an address, by id; said is what each said.
func (in *inbox) at(address string) (ids []string, said map[string][]string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	said = map[string][]string{}
	for _, m := range in.got[address] {
		text := fmt.Sprintf("%d:", m.Total)
		for _, n := range m.Notices {
			text += " " + n.Kind + " " + n.Name
		}
		if !slices.Contains(ids, m.ID) {
			ids = append(ids, m.ID)
		}
		said[m.ID] = append(said[m.ID], text)
	}
	return ids, said
}

// mailed is a story of three nodes with inboxes a and b.
func mailed(t *testing.T, story func(*world, *inbox)) {
	t.Helper()
	in := newInbox()
	runWith(t, 3, func(w *world) { w.notifiers = notify.NewRegistry(in.kind()) }, func(w *world) {
		w.within(20*time.Second, "the cluster is at level 4", func() bool { return w.state().Level >= fsm.LevelPolicy })
		for _, name := range []string{"a", "b"} {
			w.ok(func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				return ask(ctx, c.SetReceiver, &lifeboatv1.SetReceiverRequest{Name: name, Kind: "inbox", Address: name, Secret: "geheim"})
			})
		}
		story(w, in)
	})
}

func (w *world) ok(do func(context.Context, lifeboatv1connect.AdminServiceClient) error) {
	w.Helper()
	w.must(w.operator(w.leader(), do))
}

func hotHost(subject string) *lifeboatv1.RaiseAlertsRequest {
	return &lifeboatv1.RaiseAlertsRequest{Alerts: []*lifeboatv1.RaiseAlert{{Type: "HOST", Subject: subject, Cause: "hot", Severity: "critical", Text: "Host " + subject + " is hot."}}}
}

// A thousand reporters of one failure, on three nodes, through two leader changes: one
// alert, and one notification to each receiver; what is repeated has the same id.
func TestAThousandReportersOfOneFailure(t *testing.T) {
	mailed(t, func(w *world, in *inbox) {
		in.set(in.hung, "b", true) // it takes the message, and the leader does not hear so
		const reporters = 1000
		told := make([]bool, reporters)
		var all sync.WaitGroup
		nodes := w.live()
		clients := map[string]lifeboatv1connect.AdminServiceClient{}
		for _, n := range nodes {
			client, done := w.client("desk-"+n.id, transport.KindOperator, "alice")
			defer done()
			clients[n.id] = lifeboatv1connect.NewAdminServiceClient(client, "https://"+n.cfg.Listen)
		}
		for i := range reporters {
			all.Add(1)
			go func() {
				defer all.Done()
				for begin := time.Now(); time.Since(begin) < time.Minute; time.Sleep(100 * time.Millisecond) {
					ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
					// Each reports where it can, again and again until somebody has heard it.
					err := ask(ctx, clients[nodes[(i+int(time.Since(begin)/time.Second))%3].id].RaiseAlerts, hotHost("h1"))
					cancel()
					if err == nil {
						told[i] = true
						return
					}
				}
			}()
			if i%50 == 49 {
				time.Sleep(150 * time.Millisecond)
			}
			if i == 300 || i == 700 {
				l := w.leader()
				w.must(w.operator(l, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
					return ask(ctx, c.ControlNode, &lifeboatv1.ControlNodeRequest{Id: l.id, Action: "transfer-leadership"})
				}))
			}
		}
		all.Wait()
		if slices.Contains(told, false) {
			t.Fatal("a reporter was never heard")
		}
		in.set(in.hung, "b", false)
		w.within(2*time.Minute, "the outbox is empty", func() bool { return w.state().CountNotices() == 0 })
		s := w.state()
		a := s.OpenAlert(fsm.AlertKey{Type: "HOST", Subject: "h1", Cause: fsm.External + "hot"})
		if a == nil || a.Count < reporters || a.Reopened != 0 {
			t.Fatalf("the alert is %+v", a)
		}
		n := 0
		for _, x := range s.Alerts() {
			if x.Key.Subject == "h1" {
				n++
			}
		}
		if n != 1 {
			t.Errorf("there are %d alerts", n)
		}
		for _, address := range []string{"a", "b"} {
			ids, said := in.at(address)
			var about []string
			for _, id := range ids {
				if text := said[id]; strings.Contains(text[0], "h1") {
					about = append(about, id)
					for _, again := range text {
						if again != text[0] {
							t.Errorf("%s got %q and then %q under one id", address, text[0], again)
						}
					}
				}
			}
			if len(about) != 1 {
				t.Errorf("%s was told %d times: %v", address, len(about), said)
			}
		}
		if _, said := in.at("b"); len(said) == 0 || len(slices.Concat(slices.Collect(mapValues(said))...)) < 2 {
			t.Errorf("nothing was repeated to the one that hung: %v", said)
		}
	})
}

func mapValues[K comparable, V any](m map[K]V) func(func(V) bool) {
	return func(yield func(V) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// seen: what an operator sees of a and of b, which fails, is what the state says.
func seen(t *testing.T, w *world) {
	t.Helper()
	s := w.state()
	a, b := s.Receiver("a"), s.Receiver("b")
	var got *lifeboatv1.StatusResponse
	w.ok(func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
		r, err := c.Status(ctx, connect.NewRequest(&lifeboatv1.StatusRequest{}))
		if err == nil {
			got = r.Msg
		}
		return err
	})
	if got.Receivers != 2 || got.ReceiversFailing != 1 || got.NoticesWaiting != 1 || got.DeliveredUnixNs != a.DeliveredAt || a.DeliveredAt == 0 {
		t.Errorf("the status says %d receivers, %d failing, %d waiting, last at %d", got.Receivers, got.ReceiversFailing, got.NoticesWaiting, got.DeliveredUnixNs)
	}
	_, text := w.leader().get("/metrics")
	for _, line := range []string{`lifeboat_notify_waiting{receiver="a"} 0`, `lifeboat_notify_waiting{receiver="b"} 1`, `lifeboat_notify_failing{receiver="a"} 0`, `lifeboat_notify_failing{receiver="b"} 1`,
		fmt.Sprintf(`lifeboat_notify_attempts_failed{receiver="b"} %d`, b.Batch.Attempts), `lifeboat_notify_delivered_total{receiver="a"} 2`, `lifeboat_notify_lost_total{receiver="b"} 0`, `lifeboat_notify_last_delivery_seconds{receiver="b"} 0`} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("/metrics has no line %s", line)
		}
	}
}

// A receiver that fails holds up no other and is told of to the others; a new leader
// goes on with its back-off and its delivery.
func TestAFailingReceiverHoldsUpNobody(t *testing.T) {
	mailed(t, func(w *world, in *inbox) {
		in.set(in.bad, "b", true)
		w.ok(func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			return ask(ctx, c.RaiseAlerts, hotHost("h1"))
		})
		w.within(3*time.Second, "the good one has it", func() bool { ids, _ := in.at("a"); return len(ids) == 1 })
		w.within(time.Minute, "the good one hears of the bad one", func() bool {
			ids, said := in.at("a")
			return len(ids) == 2 && said[ids[1]][0] == "1: opened b"
		})
		seen(t, w)
		was := w.state().Receiver("b").Batch
		w.leader().crash(memnet.PowerLoss)
		w.within(20*time.Second, "another leads", func() bool { return len(w.serving()) == 1 })
		if is := w.state().Receiver("b").Batch; is == nil || is.ID != was.ID || is.Attempts < was.Attempts {
			t.Errorf("the delivery was %+v and is %+v", was, is)
		}
		in.set(in.bad, "b", false)
		w.within(2*time.Minute, "it arrives", func() bool { return w.state().CountNotices() == 0 })
		ids, said := in.at("b")
		if len(ids) < 1 || ids[0] != was.ID || said[ids[0]][0] != "1: opened h1" {
			t.Errorf("it got %v", said)
		}
		for _, text := range said {
			if strings.HasSuffix(text[0], " b") {
				t.Errorf("it was told of itself: %q", text)
			}
		}
		w.within(10*time.Second, "that is over", func() bool {
			return w.state().OpenAlert(fsm.AlertKey{Type: fsm.AlertReceiver, Subject: "b", Cause: "failing"}) == nil
		})
	})
}

// A storm is one digest.
func TestAStormIsADigest(t *testing.T) {
	mailed(t, func(w *world, in *inbox) {
		req := &lifeboatv1.RaiseAlertsRequest{}
		for i := range 500 {
			req.Alerts = append(req.Alerts, hotHost(fmt.Sprint("x", i)).Alerts...)
		}
		w.ok(func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			return ask(ctx, c.RaiseAlerts, req)
		})
		w.within(10*time.Second, "the outbox is empty", func() bool { return w.state().CountNotices() == 0 })
		for _, address := range []string{"a", "b"} {
			in.mu.Lock()
			got := in.got[address]
			in.mu.Unlock()
			if len(got) != 1 || got[0].Total != 500 || len(got[0].Notices) != notify.MaxNotices {
				t.Errorf("%s got %d messages", address, len(got))
			}
		}
	})
}

// A reader that is cut off and goes on after the last event it saw misses none and
// sees none twice, whoever answers, also by an index of the log and with filters.
func TestEventsResumeWithoutLoss(t *testing.T) {
	mailed(t, func(w *world, _ *inbox) {
		for i := range 40 {
			w.ok(func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				return ask(ctx, c.RaiseAlerts, hotHost(fmt.Sprint("x", i)))
			})
			if i == 20 {
				w.leader().halt()
				w.leader()
			}
		}
		synctest.Wait()
		var want []uint64
		for id, e := range w.state().EventsAfter(0) {
			if e.Type == "ALERT.GENERATE" && strings.HasPrefix(e.Subject, "host x") {
				want = append(want, uint64(id))
			}
		}
		var got []uint64
		req := &lifeboatv1.ListEventsRequest{AfterIndex: 1, Limit: 7, Type: "alert.*", Level: "critical", Actor: "alice"}
		for i := range 30 {
			w.must(w.operator(w.live()[i%2], func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				r, err := c.ListEvents(ctx, connect.NewRequest(req))
				if err != nil {
					return err
				}
				for _, e := range r.Msg.Events {
					got = append(got, e.Id)
				}
				req.After, req.AfterIndex = r.Msg.Seen, 0
				return nil
			}))
		}
		if !slices.Equal(got, want) {
			t.Errorf("read %v, there are %v", got, want)
		}
	})
}

// What stays open is sent again in time to a receiver that forgets, whoever leads and
// also after the receiver could not be reached; nothing of a storm is left out, and no post
// has more than a hundred.
func TestAReceiverThatForgetsIsToldInTime(t *testing.T) {
	mailed(t, func(w *world, in *inbox) {
		const every, lasts, alerts = 30 * time.Second, 90 * time.Second, 250
		w.ok(func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			return ask(ctx, c.SetReceiver, &lifeboatv1.SetReceiverRequest{Name: "k", Kind: "inbox", Address: "k", Options: map[string]string{"repeat": every.String()}})
		})
		req := &lifeboatv1.RaiseAlertsRequest{}
		for i := range alerts {
			req.Alerts = append(req.Alerts, hotHost(fmt.Sprint("x", i)).Alerts...)
		}
		w.ok(func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			return ask(ctx, c.RaiseAlerts, req)
		})
		begin := time.Now()
		w.stays(2*time.Minute, "", func() bool { return true })
		w.leader().crash(memnet.PowerLoss)
		w.within(20*time.Second, "another leads", func() bool { return len(w.serving()) == 1 })
		w.stays(2*time.Minute, "", func() bool { return true })
		in.set(in.bad, "k", true)
		w.stays(30*time.Second, "", func() bool { return true })
		in.set(in.bad, "k", false)
		w.stays(2*time.Minute, "", func() bool { return true })
		w.ok(func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			return ask(ctx, c.ControlAlert, &lifeboatv1.ControlAlertRequest{Action: "resolve", Filter: &lifeboatv1.AlertFilter{Subjects: []string{"x0"}}})
		})
		w.within(10*time.Second, "its end is told", func() bool {
			_, said := in.at("k")
			for _, text := range said {
				if strings.Contains(text[0], "resolved x0") {
					return true
				}
			}
			return false
		})
		over := time.Now()
		w.stays(2*every, "", func() bool { return true })
		in.mu.Lock()
		got := slices.Clone(in.got["k"])
		in.mu.Unlock()
		last := map[string]time.Time{}
		notices := 0
		for _, m := range got {
			if len(m.Notices) != m.Total || m.Total > notify.MaxNotices {
				t.Errorf("a post has %d of %d", len(m.Notices), m.Total)
			}
			notices += m.Total
			for _, n := range m.Notices {
				if was, told := last[n.Subject]; told && m.Sent.Sub(was) > lasts {
					t.Errorf("%s was forgotten: told at %s and then at %s", n.Subject, was.Sub(begin), m.Sent.Sub(begin))
				}
				last[n.Subject] = m.Sent
				if n.Subject == "x0" && n.Kind == "still" && m.Sent.After(over) {
					t.Error("x0 is over and told to go on")
				}
			}
		}
		if n := len(last); n < alerts {
			t.Errorf("only %d alerts were told", n)
		}
		for subject, was := range last {
			if time.Since(was) > lasts && subject != "x0" {
				t.Errorf("%s was forgotten: told at %s, and not since", subject, was.Sub(begin))
				break
			}
		}
		rounds := int(time.Since(begin)/every) + 3
		if most := (rounds + 1) * (alerts + 10); notices > most {
			t.Errorf("%d notices in %d rounds", notices, rounds)
		}
	})
}
