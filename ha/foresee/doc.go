// Package foresee says what would happen if: a host fails, or is to be empty for
// maintenance. It goes on from a copy of the state (fsm.Fork) with the real state
// machine and the real ha.Decide in virtual time, and has the other hosts do what
// they are told in times that are assumed. So a plan is what the leader would do, as
// far as the hosts do their part; nothing of it reaches the cluster.
//
// The proof that any one host or failure domain may fail (Prover) goes the other way
// round: it adds up room, by which no rehearsal is needed where there is plenty, and
// leaves to a rehearsal what it cannot decide.
//
// It is pure: no clock, I/O or goroutine. What it takes grows with hosts, VMs and
// the number of starts.
package foresee
