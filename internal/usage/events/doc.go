// Package events reads what happened to resources from JSON lines: one event on a
// line, as `lifeboat usage event` takes them from a file or from another program. It is
// pure, and trusts nothing that it reads.
package events
