package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
	"lifeboat/ha/foresee"
)

// write commits a command of the operator who asks, unless a policy of the cluster has
// something against it.
func (t *term) write(ctx context.Context, cmd *logpb.Command, message string) (*lifeboatv1.WriteResponse, error) {
	if line := foresee.LineOf(t.node.fsm.State(), cmd); line != foresee.NoLine {
		return t.admit(ctx, line, cmd, message)
	}
	return t.record(ctx, cmd, message)
}

// record commits a command under the request id, if there is one.
func (t *term) record(ctx context.Context, cmd *logpb.Command, message string) (*lifeboatv1.WriteResponse, error) {
	askedIn(ctx).under(cmd)
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	r, err := t.propose(ctx, actor(ctx), cmd)
	if err != nil {
		return nil, err
	}
	if r.Repeated {
		return doneBefore(r.Index, "")
	}
	return &lifeboatv1.WriteResponse{Index: r.Index, Message: message}, nil
}

func (t *term) setPolicy(ctx context.Context, q *lifeboatv1.SetPolicyRequest) (*lifeboatv1.WriteResponse, error) {
	c := &logpb.PolicySet{}
	for _, s := range q.Settings {
		if s.Key == "usage_timezone" {
			if err := checkZone(s.Value); err != nil {
				return nil, err
			}
		}
		c.Settings = append(c.Settings, &logpb.Setting{Key: valid(s.Key), Value: valid(s.Value)})
	}
	return t.write(ctx, &logpb.Command{Body: &logpb.Command_PolicySet{PolicySet: c}}, "")
}

func (t *term) protectVM(ctx context.Context, q *lifeboatv1.ProtectVMRequest) (*lifeboatv1.WriteResponse, error) {
	v, h, err := findVM(t.node.fsm.State(), q.Vm)
	if err != nil {
		return nil, err
	}
	c := &logpb.VMProtect{Vm: v.ID[:], Protect: &logpb.Protection{On: q.On, Ha: valid(q.Ha), Priority: valid(q.Priority), MaxRestart: q.MaxRestart, MaxRelocate: q.MaxRelocate,
		Failback: q.Failback, LiveMigration: q.LiveMigration}}
	message := fmt.Sprintf("VM %s on host %s is no longer protected", v.Name, h.ID)
	if q.On {
		message = fmt.Sprintf("VM %s on host %s is protected", v.Name, h.ID)
		switch {
		case v.Spec != nil && len(v.Spec.Local) > 0:
			message += "; but it cannot start elsewhere: " + strings.Join(v.Spec.Local, ", ") + ". If its host dies it waits for the host"
		case v.Spec == nil:
			message += "; its definition is read within the next beats"
		}
	}
	return t.write(ctx, &logpb.Command{Body: &logpb.Command_VmProtect{VmProtect: c}}, message)
}

func (t *term) controlVM(ctx context.Context, q *lifeboatv1.ControlVMRequest) (*lifeboatv1.WriteResponse, error) {
	v, _, err := findVM(t.node.fsm.State(), q.Vm)
	if err != nil {
		return nil, err
	}
	if q.Action == "migrate" || q.Action == "relocate" {
		return t.moveVM(ctx, v, q.Target, q.Action == "migrate")
	}
	action := map[string]uint32{"start": fsm.VMStart, "stop": fsm.VMStop, "force-stop": fsm.VMForceStop, "clear": fsm.VMClear}[q.Action]
	if action == 0 {
		return nil, refuse("%q is no action on a VM; it is start, stop, force-stop, clear, migrate or relocate", q.Action)
	}
	cmd := &logpb.Command{Body: &logpb.Command_VmControl{VmControl: &logpb.VMControl{Vm: v.ID[:], Action: action}}}
	message := fmt.Sprintf("%s of VM %s is under way; `lifeboat work list` shows it", q.Action, v.Name)
	return t.write(ctx, cmd, message)
}

// moveVM has a VM moved by an operator: placement is asked first, so that what cannot
// be is refused and not tried.
func (t *term) moveVM(ctx context.Context, v *fsm.VM, target string, live bool) (*lifeboatv1.WriteResponse, error) {
	steps, no := ha.Move(t.node.fsm.State(), t.soft(), t.now(), v.ID, fsm.HostID(target), live)
	if no != "" {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New(no))
	}
	kind, how := uint32(fsm.MoveRelocate), "is stopped and started on"
	if live {
		kind, how = fsm.MoveLive, "migrates live to"
	}
	command := func(x ha.Step) *logpb.Command {
		return &logpb.Command{Body: &logpb.Command_VmMove{VmMove: &logpb.VMMove{Vm: x.VM[:], Kind: kind, Target: string(x.To), Why: x.Why}}}
	}
	with := ""
	if n := len(steps) - 1; n > 0 {
		with = fmt.Sprintf("; %d more move with it, as a strict rule asks", n)
	}
	r, err := t.write(ctx, command(steps[0]), fmt.Sprintf("VM %s %s host %s (%s)%s; `lifeboat vm show %s` shows how far it is", v.Name, how, steps[0].To, steps[0].Why, with, v.Name))
	if err != nil {
		return nil, err
	}
	// Those that move with it have no request id: what a repetition finds done is done,
	// and what does not come to pass here is a broken rule, which the leader mends.
	for _, x := range steps[1:] {
		if _, err := t.propose(ctx, actor(ctx), command(x)); err != nil {
			t.log.Warn("a VM does not move with the others of its rule", "vm", x.VM, "reason", err)
		}
	}
	return r, nil
}

