// Package hook is what libvirt asks before it starts a domain: its qemu hook.
//
// It keeps libvirt, and people, from starting a protected VM behind the
// managers' back (S8): before the agent has heard in this boot what the host
// still owns, without a valid lease where one is armed, and after this host has
// given the VM up. It decides from the two files of the agent and talks to
// nobody, so it works while the agent is down.
//
// Contract: [Decide] is pure. [Run] reads the files and the definition that
// libvirt hands over; an error is a sentence for the operator, and refuses.
// Domains that the agent has never held are allowed, unless the ledger cannot
// be read: then nobody knows which those are.
//
// Callers: cmd/lifeboat ("lifeboat hook qemu …", which libvirt calls).
package hook
