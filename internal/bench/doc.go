// Command bench measures what this repository promises about speed and prints
// it as a table: `make bench`. It runs Go benchmarks and the drills of
// `lifeboat dev` one after the other, takes their figures, and writes them to
// bench-results.json as well.
//
// Every figure stands beside a baseline of the same run: the bare library doing
// the same, or the promised value where there is none. Nothing here fails
// because a machine is slow; the exit code is not 0 only when something could
// not be measured that should have been.
//
// Callers: the Makefile.
package main
