package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
)

const (
	// levelRequests is the feature level from which on a cluster remembers requests.
	levelRequests = 3
	// The pause before a write is repeated doubles from repeatSoon to repeatEvery: a
	// leader that stops in order has a successor within some 20 ms.
	repeatSoon  = 10 * time.Millisecond
	repeatEvery = 40 * time.Millisecond
)

// pauses are those between tries of one write.
type pauses struct{ last time.Duration }

// next waits; false when ctx ended first.
func (p *pauses) next(ctx context.Context) bool {
	p.last = min(max(2*p.last, repeatSoon), repeatEvery)
	return sleep(ctx, p.last)
}

// requestIDs gives each write of an invocation its id.
type requestIDs struct {
	own    string // what the user gave
	args   []string
	given  int
	honors bool // the cluster is known to remember requests
}

func (r *requestIDs) next() string {
	r.given++
	switch {
	case r.own == "":
		b := make([]byte, 12)
		_, _ = rand.Read(b) // never fails
		return hex.EncodeToString(b)
	case r.given > 1:
		return fmt.Sprintf("%s-%d", r.own, r.given)
	}
	return r.own
}

// leaderless: a node said itself that it cannot serve at the moment.
type leaderless struct{ error }

func (e *leaderless) Unwrap() error { return e.error }

// Write sends what changes something, under a request id. While no node leads, and
// when the outcome is not known and the cluster remembers requests, it is sent again
// with the same id until the client's timeout is over. Then the outcome stays
// unknown (ExitUnknown), and the error says how to ask again without harm.
func Write[Req, Res any](ctx context.Context, c *Client, m Method[Req, Res], req *Req) (*Res, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout+c.wait)
	defer cancel()
	id := c.ids.next()
	var unknown *Error // of an earlier try
	var last error
	var wait pauses
	for {
		res, err := call(ctx, c, m, req, sending{write: true, id: id})
		var e *Error
		var silent *leaderless
		switch {
		case err == nil:
			return res, nil
		case !errors.As(err, &e):
			if unknown == nil {
				return nil, err // interrupted before anything was sent
			}
		case id != "" && connect.CodeOf(e.Err) == connect.CodeUnimplemented && e.Exit == ExitFailed && unknown == nil:
			if c.ids.own != "" {
				return nil, &Error{Exit: ExitRefused, Text: "refused: " + message(e.Err), Err: e.Err}
			}
			id = "" // from here on it is not repeated
			continue
		case e.Exit == ExitUnknown:
			unknown = e
		case e.Exit != ExitUnreachable && unknown == nil:
			return nil, err
		case e.Exit != ExitUnreachable && connect.CodeOf(e.Err) != connect.CodeUnimplemented:
			return nil, err // a cluster that remembers has judged it
		default:
			last = err
			if !errors.As(err, &silent) && unknown == nil {
				return nil, err
			}
		}
		if id == "" || ctx.Err() != nil || !c.mayRepeat(ctx, unknown != nil) || !wait.next(ctx) {
			break
		}
	}
	if unknown != nil {
		return nil, c.ids.hint(unknown, id)
	}
	return nil, last
}

// WriteOnce sends what the cluster cannot remember: the outcome is the answer, or
// unknown. It is never sent twice.
func WriteOnce[Req, Res any](ctx context.Context, c *Client, m Method[Req, Res], req *Req) (*Res, error) {
	return call(ctx, c, m, req, sending{write: true, id: c.ids.own})
}

// WriteLed is WriteOnce that waits for a leader, until the client's timeout is over:
// while nobody leads nothing is done, so it may be sent again.
func WriteLed[Req, Res any](ctx context.Context, c *Client, m Method[Req, Res], req *Req) (*Res, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	for {
		res, err := WriteOnce(ctx, c, m, req)
		var e *Error
		var silent *leaderless
		if err == nil || !errors.As(err, &e) || e.Exit != ExitUnreachable || !errors.As(err, &silent) || !sleep(ctx, repeatEvery) {
			return res, err
		}
	}
}

// mayRepeat waits until it is known whether the cluster does once what is sent
// twice; an older one passes over the id. What was never done may be sent anyway.
func (c *Client) mayRepeat(ctx context.Context, sent bool) bool {
	var wait pauses
	for sent && !c.ids.honors {
		s, err := call(ctx, c, lifeboatv1connect.AdminServiceClient.Status, &lifeboatv1.StatusRequest{}, sending{})
		var e *Error
		switch {
		case err == nil && s.FeatureLevel < levelRequests:
			return false
		case err == nil:
			c.ids.honors = true
		case !errors.As(err, &e) || e.Exit != ExitUnreachable || !wait.next(ctx):
			return false
		}
	}
	return true
}

// hint says how to repeat a write whose outcome is not known.
func (r *requestIDs) hint(e *Error, id string) error {
	if id == "" || len(r.args) == 0 {
		return e
	}
	words := make([]string, 0, len(r.args)+3)
	words = append(words, "lifeboat")
	for _, a := range r.args {
		words = append(words, shellWord(a))
	}
	if r.own == "" {
		words = append(words, "--request-id", id)
	}
	hinted := *e
	hinted.Do = "repeat it without harm: " + strings.Join(words, " ")
	if !r.honors {
		hinted.Do = e.Do + "; where the cluster's feature level is 3 or more, this repeats it without harm: " + strings.Join(words, " ")
	}
	return &hinted
}

// shellWord makes one word of a shell of a text.
func shellWord(s string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_=./:,@%+", c)
	}
	if s != "" && strings.IndexFunc(s, func(c rune) bool { return !plain(c) }) < 0 {
		return s
	}
	return quote(s)
}
