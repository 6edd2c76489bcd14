// Package node is a management node: Raft and its storage, one leadership term,
// what agents and people ask for over the network, and the effects that act on
// the world.
//
// The rules are elsewhere: fsm says what is true, ha what to do. This package
// proposes, waits, carries out and answers. One leadership term is one function
// (term.run): barrier, fresh soft view, then decide, batch, canary, members and
// wake-ups under one context; any part that dies ends the term.
//
// Any node answers any request: one that does not lead passes it on to the
// leader, on behalf of whoever asked. Reads that ask for it are answered from
// the node's own state.
//
// Callers: cmd/lifeboat.
package node
