// Package fence talks to the power controllers of hosts and returns proof that
// a machine is off, never a boolean and never a return code (S9).
//
// A Driver is one power controller (a BMC over IPMI or Redfish, or a fence_*
// program). Fence matches the identity of the machine behind the controller,
// asks for power off, and reads the power state back until it was off twice, at
// least MinGap apart. What a controller says about its own success counts for
// nothing; a controller that is not known to control the expected machine is
// neither believed nor given an order. Confirm does the same without ever giving
// an order, and Probe proves the path to a controller without harm.
//
// An error of this package means "not proven". It never means "not off": an
// order that was sent may still take effect (Error.OffSent says so).
//
// Callers are the leader's effects, the agents that act as proxies, and the
// command line. Committing an attempt before it is sent, and deciding what a
// proof permits, is theirs (S10); this package knows nothing of hosts, epochs or
// clusters and imports no other package of ours. Drivers live in the packages
// below and are handed to a Registry by whoever wires the program.
package fence
