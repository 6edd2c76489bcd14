package session

import (
	"cmp"
	"fmt"

	"lifeboat/hypervisor"
)

func (s *Session) operate(v *vm, k opKind, a Action) {
	v.op = k
	s.do(a)
}

// OpResult is how an operation on a VM ended.
type OpResult struct {
	ID  hypervisor.UUID
	Err error
}

// OpDone answers the actions that end in VM, and ClearAutostart.
func (s *Session) OpDone(now Instant, r OpResult) Out {
	s.begin(now)
	v := s.vms[r.ID]
	if v == nil || v.op == opNone {
		return s.step()
	}
	op := v.op
	v.op, v.opEnd = opNone, s.tick
	s.poll.want = true
	if r.Err == nil {
		v.failed = ""
	}
	if r.Err != nil {
		v.retry = now.Add(retryOp)
		level := Warn
		if r.Err.Error() == v.failed {
			level = Debug // it is tried every second: once said, it is known
		}
		v.failed = r.Err.Error()
		s.note(level, "an operation on a VM failed; it is tried again", "vm", cmp.Or(v.name, v.id.String()), "uuid", v.id.String(), "error", r.Err)
	}
	switch op {
	case opStart:
		s.startDone(v, r.Err)
	case opRemove:
		if r.Err == nil {
			s.removeDone(v)
		}
	case opResume:
		s.resumeDone(v, r.Err)
	case opStop:
		if r.Err != nil {
			v.stopping.asked = false
		}
	}
	return s.step()
}

func failureText(err error) string {
	const most = 1000
	t := err.Error()
	if len(t) > most {
		t = fmt.Sprintf("%s… (%d bytes)", t[:most], len(t))
	}
	return t
}
