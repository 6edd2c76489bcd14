package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Options of Run.
type Options struct {
	Log hclog.Logger
	// Hurry, once closed, leaves Hurried to each component that still has to
	// stop; nil = nobody is ever in a hurry.
	Hurry <-chan struct{}
	// Ready is called when all components run; may be nil.
	Ready func()
}

// Run starts the components in order, waits until ctx ends or one of them fails,
// and stops those that were started in the reverse order. It returns what failed
// first, joined with a *StopError of each component that did not stop well; nil
// when ctx ended and all of them did. It blocks for the sum of the deadlines at
// most.
func Run(ctx context.Context, components []Component, opts Options) error {
	p := &process{opts: opts, log: opts.Log, failed: make(chan error, len(components))}
	why := p.start(ctx, components)
	if why == nil && ctx.Err() == nil {
		p.log.Info("all components are started", "started", len(p.up))
		if opts.Ready != nil {
			opts.Ready()
		}
		select {
		case <-ctx.Done():
		case why = <-p.failed:
		}
	}
	return errors.Join(append([]error{why}, p.stop(ctx, why)...)...)
}

type process struct {
	opts   Options
	log    hclog.Logger
	up     []*running // in the order of their start
	failed chan error // capacity: one of each component
}

// start starts components until one fails or ctx ends.
func (p *process) start(ctx context.Context, components []Component) error {
	for _, c := range components {
		if ctx.Err() != nil {
			return nil
		}
		began := time.Now()
		if err := p.startOne(ctx, c); err != nil {
			p.logFailure("a component failed to start", c.Name, err)
			return fmt.Errorf("start %s: %w", c.Name, err)
		}
		p.log.Debug("component started", "component", c.Name, "took", time.Since(began).Round(time.Millisecond))
	}
	return nil
}

func (p *process) startOne(ctx context.Context, c Component) error {
	if c.Start != nil {
		done := make(chan error, 1)
		go func() { done <- guard(func() error { return c.Start(ctx) }) }()
		if err := p.patiently(ctx, done, c.within()); err != nil {
			return err
		}
	}
	run, end := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{Component: c, end: end, over: make(chan struct{})}
	p.up = append(p.up, r)
	if c.Run == nil {
		close(r.over)
		return nil
	}
	go func() {
		defer close(r.over)
		if r.err = guard(func() error { return c.Run(run) }); r.err != nil && run.Err() == nil {
			p.logFailure("a component failed", c.Name, r.err)
			p.failed <- fmt.Errorf("%s: %w", c.Name, r.err)
			r.err = nil // told
		}
	}()
	return nil
}

// patiently waits for a start for as long as it takes, which can be long; but not
// for longer than its stop might take, once ctx has ended.
func (p *process) patiently(ctx context.Context, done <-chan error, most time.Duration) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	hurry := p.opts.Hurry
	for {
		select {
		case err := <-done:
			return err
		case <-hurry:
			hurry = nil
			timer.Reset(min(most, Hurried))
		case <-timer.C:
			return errors.New("it was asked to stop before it had started, and is left behind")
		}
	}
}

// stop stops what is up, the last first.
func (p *process) stop(ctx context.Context, why error) (failures []error) {
	var most time.Duration
	for _, r := range p.up {
		most += r.within()
	}
	reason := "asked to"
	if why != nil {
		reason = why.Error()
	}
	p.log.Info("stopping", "components", len(p.up), "reason", reason, "at_most", most)
	var said []string
	for i := len(p.up) - 1; i >= 0; i-- {
		r, began := p.up[i], time.Now()
		err := p.stopOne(context.WithoutCancel(ctx), r, why)
		took := time.Since(began).Round(time.Millisecond)
		if err == nil {
			p.log.Info("component stopped", "component", r.Name, "took", took)
			continue
		}
		p.logFailure("a component did not stop well; going on with the next", r.Name, err)
		failures = append(failures, &StopError{Component: r.Name, Err: err})
		said = append(said, r.Name+": "+err.Error())
	}
	if len(failures) == 0 {
		p.log.Info("stopped", "started", len(p.up), "stopped", len(p.up))
	} else {
		p.log.Error("stopped, but not all of it well", "started", len(p.up), "stopped", len(p.up)-len(failures), "failed", strings.Join(said, "; "))
	}
	return failures
}

// stopOne ends one component, within its deadline and a grace.
func (p *process) stopOne(ctx context.Context, r *running, why error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer r.end()
	done := make(chan error, 1)
	go func() {
		var err error
		if r.Stop != nil {
			err = guard(func() error { return r.Stop(ctx, why) })
		}
		r.end()
		<-r.over
		done <- errors.Join(err, r.err)
	}()
	most := r.within()
	if p.hurried() {
		most = min(most, Hurried)
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	hurry := p.opts.Hurry
	if p.hurried() {
		hurry = nil
	}
	for last := false; ; {
		select {
		case err := <-done:
			return err
		case <-hurry:
			hurry = nil
			if !last {
				timer.Reset(min(most, Hurried))
			}
		case <-timer.C:
			if last {
				return fmt.Errorf("%w (it had %s)", ErrHangs, most)
			}
			last = true
			cancel()
			r.end()
			timer.Reset(grace)
		}
	}
}

func (p *process) hurried() bool {
	select {
	case <-p.opts.Hurry:
		return true
	default:
		return false
	}
}

func (c *Component) within() time.Duration {
	if c.Within == 0 {
		return DefaultWithin
	}
	return c.Within
}

func (p *process) logFailure(message, component string, err error) {
	args := []any{"component", component, "reason", err}
	var panicked *PanicError
	if errors.As(err, &panicked) {
		args = append(args, "stack", string(panicked.Stack))
	}
	p.log.Error(message, args...)
}
