package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

const seeRules = "'lifeboat rule list' shows the rules"

// RuleCmd is 'lifeboat rule'.
type RuleCmd struct {
	List   RuleListCmd   `cmd:"" help:"List the rules of placement, and whether they are kept."`
	Add    RuleAddCmd    `cmd:"" help:"Write a rule: VMs together, apart, or on certain hosts. One that can never be kept is refused."`
	Remove RuleRemoveCmd `cmd:"" help:"Remove a rule."`
}

// RuleListCmd is 'lifeboat rule list'.
type RuleListCmd struct{ cli.ReadFlags }

// Run lists the rules.
func (c *RuleListCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.ListRulesResponse, error) {
		return cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListRules, &pb.ListRulesRequest{Stale: c.Stale})
	}, func(v *cli.View, r *pb.ListRulesResponse) {
		cli.DrawTable(v, []cli.Column[*pb.RuleView]{
			{Title: "RULE", Cell: func(_ *cli.View, r *pb.RuleView) string { return fmt.Sprint(r.Id) }},
			{Title: "KIND", Cell: func(_ *cli.View, r *pb.RuleView) string { return r.Kind }},
			{Title: "STRICT", Cell: func(_ *cli.View, r *pb.RuleView) string { return cli.YesNo(r.Strict) }},
			{Title: "VMS", Cell: func(_ *cli.View, r *pb.RuleView) string { return ruleVMs(r) }},
			{Title: "HOSTS", Cell: func(_ *cli.View, r *pb.RuleView) string { return ruleHosts(r) }},
			{Title: "KEPT", Cell: func(_ *cli.View, r *pb.RuleView) string { return cli.YesNo(r.Kept) }},
			{Title: "WRITTEN", Wide: true, Cell: func(v *cli.View, r *pb.RuleView) string { return v.Time(r.SinceUnixNs) }},
			{Title: "BY", Wide: true, Cell: func(_ *cli.View, r *pb.RuleView) string { return r.By }},
			{Title: "REMARK", Cell: func(_ *cli.View, r *pb.RuleView) string { return r.Broken }},
		}, r.Rules, "There are no rules: VMs are placed by what they need and by the policy 'placement'.")
	})
}

func ruleVMs(r *pb.RuleView) string {
	var names []string
	for _, m := range r.Vms {
		name := m.Name
		if m.Unknown {
			name += " (gone)"
		}
		names = append(names, name)
	}
	return cli.Joined(names)
}

func ruleHosts(r *pb.RuleView) string {
	var names []string
	for _, h := range r.Hosts {
		name := h.Host
		if h.Priority != 0 {
			name += fmt.Sprintf(":%d", h.Priority)
		}
		names = append(names, name)
	}
	return cli.Joined(names)
}

// RuleAddCmd is 'lifeboat rule add'.
type RuleAddCmd struct {
	Kind string   `arg:"" enum:"together,apart,hosts" help:"What the rule asks for: ${enum}."`
	VMs  []string `arg:"" name:"vm" help:"Names or UUIDs of the VMs."`
	On   []string `name:"on" placeholder:"HOST[:PRIORITY]" help:"Of a rule 'hosts': a host, or all with a label (rack=a); the one with the highest priority is taken first. Can be repeated."`
	Soft bool     `help:"A preference: it gives way when nothing else is left."`
}

// Run writes a rule.
func (c *RuleAddCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	q := &pb.AddRuleRequest{Kind: c.Kind, Vms: c.VMs, Soft: c.Soft}
	for _, text := range c.On {
		h := &pb.RuleHost{Host: text}
		if i := strings.LastIndexByte(text, ':'); i >= 0 {
			n, err := strconv.ParseInt(text[i+1:], 10, 32)
			if err != nil {
				return cli.Usage("write for example --on n1:2", "--on %s: %q is no priority", text, text[i+1:])
			}
			h.Host, h.Priority = text[:i], int32(n)
		}
		q.Hosts = append(q.Hosts, h)
	}
	switch {
	case c.Kind == "hosts" && len(q.Hosts) == 0:
		return cli.Usage("write for example 'lifeboat rule add hosts web --on n1:2 --on n2:1'", "a rule about hosts names hosts")
	case c.Kind != "hosts" && len(q.Hosts) > 0:
		return cli.Usage("write a second rule for the hosts", "--on belongs to rules about hosts")
	}
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.AddRule, q, "the rule is written", seeVMs)
}

// RuleRemoveCmd is 'lifeboat rule remove'.
type RuleRemoveCmd struct {
	Rule uint64 `arg:"" help:"Number of the rule; 'lifeboat rule list' shows it."`
}

// Run removes a rule.
func (c *RuleRemoveCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.RemoveRule, &pb.RemoveRuleRequest{Id: c.Rule}, fmt.Sprintf("rule %d is removed", c.Rule), seeRules)
}

// VMSetCmd is 'lifeboat vm set'.
type VMSetCmd struct {
	VM    string `arg:"" name:"vm" help:"Name or UUID of the VM."`
	Key   string `arg:"" enum:"ha,priority,max_restart,max_relocate,depends_on,gate,gate_timeout,guest_health,guest_timeout,guest_grace" help:"What to set: ha, priority, max_restart, max_relocate, depends_on, gate, gate_timeout, guest_health, guest_timeout or guest_grace."`
	Value string `arg:"" help:"Its value. depends_on: VMs with commas between them, or none; gate: order, running, agent (the guest's answers), or a time that it has run, like 30s; guest_health: none, ping (its guest hangs when its agent falls silent), watchdog (when its watchdog fires), or both; guest_timeout, guest_grace: times, like 1m."`
}

// Run changes how a VM is treated.
func (c *VMSetCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.SetVM,
		&pb.SetVMRequest{Vm: c.VM, Settings: []*pb.Setting{{Key: c.Key, Value: c.Value}}}, fmt.Sprintf("%s of VM %s is %s", c.Key, c.VM, c.Value), seeVMs)
}
