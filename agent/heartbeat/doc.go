// Package heartbeat writes signs of life into shared directories, and reads those
// of other hosts there.
//
// A host that no network reaches may still reach its storage. Its agent writes a
// small file there about once a second; peers that are asked about the host look
// whether that file changes. A file that changes is a sign of life. One that
// stands still says nothing (S20).
//
// Contract: a directory that hangs blocks nobody. Each has one goroutine that
// writes and at most one that reads; both may be stuck in the kernel for ever,
// which is why nothing waits for them, not even the end of the process. What is
// read in a directory that several hosts can write to is not trusted: it is
// bounded, checked, and never names a path.
//
// Callers: package agent.
package heartbeat
