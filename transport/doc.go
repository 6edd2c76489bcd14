// Package transport is everything of Lifeboat that crosses a network: who the
// peer is, how it proves it, and how one TCP port serves both Raft and HTTP.
//
// The contract:
//
//   - Every connection is TLS 1.3 with certificates on both sides, signed by
//     the cluster's own CA. Whoever passes the Raft protocol of the listener can
//     vote, so that CA is the root of trust of the cluster.
//   - A peer is an [Identity] (node, host or operator, and a name) taken from the
//     URI lifeboat://kind/name in its certificate. Host names and IP addresses
//     in certificates mean nothing to Lifeboat.
//   - One [Listener] splits connections by ALPN: [ProtoRaft] for management
//     nodes among each other, [ProtoHTTP] for everything else. Bytes that are
//     not a valid handshake cost one closed connection and one debug line.
//   - [Credentials] follow their files: a rotated certificate is used by the next
//     handshake, without a restart. Connections that exist are not cut; who wants
//     that calls [Listener.CloseConns].
//
// The package imports nothing of Lifeboat. Nodes use all of it; agents and the
// command line use Credentials and [NewHTTPClient]; [lifeboat/transport/pki]
// makes the certificates, [lifeboat/transport/memnet] is a network for tests.
package transport
