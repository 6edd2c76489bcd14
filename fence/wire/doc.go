// Package wire writes and reads fence jobs and their outcomes as messages of the
// API, for those who have a fence level executed elsewhere (S25) and those who
// execute it: managers and agents.
package wire
