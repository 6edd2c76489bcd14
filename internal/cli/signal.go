package cli

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// SignalContext is a context that the first SIGINT or SIGTERM ends, with
// [Interrupted] as its cause. The second calls exit at once, for whatever does
// not look at its context; where [Hurry] was asked for, the third does. stop
// releases the signals.
func SignalContext(parent context.Context, exit func(code int)) (ctx context.Context, stop func()) {
	h := &hurry{asked: make(chan struct{})}
	ctx, cancel := context.WithCancelCause(context.WithValue(parent, hurryKey{}, h))
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for count := 0; ; count++ {
			select {
			case s := <-signals:
				switch {
				case count == 0:
					cancel(&Interrupted{Signal: s.String()})
				case count == 1 && h.wanted.Load():
					close(h.asked)
				default:
					exit(ExitInterrupted)
				}
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}

type hurryKey struct{}

type hurry struct {
	wanted atomic.Bool
	asked  chan struct{}
}

// Hurry is closed by the second signal, for a command that then ends faster
// instead of at once. Nil when ctx does not come from SignalContext.
func Hurry(ctx context.Context) <-chan struct{} {
	h, ok := ctx.Value(hurryKey{}).(*hurry)
	if !ok {
		return nil
	}
	h.wanted.Store(true)
	return h.asked
}
