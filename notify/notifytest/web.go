package notifytest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"lifeboat/notify"
)

// Web is a receiver over HTTP on the loopback.
type Web struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	Last   *http.Request // header and path of the newest
	refuse bool
	hang   bool
}

// NewWeb starts a receiver that ends with the test.
func NewWeb(t *testing.T) *Web {
	w := &Web{}
	over := make(chan struct{})
	w.Server = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		body, _ := io.ReadAll(in.Body)
		w.mu.Lock()
		refuse, hang := w.refuse, w.hang
		if !refuse && !hang {
			w.bodies = append(w.bodies, string(body))
			w.Last = in
		}
		w.mu.Unlock()
		switch {
		case refuse:
			http.Error(out, "we are closed; you said "+in.Header.Get("Authorization"), http.StatusServiceUnavailable)
		case hang:
			select {
			case <-in.Context().Done():
			case <-over:
			}
		}
	}))
	t.Cleanup(func() { close(over); w.Close() })
	return w
}

// Got is what has arrived.
func (w *Web) Got() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bodies
}

// Rig is the receiver behind a target.
func (w *Web) Rig(target notify.Target) *Rig {
	target.Address = w.URL
	set := func(x *bool) func() {
		return func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			*x = true
		}
	}
	return &Rig{Target: target, Got: w.Got, Refuse: set(&w.refuse), Hang: set(&w.hang)}
}
