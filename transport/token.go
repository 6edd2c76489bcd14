package transport

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
)

// Token is what lets somebody join a cluster: a secret, and by which CA the
// cluster is known. It is written in one word:
//
//	lifeboat-KIND-ID-SECRET-FINGERPRINT
type Token struct {
	Kind        string // server, agent, operator
	ID          string // 8 characters; not secret
	Secret      [secretSize]byte
	Fingerprint [sha256.Size]byte // of the CA's certificate
}

const (
	tokenWord  = "lifeboat"
	idSize     = 5 // bytes
	secretSize = 16
)

// NewToken makes a token with a new secret.
func NewToken(kind string, fingerprint [sha256.Size]byte) Token {
	t := Token{Kind: kind, Fingerprint: fingerprint}
	var id [idSize]byte
	_, _ = rand.Read(id[:]) // never fails
	_, _ = rand.Read(t.Secret[:])
	t.ID = tokenText(id[:])
	return t
}

// Hash is what the cluster keeps of the secret.
func (t Token) Hash() [sha256.Size]byte { return sha256.Sum256(t.Secret[:]) }

// String is the whole token, secret included.
func (t Token) String() string {
	return strings.Join([]string{tokenWord, t.Kind, t.ID, tokenText(t.Secret[:]), tokenText(t.Fingerprint[:])}, "-")
}

// ParseToken reads a token. Its errors do not show the secret.
func ParseToken(s string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(s), "-")
	if len(parts) != 5 || parts[0] != tokenWord {
		return Token{}, errors.New("read token: it must look like lifeboat-agent-… with five parts; copy all of what 'lifeboat token create' printed")
	}
	t := Token{Kind: parts[1], ID: parts[2]}
	switch t.Kind {
	case "server", "agent", "operator":
	default:
		return Token{}, fmt.Errorf("read token: %.20q is no kind of token; it is server, agent or operator", t.Kind)
	}
	var id [idSize]byte
	for _, p := range []struct {
		what string
		text string
		to   []byte
	}{{"id", t.ID, id[:]}, {"secret", parts[3], t.Secret[:]}, {"fingerprint", parts[4], t.Fingerprint[:]}} {
		b, err := tokenCoding().DecodeString(p.text)
		if err != nil || len(b) != len(p.to) || tokenText(b) != p.text {
			return Token{}, fmt.Errorf("read token: its %s is damaged; copy all of what 'lifeboat token create' printed", p.what)
		}
		copy(p.to, b)
	}
	return t, nil
}

// tokenCoding has no hyphen, and a double click marks its words as one.
func tokenCoding() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

func tokenText(b []byte) string { return tokenCoding().EncodeToString(b) }
