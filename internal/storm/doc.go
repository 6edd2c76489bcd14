// Package storm runs management nodes as real processes on loopback and ends them
// in every way that a machine can: kill -9 of some or all, a stop in order, a disk
// that is full. Beside them it writes as the command line does, and notes what was
// confirmed. What it measures becomes figures of `make bench`; that nothing
// confirmed is ever lost is a test of this package.
//
// It ends only processes that it started itself.
//
// Callers: internal/bench, and tests.
package storm
