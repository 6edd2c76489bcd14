package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
)

// ErrSealed is an archive that can only be read with the secret key of one of those
// that it was encrypted to.
var ErrSealed = errors.New("it is encrypted")

// sealedBy begins every file of age.
const sealedBy = "age-encryption.org/"

// ParseRecipients reads public keys of age, one in each text ("age1...").
func ParseRecipients(texts []string) ([]age.Recipient, error) {
	var out []age.Recipient
	for _, text := range texts {
		got, err := age.ParseRecipients(strings.NewReader(text))
		if strings.HasPrefix(text, "AGE-") {
			return nil, errors.New("that is a secret key, and now whoever can see this command has it; a recipient is the public key that begins with age1")
		}
		if err != nil || len(got) != 1 {
			return nil, fmt.Errorf("%q is not the public key of a recipient; it is the line that begins with age1 in what age-keygen prints", text)
		}
		out = append(out, got...)
	}
	return out, nil
}

// ReadIdentities reads a file of secret keys as age-keygen writes it.
func ReadIdentities(path string) ([]age.Identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read secret keys: %w", err)
	}
	defer f.Close()
	ids, err := age.ParseIdentities(f)
	if err != nil {
		return nil, fmt.Errorf("%s holds no secret keys as age-keygen writes them: %w", path, err)
	}
	return ids, nil
}

// Seal encrypts an archive to recipients, each of whom can read it alone. Without
// any it stays as it is.
func Seal(raw []byte, to []age.Recipient) ([]byte, error) {
	if len(to) == 0 {
		return raw, nil
	}
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to...)
	if err != nil {
		return nil, fmt.Errorf("encrypt snapshot: %w", err)
	}
	if _, err := w.Write(raw); err != nil {
		return nil, fmt.Errorf("encrypt snapshot: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encrypt snapshot: %w", err)
	}
	return b.Bytes(), nil
}

// Open decrypts an archive with any of the secret keys. One that is not encrypted
// is returned as it is. An error is ErrSealed without keys, ErrArchive otherwise.
func Open(raw []byte, with []age.Identity) ([]byte, error) {
	if !bytes.HasPrefix(raw, []byte(sealedBy)) {
		return raw, nil
	}
	if len(with) == 0 {
		return nil, ErrSealed
	}
	r, err := age.Decrypt(bytes.NewReader(raw), with...)
	var other *age.NoIdentityMatchError
	if errors.As(err, &other) {
		return nil, fmt.Errorf("%w: it is encrypted to others than the secret keys that were given", ErrArchive)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: it is encrypted, and damaged: %w", ErrArchive, err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%w: it is encrypted, and damaged or cut off: %w", ErrArchive, err)
	}
	return plain, nil
}
