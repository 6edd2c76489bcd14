package main

import (
	"context"
	"fmt"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// HostCmd is 'lifeboat host'.
type HostCmd struct {
	List        HostListCmd        `cmd:"" help:"List the hosts."`
	Show        HostShowCmd        `cmd:"" help:"Show everything about a host: evidence, fence levels, storage, problems."`
	Enable      HostEnableCmd      `cmd:"" help:"Allow placements on a host again."`
	Disable     HostDisableCmd     `cmd:"" help:"Place nothing new on a host. Its VMs stay and stay protected."`
	Maintenance HostMaintenanceCmd `cmd:"" help:"Begin or end maintenance of a host."`
	ConfirmDead HostConfirmDeadCmd `cmd:"" help:"Vouch that a host is dead, so that its VMs restart elsewhere. If it lives, they run twice."`
	Remove      HostRemoveCmd      `cmd:"" help:"Forget a host that will not come back."`
	Admit       HostAdmitCmd       `cmd:"" help:"Let a removed host, or another machine in its place, register again."`
	Fence       HostFenceCmd       `cmd:"" help:"How a host is proven dead: BMC, fence agent or lease."`
}

// HostListCmd is 'lifeboat host list'.
type HostListCmd struct {
	cli.ReadFlags
}

// Run lists the hosts.
func (c *HostListCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.ListHostsResponse, error) {
		return cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListHosts, &pb.ListHostsRequest{Stale: c.Stale})
	}, func(v *cli.View, r *pb.ListHostsResponse) {
		cli.DrawTable(v, hostColumns(), r.Hosts, "No hosts yet: a host appears when its agent ('lifeboat agent') connects.")
	})
}

func hostColumns() []cli.Column[*pb.HostView] {
	return []cli.Column[*pb.HostView]{
		{Title: "HOST", Cell: func(_ *cli.View, h *pb.HostView) string { return h.Id }},
		{Title: "STATUS", Cell: func(_ *cli.View, h *pb.HostView) string { return h.Status }},
		{Title: "RESOURCE", Cell: func(_ *cli.View, h *pb.HostView) string { return h.Resource }},
		{Title: "HA", Cell: func(_ *cli.View, h *pb.HostView) string { return h.Ha }},
		{Title: "VMS", Cell: func(_ *cli.View, h *pb.HostView) string {
			return fmt.Sprintf("%d, %d protected", h.Vms, h.VmsProtected)
		}},
		{Title: "MEMORY USED", Cell: func(_ *cli.View, h *pb.HostView) string { return memoryOf(h) }},
		{Title: "CPUS", Wide: true, Cell: func(_ *cli.View, h *pb.HostView) string { return cpusText(h.Cpus) }},
		{Title: "LAST HEARD", Cell: func(_ *cli.View, h *pb.HostView) string { return lastHeard(h) }},
		{Title: "EPOCH", Wide: true, Cell: func(_ *cli.View, h *pb.HostView) string { return fmt.Sprint(h.Epoch) }},
		{Title: "NODE", Wide: true, Cell: func(_ *cli.View, h *pb.HostView) string { return h.NodeId }},
		{Title: "WATCHDOG", Wide: true, Cell: func(_ *cli.View, h *pb.HostView) string { return h.Watchdog }},
		{Title: "VERSION", Wide: true, Cell: func(_ *cli.View, h *pb.HostView) string { return h.Version }},
		{Title: "FENCED BY", Cell: func(_ *cli.View, h *pb.HostView) string { return fenceDrivers(h) }},
		{Title: "REASON", Cell: func(_ *cli.View, h *pb.HostView) string { return h.Reason }},
	}
}

func memoryOf(h *pb.HostView) string {
	if h.MemoryBytes == 0 {
		return ""
	}
	return fmt.Sprintf("%s of %s", cli.Bytes(h.MemoryUsedBytes), cli.Bytes(h.MemoryBytes))
}

func lastHeard(h *pb.HostView) string {
	if h.LastContactMs < 0 {
		return "unknown"
	}
	return cli.Millis(h.LastContactMs) + " ago"
}

func fenceDrivers(h *pb.HostView) string {
	var drivers []string
	for _, l := range h.Fence {
		drivers = append(drivers, l.Driver)
	}
	return cli.Joined(drivers)
}

