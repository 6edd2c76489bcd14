package node

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"connectrpc.com/connect"
)

// errStopping promises that nothing was done: callers go to the next node.
var errStopping = connect.NewError(connect.CodeUnavailable, errors.New("this node is stopping; ask another one"))

// calls are the requests that this node is answering.
type calls struct {
	mu   sync.Mutex
	n    int
	shut bool
	none chan struct{} // closed when shut and n is 0
	// over ends when the node stops to answer: what is parked gives up.
	over context.Context
	end  context.CancelCauseFunc
}

func newCalls() *calls {
	c := &calls{none: make(chan struct{})}
	c.over, c.end = context.WithCancelCause(context.Background())
	return c
}

func (c *calls) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut {
		return false
	}
	c.n++
	return true
}

func (c *calls) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.n == 0 && c.shut {
		close(c.none)
	}
}

// close refuses new calls and ends those that can be repeated.
func (c *calls) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut {
		return
	}
	c.shut = true
	if c.n == 0 {
		close(c.none)
	}
	c.end(errStopping)
}

// wait returns how many calls are left when all have been answered, or ctx has
// ended.
func (c *calls) wait(ctx context.Context) int {
	select {
	case <-c.none:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// under is how many calls are under way.
func (c *calls) under() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// counted counts the requests of a handler, and refuses them once the node stops.
func (c *calls) counted(next http.Handler) http.Handler {
	refusal := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !c.enter() {
			_ = refusal.Write(w, r, errStopping)
			return
		}
		defer c.leave()
		next.ServeHTTP(w, r)
	})
}

// repeatable is a context that ends also when the node stops: for calls that the
// caller makes again, elsewhere, at no harm.
func (c *calls) repeatable(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(c.over, func() { cancel(errStopping) })
	return ctx, func() { unhook(); cancel(nil) }
}
