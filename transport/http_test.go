package transport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/transport"
	"lifeboat/transport/memnet"
)

// whoami answers with who asked and how; "/park" waits for the client to leave.
var whoami = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/park" {
		<-r.Context().Done()
		return
	}
	id, ok := transport.IdentityFromContext(r.Context())
	fmt.Fprintf(rw, "%s %s %v", r.Proto, id, ok)
})

func serveHTTP(t *testing.T, l *transport.Listener) {
	srv := transport.NewHTTPServer(whoami, nil)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l.HTTP()) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

func get(ctx context.Context, c *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func TestHTTPOverRealSockets(t *testing.T) {
	a := newAuthority(t)
	var refuse atomic.Bool
	l, err := transport.Listen(t.Context(), "127.0.0.1:0", a.creds(node("n1")), transport.Options{
		Authorize: func(string, transport.Identity) error {
			if refuse.Load() {
				return errors.New("removed")
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	serveHTTP(t, l)
	url := "https://" + l.Addr().String()

	client := transport.NewHTTPClient(a.creds(host("h1")), transport.ClientOptions{NameOf: func(string) string { return "n1" }})
	defer client.CloseIdleConnections()
	for range 3 {
		if got, err := get(t.Context(), client, url); err != nil || got != "HTTP/2.0 lifeboat://host/h1 true" {
			t.Fatalf("%q, %v", got, err)
		}
	}

	wrongName := transport.NewHTTPClient(a.creds(host("h1")), transport.ClientOptions{NameOf: func(string) string { return "n2" }})
	var wrong *transport.WrongPeerError
	if _, err := get(t.Context(), wrongName, url); !errors.As(err, &wrong) {
		t.Errorf("wrong name: %v", err)
	}
	foreign := transport.NewHTTPClient(newAuthority(t).creds(host("h1")), transport.ClientOptions{})
	if _, err := get(t.Context(), foreign, url); err == nil || !strings.Contains(err.Error(), "another CA than ours") {
		t.Errorf("wrong CA: %v", err)
	}

	// Often, since the alert races with what the client sends.
	refuse.Store(true)
	again := transport.NewHTTPClient(a.creds(host("h2")), transport.ClientOptions{})
	for range 50 {
		if _, err := get(t.Context(), again, url); err == nil || !strings.Contains(err.Error(), "refused our certificate for lifeboat://host/h2") {
			t.Errorf("refused: %v", err)
		}
	}
}

// httpWorld is a node with its API and an agent's client, in virtual time.
func httpWorld(t *testing.T, latency time.Duration) (*world, *http.Client) {
	w := newWorld(t, transport.Options{})
	w.net.SetLatency(latency)
	serveHTTP(t, w.l)
	c := transport.NewHTTPClient(w.creds(host("h1")), transport.ClientOptions{Dial: transport.DialOptions{Dial: w.net.Dialer("h1")}})
	t.Cleanup(c.CloseIdleConnections)
	return w, c
}

func TestParkedRequestNoticesADeadNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, client := httpWorld(t, time.Millisecond)
		time.AfterFunc(time.Minute, func() { w.net.Kill("n1", memnet.PowerLoss) })
		start := time.Now()
		_, err := get(t.Context(), client, "https://n1:7000/park")
		// A minute of pings that were answered, then one that was not.
		if took := time.Since(start) - time.Minute; err == nil || took > 5*time.Second {
			t.Errorf("%v, %v after the node died; want at most 5s", err, took)
		}
		w.net.Revive("n1")
	})
}

func TestClientSurvivesACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, client := httpWorld(t, 0)
		if _, err := get(t.Context(), client, "https://n1:7000/"); err != nil {
			t.Fatal(err)
		}
		w.net.CutBoth("h1", "n1")
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err := get(ctx, client, "https://n1:7000/"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("across the cut: %v", err)
		}
		time.Sleep(time.Minute)
		w.net.HealAll()
		if got, err := get(t.Context(), client, "https://n1:7000/"); err != nil || got != "HTTP/2.0 lifeboat://host/h1 true" {
			t.Errorf("after healing: %q, %v", got, err)
		}
	})
}

func TestClientTalksToNodesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, client := httpWorld(t, 0)
		ln, err := w.net.Listen("h2:7000")
		if err != nil {
			t.Fatal(err)
		}
		l := transport.Serve(ln, w.creds(host("h2")), transport.Options{})
		defer l.Close()
		var wrong *transport.WrongPeerError
		if _, err := get(t.Context(), client, "https://h2:7000/"); !errors.As(err, &wrong) || wrong.Got != host("h2") {
			t.Errorf("got %v", err)
		}
	})
}

// Without the user timeout on accepted connections too, an answer in flight
// to a dead machine is waited for a quarter of an hour.
func TestAcceptedConnectionsCarryTheUserTimeout(t *testing.T) {
	a := newAuthority(t)
	creds := a.creds(node("n1"))
	ln, inspected := inspectingListener(t)
	l := transport.Serve(ln, creds, transport.Options{})
	t.Cleanup(func() { l.Close() })
	layer := transport.NewRaftStreamLayer(l, creds, transport.RaftOptions{})
	defer layer.Close()
	c, err := layer.Dial(raftAddr(l), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := sockopt(t, <-inspected, unix.TCP_USER_TIMEOUT); got != 3000 {
		t.Errorf("accepted: TCP_USER_TIMEOUT is %d ms, want 3000", got)
	}
}

// A client that has hung up ends what it was doing, also a request that is
// parked, and what it was still dialling comes to nothing.
func TestHangUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, client := httpWorld(t, 100*time.Millisecond)
		parked := make(chan error, 1)
		go func() {
			_, err := get(t.Context(), client, "https://n1:7000/park")
			parked <- err
		}()
		time.Sleep(10 * time.Second)
		dialling := transport.NewHTTPClient(w.creds(host("h1")), transport.ClientOptions{Dial: transport.DialOptions{Dial: w.net.Dialer("h1")}})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := get(ctx, dialling, "https://n1:7000/"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while it dials: %v", err)
		}
		transport.HangUp(dialling)
		transport.HangUp(client)
		if err := <-parked; err == nil {
			t.Error("the parked request was answered")
		}
		if _, err := get(t.Context(), client, "https://n1:7000/"); err == nil {
			t.Error("it dials again")
		}
	})
}

// A thousand requests at once open few connections, each of which carries many; and
// connections that have ended make room for others.
func TestFewConnectionsToANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := httpWorld(t, time.Millisecond)
		var dials atomic.Int32
		client := transport.NewHTTPClient(w.creds(host("h1")), transport.ClientOptions{Dial: transport.DialOptions{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return w.net.Dialer("h1")(ctx, network, addr)
		}}})
		defer transport.HangUp(client)
		for round := range 40 {
			var wg sync.WaitGroup
			for range 300 {
				wg.Go(func() {
					// A connection that ended before its first request costs a request.
					for try := 0; ; try++ {
						if _, err := get(t.Context(), client, "https://n1:7000/"); err == nil {
							return
						} else if round == 0 || try > 32 {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			if n := dials.Swap(0); n > 60 { // some end while others begin
				t.Fatalf("round %d: %d connections for 300 requests", round, n)
			}
			w.l.CloseConns(func(transport.Identity) bool { return true })
			time.Sleep(time.Second) // the client has noticed
		}
	})
}