// HostShowCmd is 'lifeboat host show'.
type HostShowCmd struct {
	cli.ReadFlags
	Host string `arg:"" help:"Name of the host."`
}

// Run shows one host.
func (c *HostShowCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.HostView, error) {
		return findHost(ctx, client, c.Host, c.Stale)
	}, drawHost)
}

func findHost(ctx context.Context, client *cli.Client, name string, stale bool) (*pb.HostView, error) {
	r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListHosts, &pb.ListHostsRequest{Stale: stale, Id: name})
	if err != nil {
		return nil, withNames(err, seeHosts)
	}
	for _, h := range r.Hosts {
		if h.Id == name {
			return h, nil
		}
	}
	return nil, notFound("host", name, seeHosts)
}

func drawHost(v *cli.View, h *pb.HostView) {
	v.Fields(
		[2]string{"Host", h.Id},
		[2]string{"Status", withReason(h.Status, h.Reason)},
		[2]string{"Resource", h.Resource},
		[2]string{"Emptying", h.Emptying},
		[2]string{"Operating system", h.Stopping},
		[2]string{"HA", h.Ha},
		[2]string{"Proven dead by", h.Proof},
		[2]string{"Safe when", h.SafeWhen},
		[2]string{"Last heard", lastHeard(h)},
		[2]string{"VMs", fmt.Sprintf("%d, %d protected", h.Vms, h.VmsProtected)},
		[2]string{"CPUs", cpusText(h.Cpus)},
		[2]string{"Memory used", memoryOf(h)},
		[2]string{"Epoch", fmt.Sprint(h.Epoch)},
		[2]string{"Boot id", h.BootId},
		[2]string{"Machine id", h.MachineId},
		[2]string{"Lease", leaseText(h.Lease)},
		[2]string{"Watchdog", h.Watchdog},
		[2]string{"Shares machine with node", h.NodeId},
		[2]string{"Agent version", h.Version},
		[2]string{"Labels", labelsText(h.Labels)},
		[2]string{"Networks", cli.Joined(h.Networks)},
	)
	for i, l := range h.Fence {
		v.Line("Fence level %d: %s", i+1, fenceText(l))
	}
	for _, s := range h.Storages {
		v.Line("Storage %s at %s: %s", s.Id, s.Path, upDown(s.Up))
	}
	for _, p := range h.Problems {
		v.Line("Problem with %s: %s", p.Part, p.Message)
	}
	for _, e := range h.Evidence {
		v.Line("Evidence from %s: %s, %s (%s, index %d)", e.Source, e.Verdict, e.Detail, v.Time(e.TimeUnixNs), e.Index)
	}
	for _, n := range h.Notes {
		v.Line("! %s", n)
	}
}

func withReason(state, reason string) string {
	if reason == "" {
		return state
	}
	return state + " (" + reason + ")"
}

func upDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

func leaseText(l *pb.Lease) string {
	if !l.GetArmed() {
		return "not armed"
	}
	return "armed for " + cli.Millis(l.DurationMs)
}

func labelsText(labels []*pb.Label) string {
	var parts []string
	for _, l := range labels {
		parts = append(parts, l.Key+"="+l.Value)
	}
	return cli.Joined(parts)
}

func fenceText(l *pb.FenceLevelView) string {
	text := l.Driver
	if l.Address != "" {
		text += " at " + l.Address
	}
	if l.User != "" {
		text += " as " + l.User
	}
	if l.Identity != "" {
		text += ", pinned to " + l.Identity
	}
	if l.TimeoutMs > 0 {
		text += ", timeout " + cli.Millis(l.TimeoutMs)
	}
	if l.Executor != "" && l.Executor != "leader" {
		text += ", executed by " + l.Executor
	}
	if !l.Active {
		return text
	}
	switch {
	case l.Failure != "" && l.ProvenAgoMs >= 0:
		text += fmt.Sprintf("; NOT PROVEN: %s (last proven %s ago)", l.Failure, cli.Millis(l.ProvenAgoMs))
	case l.Failure != "":
		text += "; NOT PROVEN: " + l.Failure
	case l.ProvenAgoMs >= 0:
		text += fmt.Sprintf("; proven %s ago", cli.Millis(l.ProvenAgoMs))
	default:
		text += "; not tried yet ('lifeboat fence test')"
	}
	return text
}
