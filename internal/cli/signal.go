package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// SignalContext is a context that the first SIGINT or SIGTERM ends, with
// [Interrupted] as its cause. The second calls exit at once, for whatever does
// not look at its context. stop releases the signals.
func SignalContext(parent context.Context, exit func(code int)) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for count := 0; ; count++ {
			select {
			case s := <-signals:
				if count > 0 {
					exit(ExitInterrupted)
				}
				cancel(&Interrupted{Signal: s.String()})
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
