// Package replay compares the decisions that stand in a log with what ha.Decide says of
// the states before them, and says what another policy would have changed.
//
// What a leader heard is not in the log: who reported when, answers of peers, power
// readings. So only placements are decided again, with every host that was Up taken to
// report; that a host was taken to be silent or dead is not judged.
//
// It is pure: no clock, I/O or goroutine. A placement costs a copy of the state.
// Caller: the command line, offline.
package replay
