// Package ha decides what to do about the replicated state: who is silent, what
// that means, how to prove a host dead, where its VMs start again, and in which
// order. Decide is a pure function of the state, of what a leader has heard in
// its term (Soft) and of the time: no clock, I/O, goroutine, randomness or map
// order. So the leader, the simulator and a "what if" question run the same
// code.
//
// It is level-triggered: a Plan says what is to be done in this situation, and
// the same situation gives the same Plan again. The caller makes the commands
// true (proposes them, in order), starts the effects that do not run yet, and
// asks again when the state or the soft view has changed, or at Plan.Wake.
//
// Callers: node (one leadership term), sim, explain.
package ha
