package libvirt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/hashicorp/go-hclog"

	"lifeboat/hypervisor"
)

// Options of a driver. The zero value is right for a libvirtd on this machine.
type Options struct {
	Logger hclog.Logger // nil: silent
	// SharedDirs are directories that the operator declares to hold the same
	// files on every host that declares them too.
	SharedDirs []string
	// MigrateURI is where other hosts' libvirt reaches this one, for example
	// qemu+tls://h2.example/system; empty: qemu+tls to this machine's own name.
	MigrateURI string
	// MigrateUnsafe lets domains migrate although libvirt cannot see that their disks
	// are shared, or takes their cache mode for unsafe.
	MigrateUnsafe bool
	TLS           *tls.Config // for tls addresses; nil: the files libvirt's own clients use

	DialTimeout time.Duration // one connection; 0: 5 s
	CallTimeout time.Duration // one call that is not named below; 0: 5 s
	BulkTimeout time.Duration // the bulk statistics, before the slower way is taken; 0: 1 s
	// ProbeTimeout is for calls before which libvirt may have to ask qemu what it
	// can do, which takes seconds after an upgrade: define, capabilities. 0: 30 s.
	ProbeTimeout     time.Duration
	InventoryTimeout time.Duration // the whole inventory; what was not read by then is a problem. 0: 2 min
	StartTimeout     time.Duration // creating a domain; 0: 90 s
	DestroyTimeout   time.Duration // 0: 30 s. Less than 11 s is too little: libvirt waits 10 s before it kills a frozen qemu
	AbsentFor        time.Duration // how long a vanished transient domain is reported; 0: 10 min
	RetryMax         time.Duration // longest pause between two attempts to connect; 0: 2 s
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&o.DialTimeout, 5 * time.Second}, {&o.CallTimeout, 5 * time.Second}, {&o.BulkTimeout, time.Second},
		{&o.ProbeTimeout, 30 * time.Second}, {&o.InventoryTimeout, 2 * time.Minute},
		{&o.StartTimeout, 90 * time.Second}, {&o.DestroyTimeout, 30 * time.Second},
		{&o.AbsentFor, 10 * time.Minute}, {&o.RetryMax, 2 * time.Second},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	return o
}

// Driver implements hypervisor.Hypervisor and hypervisor.Adjuster.
type Driver struct {
	at     endpoint
	opts   Options
	log    hclog.Logger
	stop   context.CancelFunc
	ended  chan struct{} // closed when the supervisor is done
	tried  chan struct{} // closed after the first attempt to connect
	memory memory
	states poller
	// looking are the shared directories that are being looked at.
	looking sync.Map

	mu   sync.Mutex // guards what follows and orders feed against it
	cur  *session   // nil: not connected
	why  error      // why not
	open map[*client]struct{}
	shut bool // Close was called
	feed hypervisor.Feed
}

var errClosed = errors.New("the driver was closed")

var (
	_ hypervisor.Hypervisor = (*Driver)(nil)
	_ hypervisor.Adjuster   = (*Driver)(nil)
	_ hypervisor.Migrator   = (*Driver)(nil)
)

// session is one life of the two connections that are always up. They are
// lost together.
type session struct {
	health *client
	events *client
	feed   <-chan golibvirt.DomainEventLifecycleMsg
	guests guestEvents
}

// Open returns a driver for the daemon at uri and begins to connect. An
// address that cannot be right is an error; a daemon that does not answer is
// not: calls then fail with ErrUnavailable until it does.
func Open(uri string, o Options) (*Driver, error) {
	at, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	o = o.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	d := &Driver{
		at: at, opts: o, log: o.Logger, stop: cancel,
		ended: make(chan struct{}), tried: make(chan struct{}),
		why: errors.New("not connected yet"), open: make(map[*client]struct{}),
	}
	d.memory.keep = o.AbsentFor
	d.states = newPoller(d)
	go d.supervise(ctx)
	return d, nil
}

// Close implements hypervisor.Hypervisor. Calls that are under way end with an
// error.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.shut = true
	open := slices.Collect(maps.Keys(d.open))
	d.mu.Unlock()
	d.stop()
	for _, c := range open {
		c.abort()
	}
	<-d.ended
	d.states.close()
	return nil
}

// track remembers a connection for Close; it refuses new ones after that.
func (d *Driver) track(c *client, open bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !open {
		delete(d.open, c)
		return true
	}
	if !d.shut {
		d.open[c] = struct{}{}
	}
	return !d.shut
}

