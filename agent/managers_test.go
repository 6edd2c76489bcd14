package agent

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
)

// What an agent makes of the ways in which a manager can fail it, over real sockets.
func TestFailure(t *testing.T) {
	nobody := connect.NewError(connect.CodeUnavailable, errors.New("nobody leads"))
	nobody.Meta().Set(lifeboatv1.HeaderNoLeader, "true")
	answers := func(err error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { _ = connect.NewErrorWriter().Write(w, r, err) }
	}
	for name, c := range map[string]struct {
		manager          http.HandlerFunc
		noLeader, broken bool
	}{
		"nobody leads":     {answers(nobody), true, false},
		"not a member":     {answers(connect.NewError(connect.CodeUnavailable, errors.New("ask another one"))), false, false},
		"refused":          {answers(connect.NewError(connect.CodePermissionDenied, errors.New("no"))), false, false},
		"hangs up":         {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false, true},
		"is not a manager": {http.NotFound, false, false},
		"does not listen":  {nil, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewUnstartedServer(c.manager)
			if c.manager != nil {
				srv.Start()
				defer srv.Close()
			} else {
				srv.URL = "http://" + gone(t)
			}
			_, err := lifeboatv1connect.NewAgentServiceClient(http.DefaultClient, srv.URL).Report(t.Context(), connect.NewRequest(&lifeboatv1.ReportRequest{}))
			f := failure(err)
			if f.Err == nil || f.NoLeader != c.noLeader || f.Broken != c.broken {
				t.Errorf("%+v, want nobody leads: %v, broken: %v", f, c.noLeader, c.broken)
			}
		})
	}
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if _, err := lifeboatv1connect.NewAgentServiceClient(http.DefaultClient, "http://"+gone(t)).Report(late, connect.NewRequest(&lifeboatv1.ReportRequest{})); failure(err).Broken {
		t.Errorf("silence is not a broken connection: %v", err)
	}
}

// gone is an address at which nobody listens any more.
func gone(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
