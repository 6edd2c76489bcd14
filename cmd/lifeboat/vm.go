package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// VMCmd is 'lifeboat vm'.
type VMCmd struct {
	List      VMListCmd      `cmd:"" help:"List the VMs."`
	Show      VMShowCmd      `cmd:"" help:"Show everything about a VM, also why it could not start elsewhere."`
	Protect   VMProtectCmd   `cmd:"" help:"Restart a VM when it or its host fails. Again with other flags changes how."`
	Unprotect VMUnprotectCmd `cmd:"" help:"Leave a VM alone, whatever happens to it."`
	Set       VMSetCmd       `cmd:"" help:"Set who is restarted first, how often it is tried, and what a VM waits for."`
	Start     VMStartCmd     `cmd:"" help:"Start a protected VM where it fits best."`
	Stop      VMStopCmd      `cmd:"" help:"Shut a protected VM down and keep it off."`
	Migrate   VMMigrateCmd   `cmd:"" help:"Move a running VM live to another host."`
	Relocate  VMRelocateCmd  `cmd:"" help:"Stop a VM, and start it on another host."`
	Clear     VMClearCmd     `cmd:"" help:"Clear the error of a VM so that it is tried again."`
}

// VMListCmd is 'lifeboat vm list'.
type VMListCmd struct {
	cli.ReadFlags
	Host      string `placeholder:"HOST" help:"Only VMs on this host."`
	Protected bool   `help:"Only protected VMs."`
}

// Run lists the VMs.
func (c *VMListCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.ListVMsResponse, error) {
		r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListVMs,
			&pb.ListVMsRequest{Stale: c.Stale, Host: c.Host, ProtectedOnly: c.Protected})
		return r, withNames(err, seeHosts)
	}, func(v *cli.View, r *pb.ListVMsResponse) {
		cli.DrawTable(v, vmColumns(), r.Vms, c.nothing())
	})
}

func (c *VMListCmd) nothing() string {
	switch {
	case c.Protected:
		return "No protected VMs here: protect one with 'lifeboat vm protect NAME'."
	case c.Host != "":
		return fmt.Sprintf("No VMs on host %s.", c.Host)
	}
	return "No VMs yet: they appear when the agents report them."
}

func vmColumns() []cli.Column[*pb.VMView] {
	return []cli.Column[*pb.VMView]{
		{Title: "VM", Cell: func(_ *cli.View, vm *pb.VMView) string { return vm.Name }},
		{Title: "UUID", Wide: true, Cell: func(_ *cli.View, vm *pb.VMView) string { return vm.Id }},
		{Title: "HOST", Cell: func(_ *cli.View, vm *pb.VMView) string { return vm.Host }},
		{Title: "POWER", Cell: func(_ *cli.View, vm *pb.VMView) string { return vm.Power }},
		{Title: "WANTED", Cell: func(_ *cli.View, vm *pb.VMView) string { return wantedText(vm) }},
		{Title: "PROTECTED", Cell: func(_ *cli.View, vm *pb.VMView) string { return cli.YesNo(vm.Protected) }},
		{Title: "HA", Cell: func(_ *cli.View, vm *pb.VMView) string { return vm.Ha }},
		{Title: "PRIORITY", Wide: true, Cell: func(_ *cli.View, vm *pb.VMView) string { return vm.Priority }},
		{Title: "INCARNATION", Cell: func(_ *cli.View, vm *pb.VMView) string { return vm.Incarnation }},
		{Title: "CPUS", Wide: true, Cell: func(_ *cli.View, vm *pb.VMView) string { return cpusText(vm.Cpus) }},
		{Title: "MEMORY", Wide: true, Cell: func(_ *cli.View, vm *pb.VMView) string { return memoryText(vm.MemoryBytes) }},
		{Title: "SINCE", Cell: func(v *cli.View, vm *pb.VMView) string { return v.Time(vm.SinceUnixNs) }},
		{Title: "WORK", Cell: func(_ *cli.View, vm *pb.VMView) string { return workOf(vm) }},
		{Title: "REMARK", Cell: func(_ *cli.View, vm *pb.VMView) string { return vmRemark(vm) }},
	}
}

func wantedText(vm *pb.VMView) string {
	switch {
	case !vm.Protected:
		return ""
	case vm.Wanted:
		return "on"
	}
	return "off"
}

func workOf(vm *pb.VMView) string {
	if vm.WorkId == 0 {
		return ""
	}
	return fmt.Sprintf("#%d %s", vm.WorkId, vm.WorkStep)
}

// vmRemark is the one thing worth knowing about a VM in a list.
func vmRemark(vm *pb.VMView) string {
	switch {
	case vm.Error != "":
		return vm.Error
	case vm.Problem != "":
		return vm.Problem
	case vm.Protected && len(vm.Local) > 0:
		return "stays on its host: " + strings.Join(vm.Local, "; ")
	}
	return vm.Reason
}

