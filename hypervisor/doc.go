// Package hypervisor says what Lifeboat needs from the program that runs
// virtual machines on one host, and nothing more.
//
// Purpose: the agent reports what [Hypervisor.Domains] sees and carries out
// orders with Start, Stop and Remove. Two drivers implement the interface:
// hypervisor/libvirt talks to a real libvirtd, hypervisor/mem is a small
// working hypervisor in memory for tests, the simulator and "lifeboat dev".
// Both pass the conformance suite in hypervisor/hvtest.
//
// Contract: every method may block up to the deadline of its context and up
// to the driver's own limit for that operation, whichever is earlier, and
// never longer. An error that wraps [ErrUnknownOutcome] means that the
// operation may have happened or may still happen: the caller must look at
// Domains again and must not conclude anything from the error (S4). An error
// that wraps [ErrUnavailable] means that the operation was not sent: nothing
// happened. All methods may be called from several goroutines at once.
//
// The package knows nothing of incarnations, leases or orders; those checks
// belong to the caller and enter through [StartRequest.Confirm] (S3).
//
// Callers: agent, cmd/lifeboat and tests. It imports nothing of ours.
package hypervisor
