package sim

import (
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
	"lifeboat/ha/foresee"
)

// admission has commands that n1_admission judges wait for each other: each might leave
// room for one only.
type admission struct {
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
	s := t.state()
	if no := ha.Unkept(s, a.cmd); no != "" {
		a.end(&rejected{no})
		return
	}
	if foresee.Judged(s, a.cmd) {
		t.admit(a)
		return
	}
	t.record(a)
}

func (t *term) record(a asked) {
	t.propose("operator/sim", a.cmd, func(_ fsm.Result, err error) { a.end(err) })
}

// admit is record for a command that is judged. There is always time for it: thinking
// takes none of the world's.
func (t *term) admit(a asked) {
	if t.admission.busy {
		t.admission.waiting = append(t.admission.waiting, a)
		return
	}
	if no := foresee.Admit(t.state(), a.cmd, func() bool { return false }); no != "" {
		a.end(&rejected{no})
		return
	}
	t.admission.busy = true
	t.record(asked{a.cmd, func(err error) {
		a.end(err)
		t.admitted()
	}})
}

// admitted lets those in that wait, until one of them is being written.
func (t *term) admitted() {
	x := &t.admission
	x.busy = false
	for len(x.waiting) > 0 && !x.busy {
		next := x.waiting[0]
		x.waiting = x.waiting[1:]
		if t.over {
			next.end(errUnknown) // the next leader is asked
			continue
		}
		t.admit(next)
	}
}
