// Package archtest holds the tests of the architecture: which package may
// import which, what pure code must not touch, and what no file may contain.
// Each rule says in one sentence why it is there, and a failing test prints it.
//
// The rules are tables: rooms_test.go (imports among our packages),
// bans_test.go (imports of others, calls), source_test.go (what stands in a
// file). A rule for a package that does not exist yet waits for it. A new folder
// needs a line in the table of rooms.
//
// Nothing imports this package.
package archtest
