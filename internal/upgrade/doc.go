// Package upgrade runs a cluster of three real processes through an upgrade: from the
// previous build, which is made from this repository's own history, to this one, and
// from this one to one of a feature level to come. It holds tests only, see
// `make test-upgrade`.
package upgrade
