package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/transport"
)

// dialWithin bounds the time spent on a node that does not even accept the
// connection while there are others to try.
const dialWithin = 3 * time.Second

// Client calls the management nodes of one cluster. Not for concurrent use.
type Client struct {
	nodes   []endpoint
	found   string        // where the addresses came from, for people
	timeout time.Duration // for one call, all nodes together
	wait    time.Duration // what a long poll may take on top
	http    *http.Client
	reads   consistency
	ids     requestIDs
}

type endpoint struct {
	addr  string
	admin lifeboatv1connect.AdminServiceClient
}

// Open finds the cluster and loads the certificates. Nothing is dialled yet.
func Open(env *Env, g *Globals) (*Client, error) {
	conn, found, err := Connection(env, g)
	if err != nil {
		return nil, err
	}
	if g.Verbose {
		fmt.Fprintf(env.Stderr, "lifeboat: asking %s, %s\n", strings.Join(conn.Addrs, ", "), found)
	}
	creds, err := transport.LoadCredentials(transport.Files{Cert: conn.Cert, Key: conn.Key, CA: conn.CA}, nil)
	if err != nil {
		return nil, Usage("", "%w", err)
	}
	c := &Client{found: found, timeout: g.Timeout, reads: newConsistency(env, g), ids: requestIDs{own: g.RequestID, args: env.Args}, http: transport.NewHTTPClient(creds, transport.ClientOptions{})}
	for _, addr := range conn.Addrs {
		c.nodes = append(c.nodes, endpoint{addr, lifeboatv1connect.NewAdminServiceClient(c.http, "https://"+addr)})
	}
	return c, nil
}

// Close ends the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Patient is a client for calls that the server parks up to wait.
func (c *Client) Patient(wait time.Duration) *Client {
	p := *c
	p.wait = wait
	return &p
}

// Method is a method of the AdminService, as a method expression:
// lifeboatv1connect.AdminServiceClient.ListHosts.
type Method[Req, Res any] func(lifeboatv1connect.AdminServiceClient, context.Context, *connect.Request[Req]) (*connect.Response[Res], error)

// Read asks one node after the other until one answers or refuses. The answer has
// the consistency that the user chose.
func Read[Req, Res any](ctx context.Context, c *Client, m Method[Req, Res], req *Req) (*Res, error) {
	if err := c.reads.ask(any(req)); err != nil {
		return nil, err
	}
	res, err := call(ctx, c, m, req, sending{})
	if err != nil {
		return nil, err
	}
	return res, c.reads.check(any(res))
}

// sending is how a request is sent.
type sending struct {
	write bool   // it changes something
	id    string // its request id; "" = none
}

// call asks one node after the other. For what changes something, the next node is
// tried only as long as no node can have received the request: after that the outcome
// is the answer, or unknown (ExitUnknown).
func call[Req, Res any](ctx context.Context, c *Client, m Method[Req, Res], req *Req, s sending) (*Res, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout+c.wait)
	defer cancel()
	deadline, _ := ctx.Deadline()
	var failed failures
	for i, n := range c.nodes {
		bound := c.wait + time.Until(deadline.Add(-c.wait))/time.Duration(len(c.nodes)-i)
		a := attempt{write: s.write, addr: n.addr}
		res, err := a.run(ctx, bound, len(c.nodes)-i > 1, func(ctx context.Context) (any, error) {
			out := connect.NewRequest(req)
			if s.id != "" {
				out.Header().Set(lifeboatv1.HeaderRequestID, s.id)
			}
			return m(n.admin, ctx, out)
		})
		if err == nil {
			// The node that answered is asked first from now on.
			c.nodes[0], c.nodes[i] = c.nodes[i], c.nodes[0]
			return res.(*connect.Response[Res]).Msg, nil
		}
		cause := err
		next, err := a.judge(ctx, cause)
		if !next {
			var e *Error
			if errors.As(err, &e) && e.Exit == ExitUnknown {
				// It stops, or is dead: who repeats the request asks the others first.
				c.nodes = append(slices.Delete(c.nodes, i, i+1), n)
			}
			return nil, err
		}
		failed = append(failed, failure{n.addr, err, connect.IsWireError(cause)})
	}
	return nil, failed.err(c.found)
}

// attempt is one call to one node.
type attempt struct {
	write bool
	addr  string
	sent  atomic.Bool // the node may have received the request
	slow  atomic.Bool // given up because the next node deserves a try
}

