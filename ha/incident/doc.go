// Package incident tells the story of one failure from the replicated state: what
// happened, on what evidence, how long each VM was down, and which step took longest.
//
// Nothing is written down for it. It reads the events, the work with its times and the
// alerts; what the cluster has forgotten of those, it cannot tell either.
// An incident is the failure of a host, or the loss of VMs whose host lives; its
// number is that of the event that began it.
//
// It is pure: no clock, I/O or goroutine. What it takes grows with the events and the
// work that are kept. Callers: node, the replay of a log, and the simulator's tests.
package incident
