// Package scenario reads scenario files: hosts, VMs, faults and the expected
// outcome in one YAML file that people write by hand.
//
// The format is a contract with whoever wrote a file. Nothing in it is silently
// ignored: an unknown key, command, name or value, and anything this version of
// lifeboat has no policy for, is refused with file, line and a hint. [Parse]
// reads a file, [File.Write] writes one that means the same.
//
// Callers: sim, cmd/lifeboat.
package scenario
