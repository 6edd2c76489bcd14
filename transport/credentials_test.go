package transport_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat/transport"
	"lifeboat/transport/pki"
)

func TestLoadCredentialsSaysWhatIsWrong(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	good := ours.issue(node("n1"), pki.IssueOptions{})
	other := ours.issue(node("n2"), pki.IssueOptions{})
	garbage := filepath.Join(ours.dir, "garbage")
	mustWrite(t, garbage, []byte("not PEM"))
	expired := ours.issue(node("old"), pki.IssueOptions{Now: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), Validity: 24 * time.Hour})
	future := ours.issue(node("new"), pki.IssueOptions{Now: time.Now().Add(48 * time.Hour)})

	for name, c := range map[string]struct {
		files transport.Files
		says  []string
	}{
		"no path":        {transport.Files{Cert: good.Cert, CA: good.CA}, []string{"private key", "no file is configured"}},
		"missing file":   {transport.Files{Cert: "/nonexistent/x.crt", Key: good.Key, CA: good.CA}, []string{"/nonexistent/x.crt", "no such file", "lifeboat ca issue"}},
		"garbage cert":   {transport.Files{Cert: garbage, Key: good.Key, CA: good.CA}, []string{garbage}},
		"garbage key":    {transport.Files{Cert: good.Cert, Key: garbage, CA: good.CA}, []string{garbage}},
		"garbage CA":     {transport.Files{Cert: good.Cert, Key: good.Key, CA: garbage}, []string{garbage, "no PEM certificate"}},
		"leaf as CA":     {transport.Files{Cert: good.Cert, Key: good.Key, CA: other.Cert}, []string{"not a CA certificate"}},
		"key of another": {transport.Files{Cert: good.Cert, Key: other.Key, CA: good.CA}, []string{good.Cert, other.Key, "same"}},
		"CA of another":  {transport.Files{Cert: good.Cert, Key: good.Key, CA: caFile(theirs)}, []string{"not signed by the CA in " + caFile(theirs)}},
		"expired":        {expired, []string{"lifeboat://node/old", "expired on 2020-01-02T00:00:00Z", "lifeboat ca issue node old"}},
		"not yet valid":  {future, []string{"not valid before", "clock"}},
		"no identity":    {selfSigned(t), []string{"no lifeboat://kind/name URI"}},
	} {
		_, err := transport.LoadCredentials(c.files, nil)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, want := range c.says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", name, err, want)
			}
		}
	}
}

// selfSigned is a CA certificate used as a leaf, without identity.
func selfSigned(t *testing.T) transport.Files {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := transport.Files{Cert: dir + "/c", Key: dir + "/k", CA: dir + "/c"}
	mustWrite(t, f.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	mustWrite(t, f.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return f
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t)
		files := a.issue(node("n1"), pki.IssueOptions{Validity: 24 * time.Hour})
		var j journal
		c, err := transport.LoadCredentials(files, j.logger())
		if err != nil {
			t.Fatal(err)
		}
		first := c.Expires()
		oldKey := mustRead(t, files.Key)

		// Rotated: seen after a second, not before.
		a.issue(node("n1"), pki.IssueOptions{Validity: 48 * time.Hour})
		if !c.Expires().Equal(first) {
			t.Fatal("the files were looked at twice within a second")
		}
		time.Sleep(time.Second)
		second := c.Expires()
		if !second.After(first) {
			t.Fatal("the rotated certificate is not in use")
		}

		// A pair that does not match stays out, and is mentioned once.
		newKey := mustRead(t, files.Key)
		mustWrite(t, files.Key, oldKey)
		before := len(j.lines())
		for range 5 {
			time.Sleep(time.Second)
			if !c.Expires().Equal(second) {
				t.Fatal("unusable files were taken over")
			}
		}
		if got := j.lines()[before:]; len(got) != 1 || !strings.Contains(got[0], files.Key) {
			t.Fatalf("want one warning about the key, got %q", got)
		}
		mustWrite(t, files.Key, newKey)
		time.Sleep(time.Second)
		c.Expires()

		// Another identity is never taken over; nor is a missing file fatal.
		for _, spoil := range []func(){
			func() {
				f := a.issue(node("n2"), pki.IssueOptions{})
				mustWrite(t, files.Cert, mustRead(t, f.Cert))
				mustWrite(t, files.Key, mustRead(t, f.Key))
			},
			func() { os.Remove(files.CA) },
		} {
			spoil()
			time.Sleep(time.Second)
			if !c.Expires().Equal(second) || c.Identity() != node("n1") {
				t.Fatal("unusable files were taken over")
			}
		}
	})
}
