package node

import (
	"context"
	"net/http"
	"runtime"
	"sync"
	"time"

	"connectrpc.com/connect"
)

// readings bound how many requests of agents are being read at once. A report of a
// hundred VMs takes a fraction of a millisecond to decode. When thousands come at the
// same moment, each waits for its turn here, and costs nothing meanwhile: what Raft
// wants to send or has received need not stand in one queue with all of them.
type readings chan struct{}

// readingTime is how long a reading may keep the others waiting: who sends the half of
// a request and nothing more must not. The rest goes on beside theirs.
const readingTime = 5 * time.Millisecond

func newReadings() readings { return make(readings, 2*runtime.GOMAXPROCS(0)) }

// begin waits for a turn. end may be called more than once.
func (r readings) begin(ctx context.Context) (end func(), err error) {
	select {
	case r <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	end = sync.OnceFunc(func() { <-r })
	time.AfterFunc(readingTime, end)
	return end, nil
}

type readingKey struct{}

// read notes that the request of a context has been read.
func read(ctx context.Context) {
	if end, ok := ctx.Value(readingKey{}).(func()); ok {
		end()
	}
}

// fromAgents lets the requests of agents in, in turn. While nobody leads they are
// refused before they are read: a fleet asks one node after the other until somebody
// does, and what elects must not wait for it.
func (n *Node) fromAgents(next http.Handler) http.Handler {
	refusal := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.term.Load() == nil && n.isMember(n.self()) {
			if addr, leader := n.raft.LeaderWithID(); addr == "" || string(leader) == n.cfg.ID {
				_ = refusal.Write(w, r, noLeader())
				return
			}
		}
		end, err := n.readings.begin(r.Context())
		if err != nil {
			return // the caller has hung up
		}
		defer end()
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), readingKey{}, end)))
	})
}