// cpusText and memoryText leave out what was not reported yet.
func cpusText(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func memoryText(n uint64) string {
	if n == 0 {
		return ""
	}
	return cli.Bytes(n)
}

// VMShowCmd is 'lifeboat vm show'.
type VMShowCmd struct {
	cli.ReadFlags
	VM string `arg:"" name:"vm" help:"Name or UUID of the VM."`
}

// Run shows one VM.
func (c *VMShowCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.VMView, error) {
		r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListVMs, &pb.ListVMsRequest{Stale: c.Stale, Vm: c.VM})
		if err != nil {
			return nil, withNames(err, seeVMs)
		}
		return pickVM(r.Vms, c.VM)
	}, drawVM)
}

// pickVM finds the one VM that is meant: libvirt's names are unique on a host
// only, a UUID is unique.
func pickVM(vms []*pb.VMView, name string) (*pb.VMView, error) {
	var found []*pb.VMView
	for _, vm := range vms {
		if strings.EqualFold(vm.Id, name) {
			return vm, nil
		}
		if vm.Name == name {
			found = append(found, vm)
		}
	}
	switch len(found) {
	case 0:
		return nil, notFound("VM", name, seeVMs)
	case 1:
		return found[0], nil
	}
	var ids []string
	for _, vm := range found {
		ids = append(ids, vm.Id+" on "+vm.Host)
	}
	return nil, &cli.Error{Exit: cli.ExitRefused, Text: fmt.Sprintf("%d VMs are named %q: %s", len(found), name, cli.Joined(ids)), Do: "use the UUID"}
}

// notLive is said of a VM that may not be migrated live.
func notLive(vm *pb.VMView) string {
	if vm.NoLiveMigration {
		return "no: live_migration is false for it"
	}
	return ""
}

// guestText says how the guest of a VM is watched.
func guestText(vm *pb.VMView) string {
	if vm.GuestHealth == "" || vm.GuestHealth == "none" {
		return ""
	}
	text := vm.GuestHealth
	if text != "watchdog" {
		agent := "its agent has answered"
		if !vm.GuestAnswers {
			agent = "its agent has not answered yet"
		}
		text += fmt.Sprintf(": silent for %s, %s after a start; %s", cli.Millis(vm.GuestTimeoutMs), cli.Millis(vm.GuestGraceMs), agent)
	}
	return text
}

func drawVM(v *cli.View, vm *pb.VMView) {
	protected := cli.YesNo(vm.Protected)
	if vm.ProtectedBy != "" {
		protected += ", by " + vm.ProtectedBy
	}
	elsewhere := ""
	if vm.Protected {
		elsewhere = "yes"
		if len(vm.Local) > 0 {
			elsewhere = "no: " + strings.Join(vm.Local, "; ")
		}
	}
	definition := ""
	if vm.DefinitionHash != "" {
		definition = fmt.Sprintf("%s, committed %s", vm.DefinitionHash, v.Time(vm.DefinitionUnixNs))
	}
	limits := ""
	if vm.Protected {
		limits = fmt.Sprintf("%s in place, then %s elsewhere", cli.Count(vm.MaxRestart, "restart"), cli.Count(vm.MaxRelocate, "start"))
	}
	gate := ""
	if vm.Gate != "" && vm.Gate != "running" {
		gate = fmt.Sprintf("%s, waited for %s at most", vm.Gate, time.Duration(vm.GateTimeoutMs)*time.Millisecond)
	}
	var numbers []string
	for _, n := range vm.Rules {
		numbers = append(numbers, fmt.Sprint(n))
	}
	rules := cli.Joined(numbers)
	v.Fields(
		[2]string{"VM", vm.Name},
		[2]string{"UUID", vm.Id},
		[2]string{"Host", vm.Host},
		[2]string{"Power", withReason(vm.Power, vm.Reason)},
		[2]string{"Since", v.Time(vm.SinceUnixNs)},
		[2]string{"Protected", protected},
		[2]string{"Wanted", wantedText(vm)},
		[2]string{"HA", vm.Ha},
		[2]string{"Priority", vm.Priority},
		[2]string{"Limits", limits},
		[2]string{"Starts after", cli.Joined(vm.DependsOn)},
		[2]string{"Gate", gate},
		[2]string{"Guest health", guestText(vm)},
		[2]string{"Rules", rules},
		[2]string{"Goes back to", vm.Home},
		[2]string{"Live migration", notLive(vm)},
		[2]string{"Starts elsewhere", elsewhere},
		[2]string{"Incarnation", vm.Incarnation},
		[2]string{"Work", workOf(vm)},
		[2]string{"CPUs", cpusText(vm.Cpus)},
		[2]string{"Memory", memoryText(vm.MemoryBytes)},
		[2]string{"Machine type", vm.Machine},
		[2]string{"Storage", cli.Joined(vm.Storages)},
		[2]string{"Networks", cli.Joined(vm.Networks)},
		[2]string{"Definition", definition},
		[2]string{"Problem", vm.Problem},
		[2]string{"Error", vm.Error},
	)
}
