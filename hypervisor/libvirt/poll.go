package libvirt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"lifeboat/hypervisor"
)

// avoidBulk is how long the slower way is taken after the bulk call hung.
const avoidBulk = 30 * time.Second

// poller reads power states. One poll runs at a time: polls share a connection
// and the newest answer must also be the last one that is remembered.
type poller struct {
	d          *Driver
	turn       chan struct{} // holds one token
	bulk       *lane
	avoidUntil time.Time
}

func newPoller(d *Driver) poller {
	p := poller{d: d, turn: make(chan struct{}, 1), bulk: &lane{d: d}}
	p.turn <- struct{}{}
	return p
}

func (p *poller) close() {
	<-p.turn // after Close of the driver nobody else gets it for long
	p.bulk.close()
	p.turn <- struct{}{}
}

// Domains implements hypervisor.Hypervisor. A caller that gives up early does
// not end the poll: that would cost everybody the connection.
func (d *Driver) Domains(ctx context.Context) ([]hypervisor.Domain, error) {
	type answer struct {
		ds  []hypervisor.Domain
		err error
	}
	limit := d.opts.CallTimeout
	own, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), limit, fmt.Errorf("no answer within %v", limit))
	got := make(chan answer, 1)
	go func() {
		defer cancel()
		ds, err := d.states.poll(own)
		got <- answer{ds, err}
	}()
	select {
	case a := <-got:
		return a.ds, failed("list domains", "", a.err)
	case <-ctx.Done():
		return nil, failed("list domains", "", fmt.Errorf("%w: %w", hypervisor.ErrUnavailable, context.Cause(ctx)))
	}
}

func (p *poller) poll(ctx context.Context) ([]hypervisor.Domain, error) {
	select {
	case <-p.turn:
		defer func() { p.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", hypervisor.ErrUnavailable, context.Cause(ctx))
	}
	s, err := p.d.session(ctx)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	ds, err := p.stats(ctx)
	if err != nil {
		ds, err = p.oneByOne(ctx, s.health)
	}
	if err == nil {
		err = p.attributes(ctx, s.health, ds)
	}
	if err != nil {
		return nil, translate(err, hypervisor.ErrUnavailable)
	}
	ds = p.d.memory.complete(ds, begin)
	slices.SortFunc(ds, func(a, b hypervisor.Domain) int { return a.UUID.Compare(b.UUID) })
	return ds, nil
}

var errAvoided = errors.New("the bulk call hung a moment ago")

// stats asks for all states in one call. It is the cheapest way and the one
// that hangs first, when other callers have filled libvirtd's workers with
// questions to a frozen guest; so it has a connection of its own to lose.
func (p *poller) stats(ctx context.Context) ([]hypervisor.Domain, error) {
	if time.Now().Before(p.avoidUntil) {
		return nil, errAvoided
	}
	cl, err := p.bulk.client(ctx)
	if err != nil {
		return nil, err
	}
	records, err := ask(ctx, cl, p.d.opts.BulkTimeout, func(lv *golibvirt.Libvirt) ([]golibvirt.DomainStatsRecord, error) {
		return lv.ConnectGetAllDomainStats(nil, uint32(golibvirt.DomainStatsState), uint32(golibvirt.ConnectGetAllDomainsStatsNowait))
	})
	if err != nil {
		p.avoidUntil = time.Now().Add(avoidBulk)
		p.d.log.Debug("bulk poll failed, asking one by one", "error", err)
		return nil, err
	}
	ds := make([]hypervisor.Domain, 0, len(records))
	for _, r := range records {
		d := hypervisor.Domain{UUID: hypervisor.UUID(r.Dom.UUID), Name: r.Dom.Name}
		d.State, d.Reason = stateOf(param(r.Params, "state.state"), param(r.Params, "state.reason"))
		ds = append(ds, d)
	}
	return ds, nil
}

func param(ps []golibvirt.TypedParam, field string) int32 {
	for _, p := range ps {
		if v, ok := p.Value.I.(int32); ok && p.Field == field {
			return v
		}
	}
	return 0
}

// oneByOne uses only calls that libvirtd answers even when its ordinary
// workers are all stuck.
func (p *poller) oneByOne(ctx context.Context, health *client) ([]hypervisor.Domain, error) {
	doms, err := p.list(ctx, health, 0)
	if err != nil {
		return nil, err
	}
	type answer struct{ state, reason int32 }
	ds := make([]hypervisor.Domain, 0, len(doms))
	for _, dom := range doms {
		a, err := ask(ctx, health, p.d.opts.CallTimeout, func(lv *golibvirt.Libvirt) (a answer, err error) {
			a.state, a.reason, err = lv.DomainGetState(dom, 0)
			return a, err
		})
		if saidAny(err, golibvirt.ErrNoDomain) {
			continue // it went away meanwhile
		}
		if err != nil {
			return nil, err
		}
		d := hypervisor.Domain{UUID: hypervisor.UUID(dom.UUID), Name: dom.Name}
		d.State, d.Reason = stateOf(a.state, a.reason)
		ds = append(ds, d)
	}
	return ds, nil
}

// attributes fills in what the states do not tell, from lists that libvirt
// filters; those too are always answered.
func (p *poller) attributes(ctx context.Context, health *client, ds []hypervisor.Domain) error {
	at := make(map[hypervisor.UUID]*hypervisor.Domain, len(ds))
	for i := range ds {
		at[ds[i].UUID] = &ds[i]
	}
	for _, a := range []struct {
		filter golibvirt.ConnectListAllDomainsFlags
		set    func(*hypervisor.Domain)
	}{
		{golibvirt.ConnectListDomainsPersistent, func(d *hypervisor.Domain) { d.Persistent = true }},
		{golibvirt.ConnectListDomainsAutostart, func(d *hypervisor.Domain) { d.Autostart = true }},
		{golibvirt.ConnectListDomainsManagedsave, func(d *hypervisor.Domain) { d.ManagedSave = true }},
	} {
		doms, err := p.list(ctx, health, a.filter)
		if err != nil {
			return err
		}
		for _, dom := range doms {
			if d := at[hypervisor.UUID(dom.UUID)]; d != nil {
				a.set(d)
			}
		}
	}
	return nil
}

func (p *poller) list(ctx context.Context, health *client, filter golibvirt.ConnectListAllDomainsFlags) ([]golibvirt.Domain, error) {
	return ask(ctx, health, p.d.opts.CallTimeout, func(lv *golibvirt.Libvirt) ([]golibvirt.Domain, error) {
		doms, _, err := lv.ConnectListAllDomains(1, filter)
		return doms, err
	})
}