func (a *attempt) run(ctx context.Context, bound time.Duration, more bool, do func(context.Context) (any, error)) (any, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if more {
		giveUp := func(unsentOnly bool) func() {
			return func() {
				// A write that was sent is waited for: its answer is the only
				// way to know.
				if a.sent.Load() && (unsentOnly || a.write) {
					return
				}
				a.slow.Store(true)
				cancel()
			}
		}
		defer time.AfterFunc(min(bound, dialWithin), giveUp(true)).Stop()
		defer time.AfterFunc(bound, giveUp(false)).Stop()
	}
	return do(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { a.sent.Store(true) },
	}))
}

// judge says whether the next node may be tried, and what the error means. Its
// side of the contract with the nodes: Unavailable means that nothing was done
// and nothing will be; Unknown that a write was on its way and may have been
// done, or may still be.
func (a *attempt) judge(ctx context.Context, err error) (next bool, _ error) {
	code, wire := connect.CodeOf(err), connect.IsWireError(err)
	switch {
	case handshakeRefused(err):
		return true, fmt.Errorf("it refused our certificate (%s): check that the CA of this cluster issued it", rootText(err))
	case wire && (code == connect.CodeUnavailable || code == connect.CodeUnknown && !a.write):
		return true, errors.New(message(err))
	case !wire && (!a.sent.Load() || !a.write):
		if interrupted(ctx) {
			return false, context.Cause(ctx)
		}
		if a.slow.Load() || ctx.Err() != nil {
			return true, errors.New("no answer")
		}
		return true, errors.New(rootText(err))
	case !wire:
		return false, a.unknown(ctx, rootText(err))
	}
	return false, a.answered(ctx, code, err)
}

// answered maps an error that the node sent.
func (a *attempt) answered(ctx context.Context, code connect.Code, err error) error {
	switch code {
	case connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeNotFound,
		connect.CodePermissionDenied, connect.CodeUnauthenticated, connect.CodeAlreadyExists,
		connect.CodeOutOfRange, connect.CodeResourceExhausted:
		return &Error{Exit: ExitRefused, Text: "refused: " + message(err), Err: err}
	case connect.CodeUnimplemented:
		return &Error{Exit: ExitFailed, Text: a.addr + " does not know this request: " + message(err),
			Do: "compare 'lifeboat version' with 'lifeboat node list' and use the same version", Err: err}
	}
	if a.write {
		return a.unknown(ctx, message(err))
	}
	if code == connect.CodeDeadlineExceeded || code == connect.CodeCanceled || code == connect.CodeAborted {
		return &Error{Exit: ExitUnreachable, Text: a.addr + " gave no answer in time: " + message(err),
			Do: "ask again, or ask for what this node knows with --stale", Err: err}
	}
	return &Error{Exit: ExitFailed, Text: a.addr + " failed: " + message(err), Do: "see the log of that node", Err: err}
}

func (a *attempt) unknown(ctx context.Context, why string) error {
	switch {
	case interrupted(ctx):
		why = context.Cause(ctx).Error()
	case ctx.Err() != nil:
		why = "no answer in time"
	}
	return &Error{Exit: ExitUnknown, Text: fmt.Sprintf("outcome unknown: the request was sent to %s, then: %s", a.addr, why),
		Do: "look before you repeat it ('lifeboat event list' shows what was done)"}
}

type failure struct {
	addr string
	err  error
	said bool // by the node itself
}

type failures []failure

func (f failures) err(found string) error {
	if len(f) == 0 {
		return Usage("set --addr", "no cluster to talk to: the list of addresses is empty")
	}
	parts := make([]string, len(f))
	for i, one := range f {
		parts[i] = one.addr + ": " + one.err.Error()
	}
	err := &Error{Exit: ExitUnreachable, Text: "cannot reach the cluster: " + strings.Join(parts, "; "),
		Do: "check that a majority of the nodes runs, and that these are the addresses (" + found + ")", Err: f[0].err}
	if slices.ContainsFunc(f, func(x failure) bool { return x.said }) {
		err.Err = &leaderless{err.Err}
	}
	return err
}

// handshakeRefused: the node ended the TLS handshake. With TLS 1.3 the client
// learns that only after it has sent its request, which the node never read.
func handshakeRefused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// rootText is the innermost error that still says something: the layers of
// net/http around it name only the URL.
func rootText(err error) string {
	var sys *net.OpError
	if errors.As(err, &sys) && sys.Err != nil {
		return lastOf(sys.Err).Error()
	}
	return message(err)
}

func lastOf(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// message is the text of a Connect error without its code.
func message(err error) string {
	var ce *connect.Error
	if errors.As(err, &ce) && ce.Message() != "" {
		return ce.Message()
	}
	return err.Error()
}
