package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fence"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// setFence replaces a host's fence levels. Every power controller is tried now,
// by whoever executes its level: one that controls another machine is refused, and
// what it says of its machine is pinned where nobody has named it (S9).
func (t *term) setFence(ctx context.Context, q *lifeboatv1.SetFenceRequest) (*lifeboatv1.WriteResponse, error) {
	s := t.node.fsm.State()
	old := s.Host(fsm.HostID(q.Host))
	if old == nil || old.Status == fsm.Removed {
		return nil, notFound("there is no host %s; it must register once before it can be given fence levels", q.Host)
	}
	h := *old
	h.Fence = nil
	wrong := func(i int, l *lifeboatv1.FenceSpec, err error) error {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("fence level %d (%s): %w", i+1, l.Driver, err))
	}
	for i, l := range q.Levels {
		level, err := t.level(s, &h, l)
		if err != nil {
			return nil, wrong(i, l, err)
		}
		h.Fence = append(h.Fence, level)
	}
	var tests []tested
	for _, a := range ha.Active(s, t.soft(), t.now(), &h) {
		x, err := t.introduce(ctx, &h, a)
		if err != nil {
			return nil, wrong(a.Index, q.Levels[a.Index], err)
		}
		tests = append(tests, x)
	}
	c := &logpb.HostFenceLevels{Host: q.Host}
	for _, l := range h.Fence {
		out := &logpb.FenceLevel{Driver: l.Driver, Address: l.Address, User: l.User, Secret: l.Secret, Identity: l.Identity, TimeoutNs: l.TimeoutNS,
			Executor: l.Executor, Pinned: l.Pinned}
		for _, o := range l.Options {
			out.Options = append(out.Options, &logpb.Setting{Key: o.Key, Value: o.Value})
		}
		c.Levels = append(c.Levels, out)
	}
	c.Checks = checks(tests) // the first ones: what has just been found out
	return t.write(ctx, &logpb.Command{Body: &logpb.Command_HostFenceLevels{HostFenceLevels: c}}, setText(&h, tests))
}

func setText(h *fsm.Host, tests []tested) string {
	if len(h.Fence) == 0 {
		return fmt.Sprintf("host %s has no fence level: nothing proves it dead but an operator", h.ID)
	}
	told := make([]string, len(h.Fence))
	for i, l := range h.Fence {
		told[i] = l.Driver
		if l.Identity != "" {
			told[i] += " (machine " + l.Identity + ")"
		}
	}
	for _, x := range tests {
		if x.failure != "" {
			told[x.index] += ", NOT PROVEN TO WORK: " + x.failure
		}
	}
	return fmt.Sprintf("fence levels of host %s: %s", h.ID, strings.Join(told, ", "))
}

// level reads one level and checks what can be checked without its controller.
func (t *term) level(s *fsm.State, h *fsm.Host, l *lifeboatv1.FenceSpec) (fsm.FenceLevel, error) {
	out := fsm.FenceLevel{Driver: valid(l.Driver), Address: valid(l.Address), User: valid(l.User), Identity: valid(l.Identity),
		TimeoutNS: l.TimeoutMs * int64(time.Millisecond), Executor: valid(l.Executor), Pinned: l.Identity != ""}
	if !out.Active() {
		return out, nil
	}
	for _, k := range sortedKeys(l.Options) {
		out.Options = append(out.Options, fsm.Setting{Key: valid(k), Value: valid(l.Options[k])})
	}
	if l.Password != "" {
		out.Secret = t.node.sealer.seal([]byte(l.Password), secretOf(h.ID))
	}
	if id, ok := strings.CutPrefix(out.By(), fsm.ExecHost); ok {
		if p := s.Host(fsm.HostID(id)); p == nil || p.Status == fsm.Removed {
			return out, fmt.Errorf("it is to be executed by host %s, and there is none; `lifeboat host list` shows them", id)
		}
	}
	_, err := t.node.deps.Fences.Open(fence.Target{Driver: l.Driver, Address: l.Address, User: l.User, Password: fence.NewSecret(l.Password), Options: l.Options})
	return out, err
}

// introduce has a level's controller say which machine it controls, pins that
// where nobody has named it, and tries the path.
func (t *term) introduce(ctx context.Context, h *fsm.Host, a ha.Level) (tested, error) {
	l := &h.Fence[a.Index]
	x := tested{index: a.Index}
	if !l.Pinned {
		limited, cancel := context.WithTimeout(ctx, testTimeout)
		o, _ := t.use(limited, h, *l, a.Via, fence.TaskIdentify)
		cancel()
		if o.Failure != "" {
			return x, fmt.Errorf("the machine behind it could not be asked for: %s; mend that, or name the machine with identity", valid(o.Failure))
		}
		if otherMachine(h, o.Identity) {
			return x, fmt.Errorf("it controls machine %s, but the host says of itself that it is %s: is the address right? If both are one machine, name it with identity=%s", valid(o.Identity), h.HardwareID, valid(o.Identity))
		}
		l.Identity = valid(o.Identity)
	}
	x.level = *l
	limited, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	x.out, x.by = t.use(limited, h, *l, a.Via, fence.TaskProbe)
	x.failure = valid(x.out.Failure)
	if x.out.Reason == fence.IdentityMismatch || x.out.Reason == fence.IdentityUnknown {
		return x, errors.New(x.failure)
	}
	return x, nil
}