func (t *term) controlHost(ctx context.Context, q *lifeboatv1.ControlHostRequest) (*lifeboatv1.WriteResponse, error) {
	s := t.node.fsm.State()
	h := s.Host(fsm.HostID(q.Host))
	if q.Action == "admit" {
		return t.write(ctx, &logpb.Command{Body: &logpb.Command_HostControl{HostControl: &logpb.HostControl{Host: valid(q.Host), Action: fsm.HostAdmit}}},
			fmt.Sprintf("host %s may register again", q.Host))
	}
	if q.Action == "remove" && q.Force && (h == nil || h.Status != fsm.Removed) {
		return t.write(ctx, &logpb.Command{Body: &logpb.Command_HostControl{HostControl: &logpb.HostControl{Host: valid(q.Host), Action: fsm.HostRemove, Force: true}}},
			fmt.Sprintf("host %s is removed, and refused from now on whatever certificate it shows", q.Host))
	}
	if h == nil || h.Status == fsm.Removed {
		return nil, notFound("there is no host %s; `lifeboat host list` shows them", q.Host)
	}
	if q.Action == "confirm-dead" {
		return t.confirmDead(ctx, h, q.Force)
	}
	action := map[string]uint32{"enable": fsm.HostEnable, "disable": fsm.HostDisable, "maintenance-on": fsm.HostMaintenanceOn,
		"maintenance-off": fsm.HostMaintenanceOff, "remove": fsm.HostRemove}[q.Action]
	if action == 0 {
		return nil, refuse("%q is no action on a host; it is enable, disable, maintenance-on, maintenance-off, remove, admit or confirm-dead", q.Action)
	}
	cmd := &logpb.Command{Body: &logpb.Command_HostControl{HostControl: &logpb.HostControl{Host: q.Host, Action: action, Force: q.Force && action == fsm.HostMaintenanceOn}}}
	return t.write(ctx, cmd, "")
}

// confirmDead is an operator's word that a host is dead: proof, if nothing is
// heard from it (S24).
func (t *term) confirmDead(ctx context.Context, h *fsm.Host, force bool) (*lifeboatv1.WriteResponse, error) {
	quiet, ok := t.contacts.lastHeard(h.ID, t.mono())
	if ok && quiet < t.node.fsm.State().Policy.SuspectAfter() && !force {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf(
			"host %s was heard %.1f s ago: it is not dead, and its VMs would run twice; cut its power first (--force overrides this)", h.ID, quiet.Seconds()))
	}
	n := h.RunsProtected()
	return t.write(ctx, &logpb.Command{Body: &logpb.Command_HostFenced{HostFenced: &logpb.HostFenced{
		Host: string(h.ID), Epoch: h.Epoch, Force: force, Proof: &logpb.Proof{Kind: uint32(fsm.ProofOperator), By: "operator", Detail: "declared dead by hand"}}}},
		fmt.Sprintf("host %s is taken to be dead; %d protected VMs start elsewhere", h.ID, n))
}

func (t *term) controlWork(ctx context.Context, q *lifeboatv1.ControlWorkRequest) (*lifeboatv1.WriteResponse, error) {
	action := map[string]uint32{"cancel": fsm.WorkCancel, "retry": fsm.WorkRetry}[q.Action]
	if action == 0 {
		return nil, refuse("%q is no action on work; it is cancel or retry", q.Action)
	}
	return t.write(ctx, &logpb.Command{Body: &logpb.Command_WorkUpdate{WorkUpdate: &logpb.WorkUpdate{Work: q.Id, Action: action}}}, "")
}

func (t *term) controlHA(ctx context.Context, q *lifeboatv1.ControlHARequest) (*lifeboatv1.WriteResponse, error) {
	switch q.Action {
	case "arm":
		return t.write(ctx, &logpb.Command{Body: &logpb.Command_Arm{Arm: &logpb.Arm{Armed: true, Force: q.Force}}}, "HA is armed")
	case "disarm":
		if q.Ignore {
			return t.write(ctx, &logpb.Command{Body: &logpb.Command_Arm{Arm: &logpb.Arm{Ignore: true}}}, "HA is disarmed, and what happens to VMs is nobody's business until `lifeboat ha arm`")
		}
		return t.write(ctx, &logpb.Command{Body: &logpb.Command_Arm{Arm: &logpb.Arm{}}}, "HA is disarmed: nothing is fenced or restarted until `lifeboat ha arm`")
	case "accept-time":
		return t.write(ctx, &logpb.Command{Body: &logpb.Command_AcceptTime{AcceptTime: &logpb.AcceptTime{}}},
			"the cluster's time is "+t.node.clock().UTC().Format(time.RFC3339))
	}
	return nil, refuse("%q is no action on HA; it is arm, disarm or accept-time", q.Action)
}
