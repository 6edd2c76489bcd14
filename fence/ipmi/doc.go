// Package ipmi is the fence driver for BMCs that speak IPMI 2.0, through the
// program ipmitool (interface lanplus). The password travels in the child's
// environment, never on its command line.
//
// Every question is one run of ipmitool, hence one session with the BMC: slower
// than a kept session (about 30 ms) but with nothing to break between questions.
// The manager's wiring is its only caller; everybody else sees a fence.Driver.
package ipmi
