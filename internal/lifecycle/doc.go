// Package lifecycle starts the components of a process in one visible order and
// stops them in the reverse one.
//
// The contract: whatever a component does when it is to stop (fails, panics,
// never returns), every component that was started before it is stopped too.
// Each has a deadline and a log line, and the last line of all says how many
// were started, how many were stopped, and which of them were not and why.
//
// Callers: whoever runs a process of many parts, such as package node.
package lifecycle
