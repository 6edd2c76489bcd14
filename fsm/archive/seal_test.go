package archive

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
)

func key(t *testing.T) *age.X25519Identity {
	t.Helper()
	k, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Each recipient reads it alone, nobody else does, and damage is never taken for
// contents.
func TestSealedArchive(t *testing.T) {
	raw := packed(t, small(t))
	a, b, stranger := key(t), key(t), key(t)
	to, err := ParseRecipients([]string{a.Recipient().String(), b.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := Seal(raw, to)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, raw[:64]) {
		t.Fatal("it is there in plain")
	}
	for _, k := range []age.Identity{a, b} {
		if got, err := Open(sealed, []age.Identity{stranger, k}); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("a recipient reads %d bytes: %v", len(got), err)
		}
	}
	if _, err := Open(sealed, nil); !errors.Is(err, ErrSealed) {
		t.Errorf("without a key: %v", err)
	}
	if _, err := Open(sealed, []age.Identity{stranger}); !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), "others") {
		t.Errorf("with a stranger's key: %v", err)
	}
	for _, cut := range []int{len(sealedBy), len(sealed) / 2, len(sealed) - 1} {
		if _, err := Open(sealed[:cut], []age.Identity{a}); !errors.Is(err, ErrArchive) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	bad := bytes.Clone(sealed)
	bad[len(bad)-20] ^= 1
	if _, err := Open(bad, []age.Identity{a}); !errors.Is(err, ErrArchive) {
		t.Errorf("damaged: %v", err)
	}
	if got, err := Open(raw, nil); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("what is not encrypted: %v", err)
	}
}

func TestRecipientsAndIdentitiesAreChecked(t *testing.T) {
	k := key(t)
	for _, text := range []string{"", "age1", "alice", k.String(), "# only a comment", k.Recipient().String() + "\n" + k.Recipient().String()} {
		if _, err := ParseRecipients([]string{text}); err == nil {
			t.Errorf("%q is taken", text)
		} else if strings.Contains(err.Error(), k.String()) {
			t.Errorf("the secret key is in the message: %v", err)
		}
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("# made by age-keygen\n"+k.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadIdentities(file); err != nil || len(got) != 1 {
		t.Errorf("%d keys: %v", len(got), err)
	}
	if _, err := ReadIdentities("seal_test.go"); err == nil {
		t.Error("a program is taken for keys")
	}
}

// A file is replaced as a whole, or stays what it was.
func TestSave(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "backup")
	for _, text := range []string{"old", "new"} {
		if err := Save(file, []byte(text)); err != nil {
			t.Fatal(err)
		}
		i, err := os.Stat(file)
		if got, _ := os.ReadFile(file); err != nil || string(got) != text || i.Mode().Perm() != 0o600 {
			t.Errorf("%q with mode %v: %v", got, i.Mode(), err)
		}
	}
	folder := filepath.Join(dir, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Save(folder, []byte("x")); err == nil {
		t.Error("a folder was replaced")
	}
	if err := Save(filepath.Join(dir, "nowhere", "backup"), nil); err == nil {
		t.Error("written into a folder that is not there")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, Temporary+"*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
