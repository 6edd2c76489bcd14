package fence

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

const hidden = "[hidden]"

// Secret is a password. It prints as "[hidden]" in every fmt verb, as JSON, as
// text and in logs; only Reveal returns it. The zero value is the empty secret.
type Secret struct {
	// A pointer, because fmt walks unexported fields of enclosing structs
	// without asking their methods: it then prints an address, not a password.
	text *string
}

// NewSecret hides a password.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// Reveal returns the password itself. Its callers hand it to a controller and
// nowhere else.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Redact hides the password where it occurs in what a device or a program said.
// Passwords shorter than four bytes are left: hiding them would garble the text
// and tell them by the gaps.
func (s Secret) Redact(text string) string {
	if p := s.Reveal(); len(p) >= 4 {
		return strings.ReplaceAll(text, p, hidden)
	}
	return text
}

// IsZero reports whether no password is set.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

func (s Secret) Format(w fmt.State, _ rune)   { _, _ = io.WriteString(w, hidden) }
func (s Secret) String() string               { return hidden }
func (s Secret) GoString() string             { return hidden }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(hidden) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// UnmarshalText reads a password from a file. What a Secret prints is refused,
// or a configuration that was printed and read back would lose its passwords in
// silence.
func (s *Secret) UnmarshalText(text []byte) error {
	if string(text) == hidden {
		return errors.New(`read password: "[hidden]" is what a hidden password prints as, not a password; enter the real one`)
	}
	*s = NewSecret(string(text))
	return nil
}
