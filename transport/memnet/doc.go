// Package memnet is a network in memory for tests: machines with names, TCP-like
// connections between them, and the faults of real networks.
//
// All waiting is on channels and timers, so inside a testing/synctest bubble
// everything above it, hashicorp/raft and HTTP/2 included, runs in virtual time.
//
// An address is "machine" or "machine:port"; faults strike machines. What the
// faults mean is that of TCP: a cut loses nothing for good, it delays until
// healed; a write succeeds when it fits the send buffer, whatever becomes of it;
// a machine that lost power sends no FIN, so its peers wait until their own
// deadlines. Only tests import this package.
package memnet
