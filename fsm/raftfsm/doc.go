// Package raftfsm lets hashicorp/raft drive an fsm.Machine: batches of entries,
// configurations, snapshots. It holds no rule of its own.
//
// Callers: node, and tests that run a real Raft.
package raftfsm
