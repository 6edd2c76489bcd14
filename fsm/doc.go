// Package fsm is what is true: the replicated state and the rules that every
// log entry must obey. It is pure: no clock, no I/O, no goroutine, no
// randomness, no map order, no logging. Time, actors and everything else from
// outside arrive as fields of a command.
//
// Machine applies encoded commands (fsm/logpb) and publishes an immutable
// State after each batch. Anybody may hold a State for as long as they like;
// only the raft adapter (fsm/raftfsm) may call Machine's methods, from one
// goroutine.
//
// Apply is total: every command is legal in every state. What the rules forbid
// changes nothing and comes back as Result.Rejected, a sentence for the
// operator. Rules that keep a VM from running twice carry their number (S2,
// S4, ...) as listed in docs/safety.md.
package fsm
