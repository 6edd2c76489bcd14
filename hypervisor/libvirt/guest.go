package libvirt

import (
	"context"
	"fmt"

	golibvirt "github.com/digitalocean/go-libvirt"

	"lifeboat/hypervisor"
)

// askTime is how long a guest's agent may take to answer, in seconds. libvirt gives up
// then; CallTimeout is longer.
const askTime = 3

// Ask implements hypervisor.Asker by a ping of the QEMU guest agent.
func (d *Driver) Ask(ctx context.Context, id hypervisor.UUID) error {
	l := &lane{d: d}
	defer l.close()
	dom, err := l.lookup(ctx, id)
	if err == nil {
		err = order(ctx, l, d.opts.CallTimeout, func(lv *golibvirt.Libvirt) error {
			_, err := lv.QEMUDomainAgentCommand(dom, `{"execute":"guest-ping"}`, askTime, 0)
			return err
		})
	}
	if saidAny(err, golibvirt.ErrAgentUnresponsive, golibvirt.ErrAgentUnsynced, golibvirt.ErrAgentCommandTimeout) {
		err = fmt.Errorf("%w: %w", hypervisor.ErrSilent, err)
	}
	return failed("ask the agent of", id.String(), err)
}

// guestEvents are the events that say what a guest does without a new start. A daemon
// that does not know one of them has none.
type guestEvents struct{ reboots, watchdogs <-chan any }

func subscribeGuests(ctx context.Context, d *Driver, c *client) (g guestEvents, err error) {
	for id, to := range map[golibvirt.DomainEventID]*<-chan any{golibvirt.DomainEventIDReboot: &g.reboots, golibvirt.DomainEventIDWatchdog: &g.watchdogs} {
		*to, err = ask(ctx, c, d.opts.CallTimeout, func(lv *golibvirt.Libvirt) (<-chan any, error) {
			return lv.SubscribeEvents(context.WithoutCancel(ctx), id, nil)
		})
		if err != nil && !unsupported(err) {
			return g, err
		}
	}
	return g, nil
}

// drain reads what is left, without which go-libvirt would leak.
func (g guestEvents) drain() {
	for _, ch := range []<-chan any{g.reboots, g.watchdogs} {
		if ch != nil {
			for range ch {
			}
		}
	}
}

// guestEvent remembers what a guest did, and says of which domain.
func (m *memory) guestEvent(e any) (id hypervisor.UUID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init()
	switch e := e.(type) {
	case *golibvirt.DomainEventCallbackRebootMsg:
		id = hypervisor.UUID(e.Msg.Dom.UUID)
		c := m.guests[id]
		c.reboots++
		m.guests[id] = c
	case *golibvirt.DomainEventCallbackWatchdogMsg:
		id = hypervisor.UUID(e.Msg.Dom.UUID)
		if stays(golibvirt.DomainEventWatchdogAction(e.Msg.Action)) {
			c := m.guests[id]
			c.fired++
			m.guests[id] = c
		}
	}
	return id
}

// guestCounts are of one domain.
type guestCounts struct{ reboots, fired uint32 }

// stays reports whether a watchdog's action leaves a guest that hangs as it is. After a
// reset it boots again, an NMI is for its kernel to act on, and a power-off ends it.
// Paused it is seen to be by its state.
func stays(a golibvirt.DomainEventWatchdogAction) bool {
	return a == golibvirt.DomainEventWatchdogNone || a == golibvirt.DomainEventWatchdogShutdown || a == golibvirt.DomainEventWatchdogDebug
}
