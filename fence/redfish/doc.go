// Package redfish is the fence driver for BMCs that speak Redfish over HTTPS.
//
// Success codes, 409 and "already off" are only answers: the driver reports
// PowerState, and package fence decides. Every question opens its own
// connection (and session, with auth=session, which it closes again), because a
// BMC has few of both and a fence is rare. Proxies from the environment are not
// used and redirects to another host are not followed: credentials go to the
// configured address and nowhere else.
//
// The manager's wiring is its only caller; everybody else sees a fence.Driver.
package redfish
