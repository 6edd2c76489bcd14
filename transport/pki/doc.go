// Package pki is Lifeboat's small certificate authority: it creates the CA of a
// cluster and issues the certificates that [lifeboat/transport] checks.
//
// The command line ("lifeboat ca init", "lifeboat ca issue", "lifeboat server
// init") and tests call it, and the leading management node where the cluster has
// the CA's key. A CA key that exists is never overwritten, by anything here.
package pki
