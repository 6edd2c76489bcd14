package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// tape is what happened, in order.
type tape struct {
	mu   sync.Mutex
	said []string
	log  bytes.Buffer
	free chan struct{} // ends what hangs, so that the bubble can end
}

func newTape(t *testing.T) *tape {
	x := &tape{free: make(chan struct{})}
	t.Cleanup(func() { t.Log(x.text()) })
	return x
}

func (x *tape) say(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.said = append(x.said, fmt.Sprintf(format, args...))
}

// Write takes the log.
func (x *tape) Write(b []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.log.Write(b)
}

func (x *tape) text() string { x.mu.Lock(); defer x.mu.Unlock(); return x.log.String() }

func (x *tape) options() Options {
	return Options{Log: hclog.New(&hclog.LoggerOptions{Output: x, Level: hclog.Debug, DisableTime: true})}
}

// lastLine is the last line of the log.
func (x *tape) lastLine() string {
	lines := strings.Split(strings.TrimSpace(x.text()), "\n")
	return lines[len(lines)-1]
}

// well is a component that does as it should.
func (x *tape) well(name string) Component {
	return Component{Name: name, Within: time.Second,
		Start: func(context.Context) error { x.say("start %s", name); return nil },
		Run:   func(ctx context.Context) error { <-ctx.Done(); x.say("end %s", name); return nil },
		Stop:  func(context.Context, error) error { x.say("stop %s", name); return nil }}
}

func (x *tape) four() []Component {
	var out []Component
	for _, name := range []string{"a", "b", "c", "d"} {
		out = append(out, x.well(name))
	}
	return out
}

// expect compares what happened, in order.
func (x *tape) expect(t *testing.T, want ...string) {
	t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	if !slices.Equal(x.said, want) {
		t.Errorf("it went\n%v, want\n%v", x.said, want)
	}
}

// soon is a context that ends after a second.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTape(t)
		opts := x.options()
		opts.Ready = func() { x.say("ready") }
		if err := Run(soon(t), x.four(), opts); err != nil {
			t.Error(err)
		}
		x.expect(t, "start a", "start b", "start c", "start d", "ready", "stop d", "end d", "stop c", "end c", "stop b", "end b", "stop a", "end a")
		if last := x.lastLine(); !strings.Contains(last, "started=4 stopped=4") {
			t.Errorf("the last line is %q", last)
		}
	})
}

// Whatever one component does when it is to stop, at any place: all others are
// stopped, in order, in time, and the end of the log says which failed and why.
func TestOneFails(t *testing.T) {
	wrong := errors.New("the disk is full")
	ways := map[string]struct {
		stop   func(*tape) func(context.Context, error) error
		run    func(*tape) func(context.Context) error
		took   time.Duration
		reason string
		ended  bool // its Run is ended all the same
	}{
		"error": {reason: wrong.Error(), ended: true,
			stop: func(*tape) func(context.Context, error) error {
				return func(context.Context, error) error { return wrong }
			}},
		"panic": {reason: "panic: oops", ended: true,
			stop: func(*tape) func(context.Context, error) error {
				return func(context.Context, error) error { panic("oops") }
			}},
		"hang": {reason: ErrHangs.Error(), ended: true, took: time.Second + grace,
			stop: func(x *tape) func(context.Context, error) error {
				return func(context.Context, error) error { <-x.free; return nil }
			}},
		"slow, but it looks at its context": {reason: context.Canceled.Error(), ended: true, took: time.Second,
			stop: func(*tape) func(context.Context, error) error {
				return func(ctx context.Context, _ error) error { <-ctx.Done(); return ctx.Err() }
			}},
		"its goroutine hangs": {reason: ErrHangs.Error(), took: time.Second + grace,
			run: func(x *tape) func(context.Context) error {
				return func(context.Context) error { <-x.free; return nil }
			}},
		"its goroutine panics at the end": {reason: "panic: late",
			run: func(*tape) func(context.Context) error {
				return func(ctx context.Context) error { <-ctx.Done(); panic("late") }
			}},
	}
	names := []string{"a", "b", "c", "d"}
	for name, way := range ways {
		for at := range names {
			t.Run(fmt.Sprintf("%s/%s", name, names[at]), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					x := newTape(t)
					defer close(x.free)
					parts := x.four()
					if way.stop != nil {
						parts[at].Stop = way.stop(x)
					}
					if way.run != nil {
						parts[at].Run = way.run(x)
					}
					begin := time.Now()
					err := Run(soon(t), parts, x.options())
					if took := time.Since(begin) - time.Second; took != way.took {
						t.Errorf("it took %s, want %s", took, way.took)
					}
					var failed *StopError
					if !errors.As(err, &failed) || failed.Component != names[at] || !strings.Contains(err.Error(), way.reason) {
						t.Errorf("it says %v", err)
					}
					want := []string{"start a", "start b", "start c", "start d"}
					for i := len(names) - 1; i >= 0; i-- {
						if i != at || way.stop == nil {
							want = append(want, "stop "+names[i])
						}
						if i != at || way.run == nil && way.ended {
							want = append(want, "end "+names[i])
						}
					}
					x.expect(t, want...)
					if last := x.lastLine(); !strings.Contains(last, "started=4 stopped=3") || !strings.Contains(last, names[at]+": ") || !strings.Contains(last, way.reason) {
						t.Errorf("the last line is %q", last)
					}
				})
			})
		}
	}
}

