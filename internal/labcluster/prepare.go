package labcluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	for i := range c.opts.Guests {
		name := fmt.Sprintf("web%d", i+1)
		// A LUN has a device node on each host, so that no lock of qemu's stands in
		// for us. Some disks are files, because hosts are judged by shared
		// directories too; Shareable keeps qemu from locking those.
		add := c.Lab.AddLUN
		if i%4 == 3 {
			add = c.Lab.AddDisk
		}
		disk, err := add(name)
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
	if err := c.SetLevels(ctx, c.opts.Levels...); err != nil {
		return err
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
	return c.Ready(ctx)
}

// SetLevels gives every host these fence levels, in order: ipmi, lease. What
// follows from that takes a moment: see Ready.
func (c *Cluster) SetLevels(ctx context.Context, levels ...string) error {
	c.opts.Levels = levels
	for n := 1; n <= c.opts.Lab.Hosts; n++ {
		if err := c.setFence(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// Ready waits until every guest is protected, runs and could be started
// elsewhere, and every lease that is to be armed is.
func (c *Cluster) Ready(ctx context.Context) error {
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
		why := c.hostsReady(ctx, api)
		return ready == len(c.Guests) && why == nil, fmt.Sprintf("%d of %d (%v, %v)", ready, len(c.Guests), err, why), nil
	})
}

// hostsReady says what a host lacks that is to be a target: what it has must be
// known, and its lease armed if it is to have one.
func (c *Cluster) hostsReady(ctx context.Context, api API) error {
	wanted := slices.Contains(c.opts.Levels, "lease")
	r, err := api.ListHosts(ctx, connect.NewRequest(&lifeboatv1.ListHostsRequest{}))
	if err != nil {
		return err
	}
	for _, h := range r.Msg.Hosts {
		down := slices.ContainsFunc(h.Storages, func(s *lifeboatv1.Storage) bool { return !s.Up })
		if h.Cpus == 0 || len(h.Storages) == 0 || down || h.GetLease().GetArmed() != wanted {
			return fmt.Errorf("%s: %d CPUs, storages %v, lease %v, problems %v", h.Id, h.Cpus, h.Storages, h.Lease, h.Problems)
		}
	}
	return nil
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
