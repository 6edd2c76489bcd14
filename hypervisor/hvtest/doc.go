// Package hvtest is the conformance suite of package hypervisor: what every
// driver must do, with a real libvirtd and real qemu guests as with the
// hypervisor in memory. What is true of the fake is thereby true of the thing.
//
// It also starts unprivileged libvirtd processes for tests ([StartLibvirtd]).
//
// Callers: tests only.
package hvtest
