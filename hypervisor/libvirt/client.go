package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"lifeboat/hypervisor"
)

// client is one connection with its go-libvirt object. Neither is used again
// after the connection is lost.
type client struct {
	conn   *conn
	lv     *golibvirt.Libvirt
	forget func()
}

// dialled hands go-libvirt the connection that exists already.
type dialled struct{ c net.Conn }

func (d dialled) Dial() (net.Conn, error) { return d.c, nil }

// connect dials and opens within limit.
func (d *Driver) connect(ctx context.Context, limit time.Duration) (*client, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	c, err := d.at.dial(ctx, d.opts.TLS)
	if err != nil {
		return nil, causeOf(ctx, err)
	}
	cl := &client{conn: c, lv: golibvirt.NewWithDialer(dialled{c})}
	cl.forget = func() { d.track(cl, false) }
	if !d.track(cl, true) {
		cl.abort()
		return nil, errClosed
	}
	stop := context.AfterFunc(ctx, cl.abort)
	defer stop()
	if err := cl.lv.ConnectToURI(golibvirt.ConnectURI(d.at.name)); err != nil {
		cl.abort()
		return nil, causeOf(ctx, err)
	}
	return cl, nil
}

// abort ends everything that waits on the connection.
func (c *client) abort() {
	c.conn.Close()
	c.forget()
}

// close says goodbye first, so that the daemon does not log an error, and does
// not wait for it longer than a moment.
func (c *client) close() {
	bye := time.AfterFunc(time.Second, c.abort)
	defer bye.Stop()
	if c.alive() {
		_, _ = ask(context.Background(), c, time.Second, func(lv *golibvirt.Libvirt) (struct{}, error) { return struct{}{}, lv.ConnectClose() })
	}
	c.abort()
}

func (c *client) alive() bool {
	select {
	case <-c.conn.lost:
		return false
	default:
		return true
	}
}

// errLost is a call whose answer never came. What it means depends on whether
// the call could change anything.
type errLost struct{ cause error }

func (e *errLost) Error() string { return e.cause.Error() }
func (e *errLost) Unwrap() error { return e.cause }

// ask makes one call and returns no later than limit, or the end of ctx. It
// returns libvirt's own error as golibvirt.Error and everything else as
// *errLost; after the latter the client is dead.
func ask[T any](ctx context.Context, c *client, limit time.Duration, call func(*golibvirt.Libvirt) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	stop := context.AfterFunc(ctx, c.abort)
	defer stop()
	v, err := call(c.lv)
	if err == nil {
		return v, nil
	}
	var said golibvirt.Error
	if errors.As(err, &said) {
		return v, said
	}
	c.abort()
	return v, &errLost{causeOf(ctx, err)}
}

// causeOf prefers the reason why we gave up to what that looked like from
// below.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if errors.Is(err, golibvirt.ErrInterrupted) {
		return errors.New("the connection was lost")
	}
	return err
}

// lane is a connection for a series of calls of one purpose. It is dialled
// when it is first needed, and again after it was lost. Not for concurrent use.
type lane struct {
	d  *Driver
	cl *client
	// ordered: something that changes the world was sent. From then on even a
	// question without an answer leaves the outcome unknown.
	ordered bool
}

func (l *lane) client(ctx context.Context) (*client, error) {
	if l.cl != nil && l.cl.alive() {
		return l.cl, nil
	}
	if _, err := l.d.session(ctx); err != nil {
		return nil, err
	}
	cl, err := l.d.connect(ctx, l.d.opts.DialTimeout)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", hypervisor.ErrUnavailable, err)
	}
	l.cl = cl
	return cl, nil
}

func (l *lane) close() {
	if l.cl != nil {
		l.cl.close()
		l.cl = nil
	}
}

// read asks something that changes nothing.
func read[T any](ctx context.Context, l *lane, call func(*golibvirt.Libvirt) (T, error)) (T, error) {
	return on(ctx, l, l.d.opts.CallTimeout, hypervisor.ErrUnavailable, call)
}

// probe is read for questions that libvirt may have to ask qemu first.
func probe[T any](ctx context.Context, l *lane, call func(*golibvirt.Libvirt) (T, error)) (T, error) {
	return on(ctx, l, l.d.opts.ProbeTimeout, hypervisor.ErrUnavailable, call)
}

// order asks for a change. Without an answer it may or may not have happened.
func order(ctx context.Context, l *lane, limit time.Duration, call func(*golibvirt.Libvirt) error) error {
	_, err := on(ctx, l, limit, hypervisor.ErrUnknownOutcome, func(lv *golibvirt.Libvirt) (struct{}, error) { return struct{}{}, call(lv) })
	return err
}

func on[T any](ctx context.Context, l *lane, limit time.Duration, lost error, call func(*golibvirt.Libvirt) (T, error)) (v T, err error) {
	cl, err := l.client(ctx)
	if err != nil {
		if l.ordered {
			err = fmt.Errorf("%w: %v", hypervisor.ErrUnknownOutcome, err) // not ErrUnavailable: something was sent before
		}
		return v, err
	}
	if l.ordered = l.ordered || lost == hypervisor.ErrUnknownOutcome; l.ordered {
		lost = hypervisor.ErrUnknownOutcome
	}
	v, err = ask(ctx, cl, limit, call)
	return v, translate(err, lost)
}

// translate turns a failed call into the errors of package hypervisor.
func translate(err, lost error) error {
	var gone *errLost
	var said golibvirt.Error
	switch {
	case errors.As(err, &gone):
		return fmt.Errorf("%w: %w", lost, gone.cause)
	case errors.As(err, &said) && said.Code == uint32(golibvirt.ErrNoDomain):
		return hypervisor.ErrNotFound
	}
	return err
}

// saidAny reports whether libvirt answered with one of the codes.
func saidAny(err error, codes ...golibvirt.ErrorNumber) bool {
	var said golibvirt.Error
	if errors.As(err, &said) {
		for _, c := range codes {
			if said.Code == uint32(c) {
				return true
			}
		}
	}
	return false
}

// unsupported reports whether this driver or version of libvirt does not know
// the call or a flag of it.
func unsupported(err error) bool {
	return saidAny(err, golibvirt.ErrNoSupport, golibvirt.ErrArgumentUnsupported, golibvirt.ErrOperationUnsupported, golibvirt.ErrInvalidArg)
}