// supervise keeps a session up until ctx ends.
func (d *Driver) supervise(ctx context.Context) {
	defer close(d.ended)
	const shortest = 50 * time.Millisecond
	pause := shortest
	first := sync.OnceFunc(func() { close(d.tried) })
	defer first()
	for ctx.Err() == nil {
		s, err := d.establish(ctx)
		begin := time.Now()
		if err == nil {
			d.log.Info("connected to libvirt", "address", d.at.addr())
			d.publish(s)
			first()
			d.listen(ctx, s)
			err = errors.New("the connection was lost")
		}
		if d.unpublish(err) || pause == shortest {
			d.log.Warn("no connection to libvirt", "address", d.at.addr(), "reason", err)
		}
		first()
		if time.Since(begin) > d.opts.RetryMax {
			pause = shortest
		}
		// Spread: after a restart of the daemon every agent of a test machine
		// would knock at the same moment.
		select {
		case <-time.After(pause + rand.N(pause)):
		case <-ctx.Done():
		}
		pause = min(2*pause, d.opts.RetryMax)
	}
	d.unpublish(errClosed)
}

// establish subscribes before anybody can poll: whatever happens after the
// subscription is an event, whatever happened before is in the poll.
func (d *Driver) establish(ctx context.Context) (*session, error) {
	health, err := d.connect(ctx, d.opts.DialTimeout)
	if err != nil {
		return nil, err
	}
	events, err := d.connect(ctx, d.opts.DialTimeout)
	if err != nil {
		health.close()
		return nil, err
	}
	feed, err := ask(ctx, events, d.opts.CallTimeout, func(lv *golibvirt.Libvirt) (<-chan golibvirt.DomainEventLifecycleMsg, error) {
		// Never cancelled: unsubscribing is a call that may hang. Closing the
		// connection ends the stream.
		return lv.LifecycleEvents(context.WithoutCancel(ctx))
	})
	var guests guestEvents
	if err == nil {
		guests, err = subscribeGuests(ctx, d, events)
	}
	if err != nil {
		health.close()
		events.abort()
		if feed != nil {
			drained(feed, guests)
		}
		return nil, fmt.Errorf("subscribe to events: %w", err)
	}
	return &session{health: health, events: events, feed: feed, guests: guests}, nil
}

// drained ends when all streams of a connection that is closed have been read, without
// which go-libvirt would leak.
func drained(feed <-chan golibvirt.DomainEventLifecycleMsg, guests guestEvents) {
	for range feed {
	}
	guests.drain()
}

// listen handles events until the session is lost or ctx ends, closes both
// connections and drains the streams.
func (d *Driver) listen(ctx context.Context, s *session) {
	defer func() {
		s.health.abort()
		s.events.abort()
		drained(s.feed, s.guests)
	}()
	for {
		var guest any
		select {
		case e, ok := <-s.feed:
			if !ok {
				return
			}
			d.memory.event(e)
			d.feed.Publish(hypervisor.Event{UUID: hypervisor.UUID(e.Dom.UUID)})
			continue
		case guest = <-s.guests.reboots:
		case guest = <-s.guests.watchdogs:
		case <-s.health.conn.lost:
			return
		case <-s.events.conn.lost:
			return
		case <-ctx.Done():
			return
		}
		if guest == nil {
			return // the stream has ended
		}
		d.feed.Publish(hypervisor.Event{UUID: d.memory.guestEvent(guest)})
	}
}

func (d *Driver) publish(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cur, d.why = s, nil
}

func (d *Driver) unpublish(why error) (was bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	was = d.cur != nil
	d.cur, d.why = nil, why
	d.feed.Hangup()
	return was
}

// session returns the current one, or ErrUnavailable at once. Only before the
// first attempt to connect has ended it waits for that.
func (d *Driver) session(ctx context.Context) (*session, error) {
	select {
	case <-d.tried:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", hypervisor.ErrUnavailable, context.Cause(ctx))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cur == nil || !d.cur.health.alive() {
		why := d.why
		if why == nil {
			why = errors.New("the connection was lost")
		}
		return nil, fmt.Errorf("%w: %s: %w", hypervisor.ErrUnavailable, d.at.addr(), why)
	}
	return d.cur, nil
}

// Watch implements hypervisor.Hypervisor.
func (d *Driver) Watch(ctx context.Context) (<-chan hypervisor.Event, error) {
	s, err := d.session(ctx)
	if err != nil {
		return nil, failed("watch", "", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cur != s {
		return nil, failed("watch", "", fmt.Errorf("%w: the connection was lost", hypervisor.ErrUnavailable))
	}
	return d.feed.Subscribe(ctx), nil
}

func failed(op, subject string, err error) error {
	if err == nil {
		return nil
	}
	return &hypervisor.Error{Op: op, Subject: subject, Err: err}
}
