package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
)

// Show prints what fetch reads, once or, with --watch, again and again until ctx
// ends, which is then no error. A watch that has begun survives errors, since it
// is there to be looked at while things fail.
func Show[M proto.Message](ctx context.Context, env *Env, g *Globals, flags ReadFlags,
	fetch func(context.Context, *Client) (M, error), text func(*View, M)) error {
	c, err := Open(env, g)
	if err != nil {
		return err
	}
	defer c.Close()
	if !flags.Watch {
		m, err := fetch(ctx, c)
		if err != nil {
			return err
		}
		return Print(env, g, m, text)
	}
	w := watcher{env: env, redraw: env.Terminal && !g.Output.machine(), heads: !g.Output.machine()}
	for shown := 0; ; shown++ {
		m, err := fetch(ctx, c)
		switch {
		case ctx.Err() != nil:
			return endOfWatch(ctx)
		case err != nil && (shown == 0 || !passing(err)):
			return err
		case err != nil:
			err = w.trouble(err)
		default:
			var f frame
			if f, err = draw(env, g.Output, m, text, true); err == nil {
				err = w.show(f)
			}
		}
		if err != nil {
			return err
		}
		if !sleep(ctx, env.WatchEvery) {
			return endOfWatch(ctx)
		}
	}
}

// Follow runs step again and again until ctx ends, which is then no error. step
// is told whether it is not the first; it blocks while there is nothing new. A
// cluster that cannot be reached later on is waited for.
func Follow(ctx context.Context, env *Env, c *Client, step func(ctx context.Context, c *Client, again bool) error) error {
	w := watcher{env: env}
	said := false
	for again := false; ; again = true {
		err := step(ctx, c, again)
		switch {
		case ctx.Err() != nil:
			return endOfWatch(ctx)
		case err == nil:
			said = false
			continue
		case !again || !passing(err):
			return err
		}
		// Once per outage: whoever follows reads the stream later.
		if !said {
			if err := w.trouble(err); err != nil {
				return err
			}
		}
		said = true
		if !sleep(ctx, env.WatchEvery) {
			return endOfWatch(ctx)
		}
	}
}

// endOfWatch: a signal is how a watch is meant to end.
func endOfWatch(ctx context.Context) error {
	if interrupted(ctx) {
		return nil
	}
	return context.Cause(ctx)
}

// passing reports whether a watch may outlive err: the cluster may come back,
// a refusal stays.
func passing(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Exit == ExitUnreachable || e.Exit == ExitFailed)
}

type watcher struct {
	env    *Env
	redraw bool
	heads  bool // each frame begins with the time
}

// Home, then erase below: erasing first would make the screen flicker.
const (
	cursorHome = "\x1b[H"
	eraseLine  = "\x1b[K"
	eraseBelow = "\x1b[J"
)

func (w *watcher) show(f frame) error {
	head := w.env.Now().UTC().Format(time.RFC3339)
	if w.redraw {
		body := append([]byte(head+"  (Ctrl-C ends)\n"), f.out...)
		if f.note != "" {
			body = append(append(body, f.note...), '\n')
		}
		return w.paint(body)
	}
	if w.heads {
		if _, err := fmt.Fprintf(w.env.Stdout, "%s\n", head); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	return f.write(w.env)
}

func (w *watcher) paint(body []byte) error {
	screen := []byte(cursorHome)
	for _, b := range body {
		if b == '\n' {
			screen = append(screen, eraseLine...)
		}
		screen = append(screen, b)
	}
	if _, err := w.env.Stdout.Write(append(screen, eraseBelow...)); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// trouble tells of an error and keeps what was shown last.
func (w *watcher) trouble(err error) error {
	line := fmt.Sprintf("%s  %v (trying again)", w.env.Now().UTC().Format(time.RFC3339), err)
	if w.redraw {
		_, werr := fmt.Fprint(w.env.Stdout, cursorHome+line+eraseLine+"\n")
		return werr
	}
	fmt.Fprintln(w.env.Stderr, line)
	return nil
}
