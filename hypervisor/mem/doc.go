// Package mem is a small hypervisor in memory that really works: domains
// start, run, shut down and crash, hosts lose power, storages fail, and a disk
// that two running domains write at once is noticed.
//
// Purpose: tests, the simulator and "lifeboat dev". It passes the same
// conformance suite as the libvirt driver and copies libvirt's manners where
// they matter for safety: an order is a series of calls, a call that was given
// up may still happen, transient domains vanish, autostart starts domains
// behind everybody's back when the host boots.
//
// Contract: deterministic given the order of calls; time is package time's, so
// it runs in virtual time inside testing/synctest. All methods may be called
// from several goroutines.
//
// Callers: tests, sim, cmd/lifeboat (dev).
package mem
