// Package exchange says what a host's report means for the state, and what the
// state means for the host: the difference that has to be committed, the lease
// that may be armed, the definitions that are missing, the assignment that the
// agent gets.
//
// It is pure: the state, the message, the time and what the caller remembers of
// the host are arguments. The leader of a cluster and the simulator run the same
// code; what belongs to a wire, a seal or a lock is theirs.
//
// Callers: node, sim.
package exchange
