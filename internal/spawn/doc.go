// Package spawn starts processes that die with this one, also when it is killed: for
// clusters of processes on one machine, to play with and for tests.
package spawn
