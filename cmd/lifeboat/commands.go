package main

import (
	"lifeboat/internal/cli"
)

// CLI is the whole command line. Each command lives in the file of its group.
type CLI struct {
	cli.Globals

	Status   StatusCmd   `cmd:"" group:"Look:" help:"Show the state of the cluster in a few lines."`
	Explain  ExplainCmd  `cmd:"" group:"Look:" help:"Say in sentences what happened to a VM, a host or a work item, and why."`
	Plan     PlanCmd     `cmd:"" group:"Look:" help:"What would happen if hosts failed or were put into maintenance. Nothing is done."`
	Incident IncidentCmd `cmd:"" group:"Look:" help:"Failures that were: timeline, evidence, downtime of each VM, slowest step."`
	Event    EventCmd    `cmd:"" group:"Look:" help:"What happened: decisions, failures and what operators did."`

	Host     HostCmd     `cmd:"" group:"Manage:" help:"Hypervisor hosts: see, drain, fence, declare dead."`
	Fence    FenceCmd    `cmd:"" group:"Manage:" help:"Try how a host would be proven dead."`
	VM       VMCmd       `cmd:"" name:"vm" group:"Manage:" help:"Virtual machines: see, protect, start, stop."`
	Rule     RuleCmd     `cmd:"" group:"Manage:" help:"Rules of placement: which VMs run together, apart, or on certain hosts."`
	Work     WorkCmd     `cmd:"" group:"Manage:" help:"HA work: restarts and what else is being done about failures."`
	Alert    AlertCmd    `cmd:"" group:"Manage:" help:"What an operator should know about."`
	Notify   NotifyCmd   `cmd:"" group:"Manage:" help:"Who is told of alerts, and when not."`
	Node     NodeCmd     `cmd:"" group:"Manage:" help:"Management nodes."`
	Policy   PolicyCmd   `cmd:"" group:"Manage:" help:"Cluster-wide settings."`
	Usage    UsageCmd    `cmd:"" group:"Manage:" help:"What is charged to whom: records, events, repair."`
	Snapshot SnapshotCmd `cmd:"" group:"Manage:" help:"Back up the cluster's state, and restore it."`
	HA       HACmd       `cmd:"" name:"ha" group:"Manage:" help:"Arm or disarm failover of the whole cluster."`

	Replay ReplayCmd `cmd:"" group:"Look:" help:"Rebuild the state from a stopped server's log, check what was decided, and what another policy would have changed. Works offline."`
	Sim    SimCmd    `cmd:"" group:"Try out:" help:"Run scenarios in virtual time, with the real decisions and nothing real at stake."`

	Token    TokenCmd    `cmd:"" group:"Set up:" help:"Let servers, agents and operators join."`
	Operator OperatorCmd `cmd:"" group:"Set up:" help:"Who may do what."`
	Login    LoginCmd    `cmd:"" group:"Set up:" help:"Become an operator of a cluster, by a token."`

	Server   ServerCmd   `cmd:"" group:"Run:" help:"Run a management node."`
	Agent    AgentCmd    `cmd:"" group:"Run:" help:"Run the agent of a host."`
	Dev      DevCmd      `cmd:"" group:"Run:" help:"Run a cluster on this machine to play with, or drill its failures."`
	Hook     HookCmd     `cmd:"" group:"Run:" help:"Keep libvirt from starting protected VMs behind our back."`
	Watchdog WatchdogCmd `cmd:"" name:"agent-watchdog" hidden:"" help:"The process behind an agent's external watchdog."`

	CA         CACmd         `cmd:"" name:"ca" group:"Set up:" help:"Make the cluster's certificates. Works offline."`
	Config     ConfigCmd     `cmd:"" group:"Set up:" help:"Print a complete configuration, or check one and the machine it is for."`
	Completion CompletionCmd `cmd:"" group:"Set up:" help:"Print a completion script for a shell."`
	Man        ManCmd        `cmd:"" hidden:"" help:"Print the manual page."`
	Version    VersionCmd    `cmd:"" group:"Set up:" help:"Show which lifeboat this is."`
}
