package labcluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/transport"
)

// API is what an operator uses.
type API = lifeboatv1connect.AdminServiceClient

// API returns the client of one management node.
func (c *Cluster) API(m int) (API, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if api := c.clients[m]; api != nil {
		return api, nil
	}
	creds, err := transport.LoadCredentials(transport.Files{
		Cert: filepath.Join(c.pki, "operator-lab.crt"), Key: filepath.Join(c.pki, "operator-lab.key"), CA: filepath.Join(c.pki, "ca.crt")}, nil)
	if err != nil {
		return nil, err
	}
	client := transport.NewHTTPClient(creds, transport.ClientOptions{Dial: transport.DialOptions{
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return c.Lab.ManagerDial(ctx, m, network, addr)
		}}})
	c.idle = append(c.idle, client.CloseIdleConnections)
	api := lifeboatv1connect.NewAdminServiceClient(client, "https://"+c.ServerAddr(m))
	c.clients[m] = api
	return api, nil
}

const askTimeout = 3 * time.Second

// read asks the nodes in turn until one answers.
func (c *Cluster) read(ctx context.Context, f func(context.Context, API) error) error {
	var errs error
	for m := 1; m <= c.opts.Lab.Managers; m++ {
		if p := c.Server(m); p == nil || p.State() != nil {
			continue
		}
		api, err := c.API(m)
		if err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, askTimeout)
		err = f(limited, api)
		cancel()
		if err == nil {
			return nil
		}
		errs = errors.Join(errs, fmt.Errorf("%s: %w", node(m), err))
	}
	if errs == nil {
		errs = errors.New("no management node runs")
	}
	return errs
}

// write is read for what changes something: it goes on only where nothing was
// done.
func (c *Cluster) write(ctx context.Context, f func(context.Context, API) error) error {
	for {
		var refused error
		err := c.read(ctx, func(_ context.Context, api API) error {
			limited, cancel := context.WithTimeout(ctx, 20*time.Second)
			defer cancel()
			err := f(limited, api)
			if err != nil && connect.CodeOf(err) != connect.CodeUnavailable {
				refused = err
				return nil
			}
			return err
		})
		if err == nil {
			return refused
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Leader is the number of the management node that leads.
func (c *Cluster) Leader(ctx context.Context) (int, error) {
	leader := 0
	err := c.wait(ctx, "a node leads", func(ctx context.Context, api API) (bool, string, error) {
		r, err := api.Status(ctx, connect.NewRequest(&lifeboatv1.StatusRequest{}))
		if err != nil {
			return false, "", err
		}
		for m := 1; m <= c.opts.Lab.Managers; m++ {
			if node(m) == r.Msg.LeaderId {
				leader = m
			}
		}
		return leader != 0, r.Msg.LeaderId, nil
	})
	return leader, err
}

// VMs lists the VMs by name.
func (c *Cluster) VMs(ctx context.Context) (map[string]*lifeboatv1.VMView, error) {
	out := map[string]*lifeboatv1.VMView{}
	err := c.read(ctx, func(ctx context.Context, api API) error {
		r, err := api.ListVMs(ctx, connect.NewRequest(&lifeboatv1.ListVMsRequest{}))
		if err != nil {
			return err
		}
		clear(out)
		for _, v := range r.Msg.Vms {
			out[v.Name] = v
		}
		return nil
	})
	return out, err
}

// Events lists what happened after an event, oldest first. The leader is asked:
// a node that was just started may have to catch up.
func (c *Cluster) Events(ctx context.Context, after uint64) ([]*lifeboatv1.EventView, error) {
	var out []*lifeboatv1.EventView
	err := c.read(ctx, func(ctx context.Context, api API) error {
		r, err := api.ListEvents(ctx, connect.NewRequest(&lifeboatv1.ListEventsRequest{After: after}))
		if err == nil {
			out = r.Msg.Events
		}
		return err
	})
	return out, err
}

// LastEvent is the newest event there is.
func (c *Cluster) LastEvent(ctx context.Context) (uint64, error) {
	last := uint64(0)
	err := c.wait(ctx, "the events can be read", func(ctx context.Context, api API) (bool, string, error) {
		r, err := api.ListEvents(ctx, connect.NewRequest(&lifeboatv1.ListEventsRequest{}))
		if err != nil || len(r.Msg.Events) == 0 {
			return false, "there are none", err
		}
		last = r.Msg.Events[len(r.Msg.Events)-1].Id
		return true, "", nil
	})
	return last, err
}

// Digests waits until all living replicas have shown their digest at a common
// index, and returns them by node.
func (c *Cluster) Digests(ctx context.Context) (index uint64, digests map[string]string, err error) {
	seen := map[uint64]map[string]string{}
	for {
		living := 0
		for m := 1; m <= c.opts.Lab.Managers; m++ {
			if p := c.Server(m); p == nil || p.State() != nil {
				continue
			}
			living++
			api, err := c.API(m)
			if err != nil {
				return 0, nil, err
			}
			limited, cancel := context.WithTimeout(ctx, askTimeout)
			r, err := api.Status(limited, connect.NewRequest(&lifeboatv1.StatusRequest{Stale: true}))
			cancel()
			if err != nil {
				continue
			}
			for _, d := range r.Msg.Digests {
				if seen[d.Index] == nil {
					seen[d.Index] = map[string]string{}
				}
				seen[d.Index][r.Msg.NodeId] = d.Digest
			}
		}
		for i, by := range seen {
			if len(by) == living && living > 0 {
				return i, by, nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, nil, fmt.Errorf("wait for the digests of %d nodes at one index: %w", living, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// SetPolicy changes settings of the cluster, given as key, value, key, value …
func (c *Cluster) SetPolicy(ctx context.Context, pairs ...string) error {
	req := &lifeboatv1.SetPolicyRequest{}
	for i := 0; i+1 < len(pairs); i += 2 {
		req.Settings = append(req.Settings, &lifeboatv1.Setting{Key: pairs[i], Value: pairs[i+1]})
	}
	return c.write(ctx, func(ctx context.Context, api API) error {
		_, err := api.SetPolicy(ctx, connect.NewRequest(req))
		return err
	})
}

// ConfirmDead is an operator's word that a host is dead.
func (c *Cluster) ConfirmDead(ctx context.Context, n int, force bool) error {
	return c.write(ctx, func(ctx context.Context, api API) error {
		_, err := api.ControlHost(ctx, connect.NewRequest(&lifeboatv1.ControlHostRequest{Host: host(n), Action: "confirm-dead", Force: force}))
		return err
	})
}

// Alerts lists those that were ever raised about a subject.
func (c *Cluster) Alerts(ctx context.Context, subject string) ([]*lifeboatv1.AlertView, error) {
	var out []*lifeboatv1.AlertView
	err := c.read(ctx, func(ctx context.Context, api API) error {
		r, err := api.ListAlerts(ctx, connect.NewRequest(&lifeboatv1.ListAlertsRequest{All: true, Subject: subject}))
		if err == nil {
			out = r.Msg.Alerts
		}
		return err
	})
	return out, err
}
