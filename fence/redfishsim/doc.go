// Package redfishsim is a small working Redfish BMC: TLS on loopback, basic
// authentication and sessions, one computer system whose power is a pair of
// callbacks, and the faults real BMCs have. The development cluster gives every
// simulated host one, and the tests of package redfish run against it.
//
// It is for loopback and for tests; it is no BMC to put on a network.
package redfishsim
