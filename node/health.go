package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxLag is how long ago a follower may have heard the leader to be ready.
const maxLag = 2 * time.Second

// serveHealth answers monitoring on a plain HTTP port, if there is one: nothing
// there changes anything or shows what VMs are called.
func (n *Node) serveHealth(ctx context.Context) error {
	if n.cfg.HTTPListen == "" {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", n.cfg.HTTPListen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", n.cfg.HTTPListen, err)
	}
	srv := &http.Server{Handler: n.health(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, WriteTimeout: 30 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", n.cfg.HTTPListen, err)
	}
	return nil
}

// health answers monitoring.
func (n *Node) health() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := n.notReady(); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /leader", n.showLeader)
	return mux
}

// notReady says why a load balancer should send nothing here; "" = it should.
func (n *Node) notReady() string {
	switch {
	case n.stop.Load():
		return "this node is stopping"
	case n.term.Load() != nil:
		return ""
	case n.raft.State() == raft.Leader:
		return "this node was just elected and is not serving yet"
	}
	if addr, _ := n.raft.LeaderWithID(); addr == "" {
		return "no leader is known"
	}
	if last := n.raft.LastContact(); last.IsZero() || time.Since(last) > maxLag {
		return "the leader has not been heard lately"
	}
	return ""
}

// showLeader answers 200 on the leader and 503 elsewhere, and names the leader
// either way.
func (n *Node) showLeader(w http.ResponseWriter, _ *http.Request) {
	addr, id := n.raft.LeaderWithID()
	w.Header().Set("Content-Type", "application/json")
	leads := n.term.Load() != nil
	if !leads {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"leader": string(id), "address": string(addr), "term": n.raft.CurrentTerm(), "this_node_leads": leads})
}
