// Package agent is what runs on every host: it reports what the hypervisor
// runs, carries out what the managers order, holds the lease and lets the
// machine be reset when it can hold it no more.
//
// Everything it decides is in [lifeboat/agent/session]; this package is the
// shell around it: one goroutine feeds the session and carries out what it
// asks for, slow things on goroutines of their own.
//
// Contract: [Run] blocks until its context ends, and then until the managers
// have withdrawn the lease (S16) or the time for that is over. It may be killed
// at any moment: what must survive is in the ledger, which is durable before
// anything is done or said because of it. VMs are never touched by a stop.
//
// Two directories belong to it. The state directory survives a reboot and holds
// the ledger; the run directory must not and holds the lease and the socket of
// the external watchdog. One agent at a time uses them, which a lock enforces.
//
// Callers: cmd/lifeboat and tests.
package agent
