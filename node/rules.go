package node

import (
	"context"
	"fmt"
	"strings"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

func (n *Node) readRules(_ *term, _ context.Context, _ *lifeboatv1.ListRulesRequest) (*lifeboatv1.ListRulesResponse, error) {
	s := n.fsm.State()
	r := &lifeboatv1.ListRulesResponse{Index: s.Index}
	for id, x := range s.Rules() {
		v := &lifeboatv1.RuleView{Id: uint64(id), Kind: x.Kind.String(), Strict: x.Strict, Broken: ha.Broken(s, x), SinceUnixNs: x.Since, By: x.By}
		v.Kept = v.Broken == ""
		for _, m := range x.Members {
			vm, _ := s.VM(m.VM)
			one := &lifeboatv1.RuleVM{Id: m.VM.String(), Name: s.Called(m), Unknown: vm == nil}
			if at := s.Where(m.VM); len(at) > 0 {
				one.Host = string(at[0])
			}
			v.Vms = append(v.Vms, one)
		}
		for _, c := range x.Hosts {
			v.Hosts = append(v.Hosts, &lifeboatv1.RuleHost{Host: c.Host, Priority: c.Priority})
		}
		r.Rules = append(r.Rules, v)
	}
	return r, nil
}

// ruleView says of a VM what rules and the order of starts have to do with it.
func ruleView(s *fsm.State, v *fsm.VM, out *lifeboatv1.VMView) {
	o := v.Order()
	for _, id := range o.DependsOn {
		name := id.String()
		if x, _ := s.VM(id); x != nil {
			name = x.Name
		}
		out.DependsOn = append(out.DependsOn, name)
	}
	out.Gate, out.GateTimeoutMs = o.GateText(), o.Timeout.Milliseconds()
	for _, r := range s.RulesOf(v.ID) {
		out.Rules = append(out.Rules, uint64(r.ID))
	}
}

func (t *term) addRule(ctx context.Context, q *lifeboatv1.AddRuleRequest) (*lifeboatv1.WriteResponse, error) {
	s := t.node.fsm.State()
	r := &logpb.Rule{Strict: !q.Soft}
	for k := fsm.RuleTogether; k <= fsm.RuleHosts; k++ {
		if k.String() == q.Kind {
			r.Kind = uint32(k)
		}
	}
	if r.Kind == 0 {
		return nil, refuse("%q is no kind of rule; it is together, apart or hosts", q.Kind)
	}
	for _, name := range q.Vms {
		v, _, err := findVM(s, name)
		if err != nil {
			return nil, err
		}
		r.Vms = append(r.Vms, v.ID[:])
	}
	for _, h := range q.Hosts {
		r.Hosts = append(r.Hosts, &logpb.HostChoice{Host: valid(h.Host), Priority: h.Priority})
	}
	w, err := t.write(ctx, &logpb.Command{Body: &logpb.Command_RuleAdd{RuleAdd: &logpb.RuleAdd{Rule: r}}}, "")
	if err != nil || w.DoneBefore {
		return w, err
	}
	now := t.node.fsm.State()
	for _, x := range now.Rules() {
		if x.Index != w.Index {
			continue
		}
		w.Message = now.Describe(x) + " is written"
		if why := ha.Broken(now, x); why != "" && x.Strict {
			w.Message += "; it is broken as things are: " + why + mending(now, x.ID)
		}
	}
	return w, nil
}

// mending says what is done about a strict rule that is broken as things are.
func mending(s *fsm.State, id fsm.RuleID) string {
	if !s.Armed {
		return ". HA is disarmed: nothing is moved until it is armed"
	}
	text := ""
	for _, r := range ha.Repairs(s) {
		switch {
		case r.Rule != id:
		case r.To == "":
			text += fmt.Sprintf("; %s stays there: %s", s.Called(fsm.RuleVM{VM: r.VM}), r.Why)
		default:
			text += fmt.Sprintf("; %s is migrated to host %s", s.Called(fsm.RuleVM{VM: r.VM}), r.To)
		}
	}
	return text
}

func (t *term) removeRule(ctx context.Context, q *lifeboatv1.RemoveRuleRequest) (*lifeboatv1.WriteResponse, error) {
	return t.write(ctx, &logpb.Command{Body: &logpb.Command_RuleRemove{RuleRemove: &logpb.RuleRemove{Id: q.Id}}}, fmt.Sprintf("rule %d is removed", q.Id))
}

func (t *term) setVM(ctx context.Context, q *lifeboatv1.SetVMRequest) (*lifeboatv1.WriteResponse, error) {
	s := t.node.fsm.State()
	v, _, err := findVM(s, q.Vm)
	if err != nil {
		return nil, err
	}
	c := &logpb.VMSet{Vm: v.ID[:]}
	for _, x := range q.Settings {
		value := valid(x.Value)
		if x.Key == "depends_on" {
			if value, err = uuidsOf(s, value); err != nil {
				return nil, err
			}
		}
		c.Settings = append(c.Settings, &logpb.Setting{Key: valid(x.Key), Value: value})
	}
	return t.write(ctx, &logpb.Command{Body: &logpb.Command_VmSet{VmSet: c}}, fmt.Sprintf("VM %s is treated like that from now on", v.Name))
}

// uuidsOf makes UUIDs of the names of VMs: the log means VMs by UUIDs.
func uuidsOf(s *fsm.State, names string) (string, error) {
	if names == "" || names == "none" {
		return "", nil
	}
	var ids []string
	for _, name := range strings.Split(names, ",") {
		v, _, err := findVM(s, strings.TrimSpace(name))
		if err != nil {
			return "", err
		}
		ids = append(ids, v.ID.String())
	}
	return strings.Join(ids, ","), nil
}
