// Package pki is Lifeboat's small certificate authority: it creates the CA of a
// cluster and issues the certificates that [lifeboat/transport] checks.
//
// The command line ("lifeboat ca init", "lifeboat ca issue") and tests call it.
// No server does: the CA key belongs on an operator's machine, not on a node.
// A CA key that exists is never overwritten, by anything here.
package pki
