// Package lab runs several real libvirt hosts with real qemu guests on one
// machine, and breaks them on purpose.
//
// A host is a set of namespaces (net, mount, PID, UTS, IPC) whose PID 1 is this
// same binary: killing PID 1 is pulling the power cord. Every host has a
// libvirtd, a BMC that speaks IPMI 2.0 (ipmi_sim), a watchdog that outlives a
// frozen host, and a network cable that can be cut. Management nodes get a
// network namespace each, connected to the hosts' network and to the BMCs'.
// All addresses live in namespaces the lab made; the root network namespace
// gets no interface and no route.
//
// What is real: libvirtd, qemu (TCG, no hardware virtualisation), the guests'
// kernel, TCP, IPMI. What is not: /dev/watchdog (a unix socket stands in, see
// [WatchdogSocket]), wall clocks per host, and host memory (every host reports
// the whole machine's).
//
// # Contract
//
// The program or TestMain that uses the lab calls [MaybeInit] before anything
// else, because the lab starts that program again as PID 1 of its hosts. The
// lab needs root; [Missing] says what else is not there, [Require] turns that
// into a skipped test, [Install] into packages. [Lab.Close] leaves nothing
// behind, and [New] removes what a crashed lab with the same prefix left.
//
// All methods of [Lab] may be called from several goroutines at once. Hosts and
// managers are numbered from 1.
//
// Used by lab tests and by the command "lifeboat lab". No other package may
// import it.
package lab
