package pki_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lifeboat/transport"
	"lifeboat/transport/pki"
)

func TestCAKeyIsNeverOverwritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 8 {
		wg.Go(func() {
			_, err := pki.CreateCA(dir, "test")
			if err == nil {
				mu.Lock()
				won++
				mu.Unlock()
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Fatalf("%d of 8 concurrent creations succeeded, want 1", won)
	}
	if _, err := pki.LoadCA(dir); err != nil {
		t.Fatalf("the surviving pair must belong together: %v", err)
	}

	key := filepath.Join(dir, pki.CAKeyFile)
	before, _ := os.ReadFile(key)
	// Also when only the key is left.
	if err := os.Remove(filepath.Join(dir, pki.CACertFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.CreateCA(dir, "again"); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if after, _ := os.ReadFile(key); !bytes.Equal(before, after) {
		t.Fatal("the key changed")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".ca.*")); len(left) != 0 {
		t.Fatalf("temporary files left behind: %v", left)
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	ca, err := pki.CreateCA(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Issue(transport.Identity{Kind: transport.KindNode, Name: "n1"}, pki.IssueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := leaf.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{
		filepath.Join(dir, pki.CAKeyFile): 0o600, files.Key: 0o600, files.CA: 0o644, files.Cert: 0o644,
	} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: mode %v, error %v, want %v", path, fi.Mode(), err, want)
		}
	}
	if _, err := transport.LoadCredentials(files, nil); err != nil {
		t.Error(err)
	}
}

func TestIssueRefusesAndLimits(t *testing.T) {
	dir := t.TempDir()
	ca, err := pki.CreateCA(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []transport.Identity{{}, {Kind: "admin", Name: "x"}, {Kind: transport.KindNode, Name: "../n1"}} {
		if _, err := ca.Issue(id, pki.IssueOptions{}); err == nil {
			t.Errorf("a certificate was issued for %v", id)
		}
	}
	id := transport.Identity{Kind: transport.KindHost, Name: "h1"}
	leaf, err := ca.Issue(id, pki.IssueOptions{Validity: 100 * 365 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if leaf.Cert.NotAfter.After(ca.Cert.NotAfter) {
		t.Error("the certificate outlives its CA")
	}
	if _, err := ca.Issue(id, pki.IssueOptions{Validity: -time.Second}); err == nil {
		t.Error("negative validity was accepted")
	}
}

func TestLoadCARefusesForeignKey(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		if _, err := pki.CreateCA(dir, "test"); err != nil {
			t.Fatal(err)
		}
	}
	key, _ := os.ReadFile(filepath.Join(b, pki.CAKeyFile))
	if err := os.WriteFile(filepath.Join(a, pki.CAKeyFile), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.LoadCA(a); err == nil || !strings.Contains(err.Error(), "do not belong together") {
		t.Fatalf("got %v", err)
	}
}

func TestFingerprint(t *testing.T) {
	ca, err := pki.CreateCA(t.TempDir(), "test")
	if err != nil {
		t.Fatal(err)
	}
	fp := pki.Fingerprint(ca.Cert)
	if len(fp) != 32*3-1 || strings.Count(fp, ":") != 31 || fp != strings.ToUpper(fp) {
		t.Fatalf("fingerprint %q", fp)
	}
}
