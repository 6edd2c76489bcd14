package labcluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor/domxml"
	"lifeboat/internal/lab"
)

// guests defines and starts guests, as people did before Lifeboat came. Every
// other one is protected by its own metadata.
func (c *Cluster) guests(ctx context.Context) error {
	hosts := c.opts.Lab.Hosts
	for i := range hosts * c.opts.Guests {
		name := fmt.Sprintf("web%d", i+1)
		disk, err := c.Lab.AddDisk(name)
		if err != nil {
			return err
		}
		spec := lab.GuestSpec{Name: name, Disk: disk, Shareable: true}
		if byMetadata(i) {
			spec.Metadata = fmt.Sprintf(`<lifeboat:protect xmlns:lifeboat="%s" ha="restart"/>`, domxml.Namespace)
		}
		if err := c.Lab.StartGuest(ctx, i%hosts+1, spec); err != nil {
			return err
		}
		c.Guests = append(c.Guests, name)
	}
	for i, name := range c.Guests {
		if _, err := c.Lab.WaitBeat(ctx, i%hosts+1, name); err != nil {
			return err
		}
	}
	return nil
}

func byMetadata(i int) bool { return i%2 == 0 }

// prepare sets fence levels, protects every guest and waits until all could be
// started elsewhere.
func (c *Cluster) prepare(ctx context.Context) error {
	if err := c.WaitHosts(ctx, "Up"); err != nil {
		return err
	}
	for n := 1; n <= c.opts.Lab.Hosts; n++ {
		if err := c.setFence(ctx, n); err != nil {
			return err
		}
	}
	for i, name := range c.Guests {
		if byMetadata(i) {
			continue
		}
		if err := c.write(ctx, func(ctx context.Context, api API) error {
			_, err := api.ProtectVM(ctx, connect.NewRequest(&lifeboatv1.ProtectVMRequest{Vm: name, On: true}))
			return err
		}); err != nil {
			return fmt.Errorf("protect %s: %w", name, err)
		}
	}
	return c.wait(ctx, "every guest is protected and could start elsewhere", func(ctx context.Context, api API) (bool, string, error) {
		r, err := api.ListVMs(ctx, connect.NewRequest(&lifeboatv1.ListVMsRequest{}))
		if err != nil {
			return false, "", err
		}
		ready := 0
		for _, v := range r.Msg.Vms {
			if v.Protected && v.Power == "PowerOn" && v.DefinitionHash != "" && len(v.Local) == 0 {
				ready++
			} else {
				err = fmt.Errorf("%s: protected %t, %s, definition %q, local %v", v.Name, v.Protected, v.Power, v.DefinitionHash, v.Local)
			}
		}
		if ready == len(c.Guests) && c.leasesArmed(ctx, api) {
			return true, "", nil
		}
		return false, fmt.Sprintf("%d of %d (%v)", ready, len(c.Guests), err), nil
	})
}

// leasesArmed reports whether every host that is to have a lease has one.
func (c *Cluster) leasesArmed(ctx context.Context, api API) bool {
	wanted := false
	for _, l := range c.opts.Levels {
		wanted = wanted || l == "lease"
	}
	r, err := api.ListHosts(ctx, connect.NewRequest(&lifeboatv1.ListHostsRequest{}))
	if err != nil {
		return false
	}
	for _, h := range r.Msg.Hosts {
		if h.GetLease().GetArmed() != wanted {
			return false
		}
	}
	return true
}

func (c *Cluster) setFence(ctx context.Context, n int) error {
	req := &lifeboatv1.SetFenceRequest{Host: host(n)}
	for _, driver := range c.opts.Levels {
		l := &lifeboatv1.FenceSpec{Driver: driver}
		if driver == "ipmi" {
			l.Address, l.User, l.Password, l.Identity = c.Lab.BMCAddr(n), lab.BMCUser, lab.BMCPassword, c.Lab.BMCGUID(n)
		}
		req.Levels = append(req.Levels, l)
	}
	err := c.write(ctx, func(ctx context.Context, api API) error {
		_, err := api.SetFence(ctx, connect.NewRequest(req))
		return err
	})
	if err != nil {
		return fmt.Errorf("set the fence levels of h%d: %w", n, err)
	}
	return nil
}

// WaitHosts waits until every host has a status.
func (c *Cluster) WaitHosts(ctx context.Context, status string) error {
	return c.wait(ctx, "every host is "+status, func(ctx context.Context, api API) (bool, string, error) {
		r, err := api.ListHosts(ctx, connect.NewRequest(&lifeboatv1.ListHostsRequest{}))
		if err != nil {
			return false, "", err
		}
		n, now := 0, ""
		for _, h := range r.Msg.Hosts {
			now += fmt.Sprintf(" %s is %s (%s);", h.Id, h.Status, h.Reason)
			if h.Status == status {
				n++
			}
		}
		return n == c.opts.Lab.Hosts, now, nil
	})
}

// wait asks again and again; what is the state of affairs when ctx ends goes
// into the error.
func (c *Cluster) wait(ctx context.Context, what string, ask func(context.Context, API) (done bool, now string, err error)) error {
	var now string
	var last error
	for {
		var done bool
		last = c.read(ctx, func(ctx context.Context, api API) error {
			var err error
			done, now, err = ask(ctx, api)
			return err
		})
		if last == nil && done {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w (now: %s)", what, errors.Join(ctx.Err(), last), now)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
