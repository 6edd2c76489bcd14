package alertmanager

import (
	"encoding/json"
	"maps"
	"testing"
	"time"

	"lifeboat/notify"
	"lifeboat/notify/notifytest"
)

func TestConformance(t *testing.T) {
	notifytest.Run(t, Kind(), func(t *testing.T) *notifytest.Rig {
		return notifytest.NewWeb(t).Rig(notify.Target{Secret: "much-secret"})
	})
}

// The end of an alert has the labels of its beginning, whatever its severity is then:
// by them it is the same alert there.
func TestTheEndIsOfTheSameAlert(t *testing.T) {
	w := notifytest.NewWeb(t)
	d, err := Kind().Open(notify.Target{Address: w.URL, Options: map[string]string{"user": "u"}, Secret: "p"})
	if err != nil {
		t.Fatal(err)
	}
	begin, end := notifytest.Message("d-1"), notifytest.Message("d-2")
	n := &end.Notices[0]
	n.Kind, n.Severity, n.Resolved = "resolved", "warning", n.Since.Add(time.Minute)
	var got [2][]Alert
	for i, m := range []*notify.Message{begin, end} {
		if err := d.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(w.Got()[i]), &got[i]); err != nil || len(got[i]) != 1 {
			t.Fatalf("%v: %s", err, w.Got()[i])
		}
	}
	a, b := got[0][0], got[1][0]
	if !maps.Equal(a.Labels, b.Labels) || a.Labels["alertname"] != "LifeboatHOST" || a.Labels["host_rack"] != "r1" {
		t.Errorf("labels %v, then %v", a.Labels, b.Labels)
	}
	if !a.EndsAt.After(begin.Time.Add(time.Hour)) || !b.EndsAt.Equal(n.Resolved) {
		t.Errorf("it ends at %s, then at %s", a.EndsAt, b.EndsAt)
	}
	if u, p, _ := w.Last.BasicAuth(); u != "u" || p != "p" || w.Last.URL.Path != "/api/v2/alerts" {
		t.Errorf("as %s:%s at %s", u, p, w.Last.URL)
	}
}

// By its labels an alert is the same there, so they must not be a matter of luck.
func TestLabelsThatBecomeTheSame(t *testing.T) {
	m := notifytest.Message("d-1")
	m.Notices[0].Labels = map[string]string{"rack-a": "1", "rack.a": "2", "rack_a": "3"}
	want := map[string]string{"host_rack_a": "1", "host_rack_a_": "2", "host_rack_a__": "3"}
	for range 20 {
		got := Alerts(m, time.Hour)[0].Labels
		for k, v := range want {
			if got[k] != v {
				t.Fatalf("%s is %q: %v", k, got[k], got)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	notifytest.FuzzOpen(f, Kind(), [2]string{"https://am:9093", "lasts=24h\nuser=x"}, [2]string{"http://am", "lasts=1m"}, [2]string{"am", "lasts=-1h"}, [2]string{"https://am/api/v2/alerts/", "lasts=2540400h"})
}

// What stays open is sent again with the same labels and a later end, also when it took
// long to send it.
func TestWhatStaysOpenEndsLater(t *testing.T) {
	const lasts = 30 * time.Minute
	w := notifytest.NewWeb(t)
	to := notify.Target{Kind: "alertmanager", Address: w.URL, Options: map[string]string{"lasts": lasts.String()}}
	r := notify.NewRegistry(Kind())
	if every := r.Repeat(to); every != 10*time.Minute {
		t.Fatalf("it is sent again every %s", every)
	}
	d, err := r.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	begin, still := notifytest.Message("d-1"), notifytest.Message("d-2")
	still.Notices[0].Kind, still.Time = "still", begin.Time.Add(10*time.Minute)
	late := notifytest.Message("d-3")
	late.Notices[0].Kind, late.Time, late.Sent = "still", still.Time, begin.Time.Add(5*time.Hour)
	var got [3][]Alert
	for i, m := range []*notify.Message{begin, still, late} {
		if err := d.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(w.Got()[i]), &got[i]); err != nil || len(got[i]) != 1 {
			t.Fatalf("%v: %s", err, w.Got()[i])
		}
		if a := got[i][0]; !maps.Equal(a.Labels, got[0][0].Labels) || !a.StartsAt.Equal(got[0][0].StartsAt) {
			t.Errorf("it is another alert: %+v, and %+v before", a, got[0][0])
		}
	}
	for i, want := range []time.Duration{lasts, 10*time.Minute + lasts, 5*time.Hour + lasts} {
		if end := got[i][0].EndsAt; !end.Equal(begin.Time.Add(want)) {
			t.Errorf("post %d lasts until %s, not %s", i, end, begin.Time.Add(want))
		}
	}
	for _, text := range []string{"59s", "x", "-1h", "9000h"} {
		if _, err := r.Open(notify.Target{Kind: "alertmanager", Address: w.URL, Options: map[string]string{"lasts": text}}); err == nil {
			t.Errorf("lasts %s is let pass", text)
		}
	}
}
