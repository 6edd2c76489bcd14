package webhook

import (
	"crypto/hmac"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"lifeboat/notify"
	"lifeboat/notify/notifytest"
)

func TestConformance(t *testing.T) {
	notifytest.Run(t, Kind(), func(t *testing.T) *notifytest.Rig {
		return notifytest.NewWeb(t).Rig(notify.Target{Secret: "much-secret"})
	})
}

// What arrives is a CloudEvent, and its signature is that of the body.
func TestSignedCloudEvent(t *testing.T) {
	w := notifytest.NewWeb(t)
	d, err := Kind().Open(notify.Target{Address: w.URL + "/in", Secret: "s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Send(t.Context(), notifytest.Message("d-1")); err != nil {
		t.Fatal(err)
	}
	body := []byte(w.Got()[0])
	if got := w.Last.Header.Get(SignatureHeader); !hmac.Equal([]byte(got), []byte(Sign([]byte("s3cret"), body))) || Sign([]byte("other"), body) == got {
		t.Errorf("the signature is %q", got)
	}
	var e Event
	if err := json.Unmarshal(body, &e); err != nil || e.SpecVersion != "1.0" || e.ID != "d-1" || e.Type != "io.lifeboat.alert.opened" || e.Subject != "HOST/h2" || e.Source != "/lifeboat/c1" || len(e.Data.Notices) != 1 {
		t.Errorf("the event is %+v, %v", e, err)
	}
	if got := w.Last.Header.Get("Content-Type"); got != "application/cloudevents+json; charset=utf-8" || w.Last.URL.Path != "/in" {
		t.Errorf("it is %q at %s", got, w.Last.URL)
	}
}

// A redirect would carry the message, and its signature, to who knows whom.
func TestRedirectsAreNotFollowed(t *testing.T) {
	w := notifytest.NewWeb(t)
	r := httptest.NewServer(http.RedirectHandler(w.URL, http.StatusTemporaryRedirect))
	defer r.Close()
	d, _ := Kind().Open(notify.Target{Address: r.URL})
	if err := d.Send(t.Context(), notifytest.Message("d-1")); err == nil || len(w.Got()) != 0 {
		t.Errorf("it was sent on: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	notifytest.FuzzOpen(f, Kind(), [2]string{"https://hooks.example.org/x", ""}, [2]string{"http://[::1]:80/", "x=y"}, [2]string{"../../bin/sh", ""})
}
