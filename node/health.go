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

// healthServer answers monitoring on a plain HTTP port, if there is one: nothing
// there changes anything or shows what VMs are called. It is up from before Raft
// starts until after it has stopped.
type healthServer struct {
	l   net.Listener // nil = there is none
	srv *http.Server
}

func (h *healthServer) listen(ctx context.Context, n *Node) error {
	if n.cfg.HTTPListen == "" {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", n.cfg.HTTPListen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", n.cfg.HTTPListen, err)
	}
	h.l, h.srv = l, &http.Server{Handler: n.health(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, WriteTimeout: 30 * time.Second}
	return nil
}

func (h *healthServer) run(context.Context) error {
	if h.l == nil {
		return nil
	}
	if err := h.srv.Serve(h.l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", h.l.Addr(), err)
	}
	return nil
}

func (h *healthServer) stop(context.Context, error) error {
	if h.l == nil {
		return nil
	}
	return h.srv.Close()
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
	case n.leaving.Load():
		return "this node is stopping"
	case !n.joined.Load():
		return "this node is starting"
	case !n.isMember(n.self()):
		return "this node is not a member of the cluster any more"
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
	if !n.joined.Load() {
		http.Error(w, "this node is starting", http.StatusServiceUnavailable)
		return
	}
	addr, id := n.raft.LeaderWithID()
	w.Header().Set("Content-Type", "application/json")
	leads := n.term.Load() != nil && !n.leaving.Load()
	if !leads {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"leader": string(id), "address": string(addr), "term": n.raft.CurrentTerm(), "this_node_leads": leads})
}
