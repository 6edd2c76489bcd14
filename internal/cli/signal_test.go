package cli

import (
	"os"
	"syscall"
	"testing"
)

// The first signal asks, the second exits; for a command that can hurry the
// second says so and the third exits.
func TestSignals(t *testing.T) {
	send := func() {
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	for name, hurries := range map[string]bool{"exits": false, "hurries": true} {
		t.Run(name, func(t *testing.T) {
			exited := make(chan int, 1)
			ctx, stop := SignalContext(t.Context(), func(code int) { exited <- code })
			defer stop()
			var hurry <-chan struct{}
			if hurries {
				hurry = Hurry(ctx)
			}
			send()
			<-ctx.Done()
			send()
			if hurries {
				<-hurry
				send()
			}
			if code := <-exited; code != ExitInterrupted {
				t.Errorf("exit code %d", code)
			}
		})
	}
	if Hurry(t.Context()) != nil {
		t.Error("nobody could be in a hurry here")
	}
}
