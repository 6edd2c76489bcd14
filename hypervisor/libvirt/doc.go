// Package libvirt drives a libvirtd through its own protocol, without cgo.
//
// Purpose: the implementation of hypervisor.Hypervisor that production uses.
//
// How it keeps its promises, because go-libvirt has neither deadlines nor
// keepalives nor a way to cancel:
//
//   - Connections are dialled here, with TCP keepalive and TCP_USER_TIMEOUT, so
//     that a dead host is noticed, and every call has a deadline of its own: at
//     the deadline the connection is closed under it, which is the only thing
//     that makes a hanging call return.
//   - One *libvirt.Libvirt per connection, never used again after it is lost.
//   - Connections are separate so that a hanging call harms nothing else: one
//     for the power states, one for the bulk statistics that a frozen guest can
//     hang, one for events, and a fresh one for each order and each slow
//     question. Connecting takes about a millisecond.
//   - A supervisor keeps the first and the event connection up, with back-off.
//     While they are down every call fails at once with ErrUnavailable.
//   - Events only say "look again" and why a domain stopped. The subscription
//     is made before the first look, so nothing falls between the two.
//
// Callers: agent, through the interface; cmd/lifeboat opens it. It imports only
// hypervisor and hypervisor/domxml of ours.
package libvirt
