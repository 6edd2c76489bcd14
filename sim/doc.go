// Package sim runs a scenario in virtual time: the real state machine (fsm) on
// every manager, the real decisions (ha) on the leader, the real agent
// (agent/session) on every host, in a world of machines, power controllers,
// storage, networks and guests that breaks as the scenario says.
//
// Everything is events on one virtual clock: no goroutine (but for the check of a
// large state, which never changes), no wall clock, no order of maps. The same scenario and seed give the same run. The
// seed changes timing and jitter, never a tie.
//
// What is simulated and not the product's own code: Raft (an ideal one: elections
// take a bounded time, an entry is committed or never was), the network, the
// shell around a leader's term and around an agent, the hypervisor. The shell
// mirrors package node; where the two differ the simulator is wrong.
//
// After every event the world checks what must always hold (see check.go).
//
// Callers: cmd/lifeboat and tests.
package sim