// All of them fail, each in its way: each is still asked.
func TestAllFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTape(t)
		defer close(x.free)
		parts := x.four()
		parts[0].Stop = func(context.Context, error) error { x.say("stop a"); panic(errors.New("a")) }
		parts[1].Stop = func(context.Context, error) error { x.say("stop b"); <-x.free; return nil }
		parts[2].Stop = func(context.Context, error) error { x.say("stop c"); return errors.New("c") }
		parts[3].Stop = func(context.Context, error) error { x.say("stop d"); panic("d") }
		err := Run(soon(t), parts, x.options())
		x.expect(t, "start a", "start b", "start c", "start d", "stop d", "end d", "stop c", "end c", "stop b", "end b", "stop a", "end a")
		if last := x.lastLine(); !strings.Contains(last, "started=4 stopped=0") || strings.Count(err.Error(), "\n") != 3 {
			t.Errorf("the last line is %q, the error %v", last, err)
		}
	})
}

// What was started before a start that fails is stopped, and nothing else.
func TestStartFails(t *testing.T) {
	wrong := errors.New("the port is taken")
	for name, start := range map[string]func(context.Context) error{
		"error": func(context.Context) error { return wrong },
		"panic": func(context.Context) error { panic(wrong) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTape(t)
				parts := x.four()
				parts[2].Start = start
				err := Run(t.Context(), parts, x.options())
				if err == nil || !strings.Contains(err.Error(), "start c: ") || !strings.Contains(err.Error(), wrong.Error()) {
					t.Errorf("it says %v", err)
				}
				x.expect(t, "start a", "start b", "stop b", "end b", "stop a", "end a")
				if last := x.lastLine(); !strings.Contains(last, "started=2 stopped=2") {
					t.Errorf("the last line is %q", last)
				}
			})
		})
	}
}

// A start that hangs does not keep a process from ending.
func TestStartHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTape(t)
		defer close(x.free)
		parts := x.four()
		parts[2].Start = func(context.Context) error { <-x.free; return nil }
		begin := time.Now()
		err := Run(soon(t), parts, x.options())
		if err == nil || time.Since(begin) != 2*time.Second {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		x.expect(t, "start a", "start b", "stop b", "end b", "stop a", "end a")
	})
}

// A component that fails while it runs ends all of them, and they know why.
func TestRunFails(t *testing.T) {
	wrong := errors.New("the disk is gone")
	for name, run := range map[string]func(context.Context) error{
		"error": func(context.Context) error { time.Sleep(time.Minute); return wrong },
		"panic": func(context.Context) error { time.Sleep(time.Minute); panic(wrong) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTape(t)
				parts := x.four()
				parts[1].Run = run
				var told error
				parts[3].Stop = func(_ context.Context, why error) error { told = why; return nil }
				err := Run(t.Context(), parts, x.options())
				if err == nil || told == nil || !strings.Contains(err.Error(), "b: ") || !strings.Contains(told.Error(), wrong.Error()) {
					t.Errorf("it says %v, the last component was told %v", err, told)
				}
				if last := x.lastLine(); !strings.Contains(last, "started=4 stopped=4") {
					t.Errorf("the last line is %q", last)
				}
			})
		})
	}
}

// A goroutine that is done before the end ends nothing.
func TestRunIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTape(t)
		parts := x.four()
		parts[1].Run = func(context.Context) error { return nil }
		begin := time.Now()
		if err := Run(soon(t), parts, x.options()); err != nil || time.Since(begin) != time.Second {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
	})
}

// A second signal shortens what is left, and still everything is asked to stop.
func TestHurry(t *testing.T) {
	for name, after := range map[string]time.Duration{"before the first": 0, "while one hangs": 1100 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newTape(t)
				defer close(x.free)
				hurry := make(chan struct{})
				opts := x.options()
				opts.Hurry = hurry
				parts := x.four()
				for i := range parts {
					parts[i].Within = time.Hour
				}
				for _, i := range []int{1, 3} {
					parts[i].Stop = func(context.Context, error) error { x.say("stop %s", parts[i].Name); <-x.free; return nil }
				}
				time.AfterFunc(after, func() { close(hurry) })
				begin := time.Now()
				err := Run(soon(t), parts, opts)
				if took := time.Since(begin); err == nil || took > 1100*time.Millisecond+2*(Hurried+grace) {
					t.Errorf("after %s: %v", took, err)
				}
				x.expect(t, "start a", "start b", "start c", "start d", "stop d", "end d", "stop c", "end c", "stop b", "end b", "stop a", "end a")
				if last := x.lastLine(); !strings.Contains(last, "started=4 stopped=2") {
					t.Errorf("the last line is %q", last)
				}
			})
		})
	}
}
