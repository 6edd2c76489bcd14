package transport_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"strings"
	"testing"

	"lifeboat/transport"
)

func TestParseIdentity(t *testing.T) {
	good := map[string]transport.Identity{
		"lifeboat://node/n1":                          node("n1"),
		"lifeboat://host/h1.rack-2.example":           host("h1.rack-2.example"),
		"lifeboat://operator/0":                       {Kind: transport.KindOperator, Name: "0"},
		"lifeboat://node/" + strings.Repeat("a", 63):  node(strings.Repeat("a", 63)),
		"lifeboat://host/9f1c0b0e-5e0f-4c8e-8f63-0d1": host("9f1c0b0e-5e0f-4c8e-8f63-0d1"),
	}
	for uri, want := range good {
		if got, err := transport.ParseIdentity(uri); err != nil || got != want {
			t.Errorf("%s: %v, %v", uri, got, err)
		}
	}
	for _, uri := range []string{
		"", "lifeboat:", "lifeboat://", "lifeboat://node", "lifeboat://node/", "lifeboat://admin/a", "lifeboat://Node/n1",
		"LIFEBOAT://node/n1", "spiffe://node/n1", "lifeboat://node/N1", "lifeboat://node/-n1", "lifeboat://node/.n1",
		"lifeboat://node/n1/", "lifeboat://node/n1?x", "lifeboat://node/n1#x", "lifeboat://node/%6e1", "lifeboat://node:1/n1",
		"lifeboat://u@node/n1", "lifeboat://node/n1\n", "lifeboat://node/n\x001", "lifeboat://node/é", "lifeboat://node//n1",
		"lifeboat://node/" + strings.Repeat("a", 64),
	} {
		if got, err := transport.ParseIdentity(uri); err == nil {
			t.Errorf("%q was read as %v", uri, got)
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	for _, s := range []string{"lifeboat://node/n1", "lifeboat://host/h1.example", "lifeboat://operator/%61", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		id, err := transport.ParseIdentity(uri)
		if err != nil {
			return
		}
		if id.String() != uri {
			t.Errorf("%q became %q", uri, id)
		}
		// What is accepted survives the way through a certificate.
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		again, err := transport.CertIdentity(&x509.Certificate{URIs: []*url.URL{u}})
		if err != nil || again != id {
			t.Errorf("%q in a certificate: %v, %v", uri, again, err)
		}
	})
}

func TestCertIdentityWantsExactlyOne(t *testing.T) {
	parse := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	one, other, foreign := parse("lifeboat://node/n1"), parse("lifeboat://host/n1"), parse("spiffe://x/y")
	if id, err := transport.CertIdentity(&x509.Certificate{URIs: []*url.URL{foreign, one}}); err != nil || id != node("n1") {
		t.Errorf("%v, %v", id, err)
	}
	for _, uris := range [][]*url.URL{nil, {foreign}, {one, other}, {one, one}, {parse("lifeboat://node/%6e1")}, {parse("LifeBoat://node/n1?x")}} {
		if id, err := transport.CertIdentity(&x509.Certificate{URIs: uris}); err == nil {
			t.Errorf("%v was read as %v", uris, id)
		}
	}
}

func TestPeerIdentityNeedsAVerifiedChain(t *testing.T) {
	u, _ := url.Parse("lifeboat://node/n1")
	cert := &x509.Certificate{URIs: []*url.URL{u}}
	if _, err := transport.PeerIdentity(tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}); err == nil {
		t.Error("an unverified certificate gave an identity")
	}
}
