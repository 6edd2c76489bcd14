package node

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSeal(t *testing.T) {
	s, err := newSealer(make([]byte, SecretKeySize))
	if err != nil {
		t.Fatal(err)
	}
	other, err := newSealer(bytes.Repeat([]byte{1}, SecretKeySize))
	if err != nil {
		t.Fatal(err)
	}
	text := []byte("<domain type='kvm'><name>a secret</name></domain>")
	sealed := s.seal(text, []byte("vm1"))
	if got, err := s.open(sealed, []byte("vm1")); err != nil || !bytes.Equal(got, text) {
		t.Fatalf("open = %q, %v", got, err)
	}
	if bytes.Contains(sealed, []byte("secret")) {
		t.Error("the text is readable")
	}
	if bytes.Equal(sealed, s.seal(text, []byte("vm1"))) {
		t.Error("the same text is sealed the same way twice")
	}
	if _, err := s.open(sealed, []byte("vm2")); err == nil {
		t.Error("it opens for another VM")
	}
	if _, err := other.open(sealed, []byte("vm1")); err == nil || !strings.Contains(err.Error(), "secret key") {
		t.Errorf("with another key: %v", err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := s.open(bad, []byte("vm1")); err == nil {
			t.Errorf("it opens with byte %d changed", i)
		}
	}
	for n := range len(sealed) {
		if _, err := s.open(sealed[:n], []byte("vm1")); err == nil {
			t.Errorf("the first %d bytes open", n)
		}
	}
	// What a node seals must open on every other and after every restart.
	again, err := newSealer(make([]byte, SecretKeySize))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{nil, {0}, make([]byte, maxDefinition), []byte(strings.Repeat("<disk/>", 1000))} {
		if got, err := again.open(s.seal(text, nil), nil); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%d bytes: %d bytes, %v", len(text), len(got), err)
		}
	}
}

// A sealed text of the first release opens for ever: the dictionary is frozen.
func TestSealedTextOfOldOpens(t *testing.T) {
	s, err := newSealer(make([]byte, SecretKeySize))
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "sealed.hex")
	want := "<domain type='kvm'>\n  <name>web</name>\n  <memory unit='KiB'>1048576</memory>\n</domain>\n"
	raw, err := os.ReadFile(golden)
	if os.IsNotExist(err) && os.Getenv("LIFEBOAT_UPDATE_GOLDEN") != "" {
		raw = []byte(hex.EncodeToString(s.seal([]byte(want), []byte("vm"))))
		if err := os.WriteFile(golden, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if err != nil {
		t.Fatal(err)
	}
	sealed, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.open(sealed, []byte("vm")); err != nil || string(got) != want {
		t.Errorf("it opens to %q, %v", got, err)
	}
}

func FuzzOpen(f *testing.F) {
	s, err := newSealer(make([]byte, SecretKeySize))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.seal([]byte("text"), nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if text, err := s.open(raw, nil); err == nil && string(text) != "text" {
			t.Errorf("%x opens to %q", raw, text)
		}
	})
}

func TestLoadSealer(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ text, want string }{
		"good":  {strings.Repeat("0a", 32) + "\n", ""},
		"short": {strings.Repeat("0a", 31), "must hold 64 hexadecimal digits"},
		"long":  {strings.Repeat("0a", 33), "must hold 64 hexadecimal digits"},
		"text":  {strings.Repeat("zz", 32), "must hold 64 hexadecimal digits"},
		"empty": {"", "must hold 64 hexadecimal digits"},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := loadSealer(path)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "0a0a") {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
	if _, err := loadSealer(filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "lifeboat ca secret-key") {
		t.Errorf("missing: %v", err)
	}
}
