// Package session is everything an agent decides, as a pure state machine.
//
// The agent around it (or the simulator) tells it what happened (a poll of the
// hypervisor, an answer of a manager, the end of an operation, the passing of
// time) and carries out the actions it returns, in order. It is level-triggered: after
// every input it looks at everything it knows and says what is to be done now
// and when to look again.
//
// Contract: no clock, goroutine, I/O, logging or randomness of its own, and no
// dependence on the order of maps: equal inputs give equal outputs. Time is an
// [Instant] on the machine's CLOCK_BOOTTIME, which runs during suspend (S13).
// A Session is used by one goroutine at a time.
//
// What it guarantees, whatever the inputs: one incarnation is handed to the
// hypervisor at most once, across crashes of the agent, provided that what
// [Persist] asked for is on disk when [Session.Persisted] says so (S3); a
// refused incarnation is never started (S4); nothing is started or resumed
// without a valid lease where one is armed; what a report says about refused
// and failed incarnations is on disk (S4, S5).
//
// Callers: agent and sim. agent/hook reads its ledger.
package session
