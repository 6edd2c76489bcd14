// Package fencetest is the suite that every fence driver passes against a
// working device: a machine with a power switch behind a controller that can be
// slow, dead, broken, or lying. What it asks is that a driver never turns any of
// these into proof, and leaves nothing behind.
//
// Only tests import it.
package fencetest
