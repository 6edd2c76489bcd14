package agent

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat/agent/session"
)

// listener is a supervisor that notes what it was told, and when.
type listener struct {
	mu     sync.Mutex
	ready  bool
	stops  bool
	status string
	last   time.Time // of Alive
	until  time.Time // of Extend; zero = it was not called
}

func (l *listener) Every() time.Duration { return 2 * time.Second }
func (l *listener) Ready()               { l.mu.Lock(); defer l.mu.Unlock(); l.ready = true }
func (l *listener) Stopping()            { l.mu.Lock(); defer l.mu.Unlock(); l.stops = true }

func (l *listener) Extend(by time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = time.Now().Add(by)
}

func (l *listener) Alive(status string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, l.status = time.Now(), status
}

func (l *listener) says() (ready, stops bool, status string, ago time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ready, l.stops, l.status, time.Since(l.last)
}

// hangingDog is a watchdog whose driver hangs, and with it the agent's loop.
type hangingDog struct {
	*testDog
	mu   sync.Mutex
	hang chan struct{}
}

func (d *hangingDog) Pet() error {
	d.mu.Lock()
	hang := d.hang
	d.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return d.testDog.Pet()
}

// The agent is well while its loop turns, whether or not a manager answers, and
// says nothing while it hangs.
func TestPulseFollowsTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ear, dog := &listener{}, &hangingDog{testDog: r.dog}
		r.cfg.Supervisor, r.cfg.Watchdog = ear, dog
		r.m.lease = 10 * time.Second
		for _, m := range r.cfg.Managers {
			r.m.down[m] = true
		}
		r.run()
		time.Sleep(10 * time.Second)
		if ready, stops, status, ago := ear.says(); !ready || stops || status != "no manager answers" || ago > 2*time.Second {
			t.Errorf("without managers: ready %v, stopping %v, status %q, %s ago", ready, stops, status, ago)
		}
		r.m.change(func() { clear(r.m.down) })
		r.eventually(20*time.Second, "it reports", func() bool { _, _, status, _ := ear.says(); return status != "no manager answers" })
		r.eventually(20*time.Second, "the watchdog is petted", func() bool { return r.dog.petted() > 2 })
		dog.mu.Lock()
		dog.hang = make(chan struct{})
		dog.mu.Unlock()
		time.Sleep(10 * time.Second)
		if _, _, _, ago := ear.says(); ago < 6*time.Second {
			t.Errorf("its loop hangs, and %s ago it said that it is well", ago)
		}
		dog.mu.Lock()
		close(dog.hang)
		dog.hang = nil
		dog.mu.Unlock()
		r.eventually(5*time.Second, "it is well again", func() bool { _, _, _, ago := ear.says(); return ago < time.Second })
		if err := r.halt(); err != nil {
			t.Error(err)
		}
		if _, stops, _, _ := ear.says(); !stops {
			t.Error("nobody was told of the stop")
		}
	})
}

// An agent that holds up its machine asks for more time as long as it does, and not longer.
func TestWhoHoldsUpTheMachineAsksForTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ear := &listener{}
		r.cfg.Supervisor = ear
		r.cfg.MachineStopping = func(context.Context) bool { return true }
		r.run()
		r.eventually(3*time.Second, "registered", r.registered)
		r.m.start(vmID(1), "vm1", vmXML(t, 1), 8)
		r.eventually(3*time.Second, "vm1 is on", r.power(vmID(1), on))
		r.m.change(func() { r.m.emptyFirst = true })
		time.Sleep(5 * time.Second)
		until := func() time.Time { ear.mu.Lock(); defer ear.mu.Unlock(); return ear.until }
		if u := until(); !u.IsZero() {
			t.Fatalf("it asks for time until %s before it is told to stop", u)
		}
		began := time.Now()
		r.stop()
		time.Sleep(ear.Every() + 10*time.Millisecond)
		for time.Since(began) < 5*time.Minute {
			if left := time.Until(until()); left < session.StopTimeout {
				t.Fatalf("%s after the stop began there are %s left", time.Since(began), left)
			}
			time.Sleep(time.Second)
		}
		if err := r.host.Kill(vmID(1)); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-r.done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("nothing runs there any more, and it does not stop")
		}
		if u := time.Until(until()); u > session.StopTimeout+2*ear.Every() {
			t.Errorf("it had asked for %s more", u)
		}
	})
}
