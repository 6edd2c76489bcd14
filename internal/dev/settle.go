package dev

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	pb "lifeboat/api/lifeboat/v1"
)

// lookEvery is the pause between two looks at a cluster that is waited for.
const lookEvery = 150 * time.Millisecond

// Settle waits until every node and host is Up, gives every host its fence
// level, protects every VM, and waits until all of them run and their
// definitions are in the log. say is told what it waits for, when that changes.
func (r *Room) Settle(ctx context.Context, say func(string)) error {
	steps := []func(context.Context) (string, error){r.allUp, r.acceptLeases, r.setFences, r.protectAll, r.allSafe}
	for _, step := range steps {
		if err := r.until(ctx, say, step); err != nil {
			return err
		}
	}
	return nil
}

// until repeats look until it misses nothing. What is missing, or why nobody
// answers, is the error when time is up.
func (r *Room) until(ctx context.Context, say func(string), look func(context.Context) (missing string, err error)) error {
	said := ""
	for {
		missing, err := look(ctx)
		if err == nil && missing == "" {
			return nil
		}
		if err == nil && missing != said && say != nil {
			said = missing
			say(missing)
		}
		if err != nil {
			missing = err.Error()
		}
		select {
		case err := <-r.failed:
			return err
		default:
		}
		if !sleep(ctx, lookEvery) {
			return fmt.Errorf("%w while waiting: %s", context.Cause(ctx), missing)
		}
	}
}

func (r *Room) allUp(ctx context.Context) (string, error) {
	nodes, err := r.cluster.nodes(ctx)
	if err != nil {
		return "", err
	}
	hosts, err := r.cluster.hosts(ctx)
	if err != nil {
		return "", err
	}
	var up []string
	for _, n := range nodes {
		if n.State == "Up" && n.Voter {
			up = append(up, n.Id)
		}
	}
	for _, h := range hosts {
		if h.Status == "Up" {
			up = append(up, h.Id)
		}
	}
	var missing []string
	for _, m := range r.machines {
		for _, name := range []string{m.node, m.name} {
			if name != "" && !slices.Contains(up, name) {
				missing = append(missing, name)
			}
		}
	}
	if len(missing) == 0 {
		return "", nil
	}
	slices.Sort(missing)
	return strings.Join(missing, ", ") + " to be Up", nil
}

// acceptLeases lets the watchdog that these agents have count.
func (r *Room) acceptLeases(ctx context.Context) (string, error) {
	if !r.opts.Lease {
		return "", nil
	}
	_, err := ask(ctx, r.cluster, api.SetPolicy, &pb.SetPolicyRequest{Settings: []*pb.Setting{{Key: "accept_soft_watchdog", Value: "true"}}})
	return "", err
}

// setFences gives every host its power controller.
func (r *Room) setFences(ctx context.Context) (string, error) {
	hosts, err := r.cluster.hosts(ctx)
	if err != nil {
		return "", err
	}
	for _, h := range hosts {
		m := r.machine(h.Id)
		if m == nil || len(h.Fence) > 0 {
			continue
		}
		level := &pb.FenceSpec{
			Driver: "redfish", Address: m.bmc.Address(), User: bmcUser, Password: bmcPassword, Identity: m.uuid,
			Options: map[string]string{"ca_file": r.path("bmc", m.name+".crt")},
		}
		if r.opts.Lease {
			level = &pb.FenceSpec{Driver: "lease"}
		}
		if _, err := ask(ctx, r.cluster, api.SetFence, &pb.SetFenceRequest{Host: h.Id, Levels: []*pb.FenceSpec{level}}); err != nil {
			return "", err
		}
	}
	return "", nil
}

// protectAll protects what does not ask for it in its definition.
func (r *Room) protectAll(ctx context.Context) (string, error) {
	vms, err := r.cluster.vms(ctx)
	if err != nil {
		return "", err
	}
	for _, v := range vms {
		g := r.guest(v.Id)
		if g == nil || g.asked || v.Protected {
			continue
		}
		if _, err := ask(ctx, r.cluster, api.ProtectVM, &pb.ProtectVMRequest{Vm: v.Id, On: true}); err != nil {
			return "", err
		}
	}
	return "", nil
}

// allSafe says what is missing until any host may die.
func (r *Room) allSafe(ctx context.Context) (string, error) {
	vms, err := r.cluster.vms(ctx)
	if err != nil {
		return "", err
	}
	hosts, err := r.cluster.hosts(ctx)
	if err != nil {
		return "", err
	}
	for _, h := range hosts {
		if h.Ha != "Available" {
			return fmt.Sprintf("host %s to be Available (it is %s)", h.Id, h.Ha), nil
		}
		if r.opts.Lease && !h.Lease.GetArmed() {
			return fmt.Sprintf("the lease of host %s", h.Id), nil
		}
	}
	count := func(is func(*pb.VMView) bool) int {
		return len(slices.DeleteFunc(slices.Clone(vms), func(v *pb.VMView) bool { return !is(v) }))
	}
	all := len(r.guests)
	for _, need := range []struct {
		what string
		have int
	}{
		{"VMs to be known", len(vms)},
		{"VMs to run", count(running)},
		{"VMs to be protected", count((*pb.VMView).GetProtected)},
		{"definitions to be stored", count(func(v *pb.VMView) bool { return v.DefinitionHash != "" })},
	} {
		if need.have < all {
			return fmt.Sprintf("%d of %d %s", all-need.have, all, need.what), nil
		}
	}
	return "", nil
}

func running(v *pb.VMView) bool { return v.Power == "PowerOn" && v.WorkId == 0 }
