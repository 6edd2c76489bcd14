// Package dev is a whole cluster on one machine: a room of four machines with
// three management nodes and twelve VMs, whose plugs can be pulled.
//
// Purpose: "lifeboat dev", to play with, and "lifeboat dev --drill", which kills
// a host and then the machine of the leader and proves that every VM came back
// exactly once.
//
// What is real: the management nodes and agents are processes of this program,
// with Raft, boltdb and mutual TLS between them, and are killed with SIGKILL.
// The power controllers speak Redfish over TLS. What is not: the hypervisors
// live in the memory of the agents (package hypervisor/mem), so that a host's
// VMs end with its agent; and a dead machine is one of this room, so that its
// connections are closed and not just silent.
//
// Contract: one room per directory and per runtime directory, guarded by locks
// that end with the process. No process outlives the room, however it ends:
// children die with the thread that started them. Only directories that carry
// the room's mark are ever emptied.
//
// Callers: cmd/lifeboat.
package dev
