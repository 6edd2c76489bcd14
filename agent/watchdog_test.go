package agent

import (
	"context"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

type noHTTP struct{}

func (noHTTP) Do(*http.Request) (*http.Response, error) { return nil, http.ErrServerClosed }

func TestKeeper(t *testing.T) {
	type step struct {
		command string
		wait    time.Duration
	}
	cases := []struct {
		name  string
		steps []step
		bites bool
	}{
		{"never armed", []step{{"pet", time.Hour}}, false},
		{"starves", []step{{"arm 2", 2100 * time.Millisecond}}, true},
		{"petted", []step{{"arm 2", time.Second}, {"pet", 1900 * time.Millisecond}}, false},
		{"starves later", []step{{"arm 2", time.Second}, {"pet", 2100 * time.Millisecond}}, true},
		{"disarmed", []step{{"arm 2", time.Second}, {"disarm", time.Hour}}, false},
		{"armed again with another time", []step{{"arm 1", 0}, {"arm 5", 4 * time.Second}}, false},
		{"nonsense changes nothing", []step{{"arm 2", 0}, {"arm -1", 0}, {"arm NaN", 0}, {"arm 1e9", 0}, {"arm", 0}, {"disarm now", 3 * time.Second}}, true},
		{"a pet after it ran out is too late", []step{{"arm 1", 2 * time.Second}, {"pet", 0}}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bites := 0
				w := newKeeper(ServeOptions{Logger: hclog.NewNullLogger(), reset: func() error { bites++; return nil }})
				for _, s := range c.steps {
					_ = w.command(s.command)
					time.Sleep(s.wait)
					synctest.Wait()
				}
				if (bites > 0) != c.bites || bites > 1 {
					t.Errorf("it bit %d times, want %v", bites, c.bites)
				}
				_ = w.command("disarm")
			})
		})
	}
}

// The client and the server over a real socket: petted it is quiet, a client
// that goes away without a goodbye leaves it armed, and it bites.
func TestExternalWatchdog(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "dog.sock")
	bit := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- ServeWatchdog(ctx, ServeOptions{Socket: socket, Idle: time.Hour, reset: func() error { bit <- struct{}{}; return nil }})
	}()
	w := ExternalWatchdog(ExternalOptions{Socket: socket})
	for w.Arm(time.Hour) != nil {
		select {
		case err := <-done:
			t.Fatal(err)
		default:
		}
	}
	if err := w.Pet(); err != nil {
		t.Error(err)
	}
	if err := w.Disarm(); err != nil {
		t.Error(err)
	}
	if err := w.Arm(50 * time.Millisecond); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	<-bit
	cancel()
	if err := <-done; err != nil {
		t.Errorf("serve: %v", err)
	}
	if err := w.Pet(); err == nil {
		t.Error("a pet that nobody hears is no error")
	}
	if err := w.Disarm(); err != nil {
		t.Errorf("disarm of a watchdog that is not there: %v", err)
	}
}

// Nobody needs it: it goes away by itself.
func TestServeWatchdogIdle(t *testing.T) {
	err := ServeWatchdog(t.Context(), ServeOptions{Socket: filepath.Join(t.TempDir(), "dog.sock"), Idle: time.Millisecond})
	if err != nil {
		t.Error(err)
	}
}

func TestHardwareWatchdogWithoutDevice(t *testing.T) {
	w := HardwareWatchdog(filepath.Join(t.TempDir(), "none"))
	if err := w.Arm(10 * time.Second); err == nil {
		t.Error("a device that is not there was armed")
	}
	if err := w.Disarm(); err != nil {
		t.Errorf("disarm: %v", err)
	}
	if err := w.Arm(time.Millisecond); err == nil {
		t.Error("a bound that no hardware counts was taken")
	}
}

func TestSoftWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var killed atomic.Bool
		w := SoftWatchdog().(*softWatchdog)
		w.setKill(func() { killed.Store(true) })
		_ = w.Arm(2 * time.Second)
		time.Sleep(1900 * time.Millisecond)
		_ = w.Pet()
		time.Sleep(1900 * time.Millisecond)
		if killed.Load() {
			t.Error("it bit although it was petted")
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if !killed.Load() {
			t.Error("it did not bite")
		}
	})
}
