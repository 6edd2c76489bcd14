package sim

import (
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha/foresee"
)

// docket is where commands wait for each other that a policy judges. It mirrors node's.
type docket struct {
	busy    bool // from the look at what a command would break until it is written
	waiting []asked
}

// asked is a command of an operator and whoever waits for how it ends.
type asked struct {
	cmd *logpb.Command
	end func(error)
}

// write commits a command of an operator, unless a policy of the cluster has something
// against it. It mirrors node's write.
func (t *term) write(a asked) {
	if l := foresee.LineOf(t.state(), a.cmd); l != foresee.NoLine {
		t.admit(&t.admission[l], a)
		return
	}
	t.record(a)
}

func (t *term) record(a asked) {
	t.propose("operator/sim", a.cmd, func(_ fsm.Result, err error) { a.end(err) })
}

// admit is record for a command that is judged. There is always time for it: thinking
// takes none of the world's.
func (t *term) admit(l *docket, a asked) {
	if l.busy {
		l.waiting = append(l.waiting, a)
		return
	}
	if no := foresee.Admit(t.state(), a.cmd, func() bool { return false }); no != "" {
		a.end(&rejected{no})
		return
	}
	l.busy = true
	t.record(asked{a.cmd, func(err error) {
		a.end(err)
		t.admitted(l)
	}})
}

// admitted lets those in that wait, until one of them is being written.
func (t *term) admitted(l *docket) {
	l.busy = false
	for len(l.waiting) > 0 && !l.busy {
		next := l.waiting[0]
		l.waiting = l.waiting[1:]
		if t.over {
			next.end(errUnknown) // the next leader is asked
			continue
		}
		t.admit(l, next)
	}
}
