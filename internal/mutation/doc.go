// Mutation switches the safety rules off, one line at a time, and sees to it
// that the tests notice. Each mutation replaces a text in one source file, in a
// build of its own, and names the packages whose tests must fail; the checkout
// is not touched.
//
// `make mutation` runs all of them and writes docs/mutations.md. That takes a
// while, so it is no part of CI; that every text is still there to be replaced,
// and that each rule has a mutation or a reason for having none, is tested.
package main
