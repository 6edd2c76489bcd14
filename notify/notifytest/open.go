package notifytest

import (
	"strings"
	"testing"

	"lifeboat/notify"
)

// FuzzOpen holds what a kind makes of targets against the rules: it takes one or refuses it
// with a sentence, never shows the secret, and says the same again. The seeds are
// addresses; options are written NAME=VALUE, one on a line.
func FuzzOpen(f *testing.F, kind notify.Kind, seeds ...[2]string) {
	for _, x := range seeds {
		f.Add(x[0], x[1], "much-secret")
	}
	f.Fuzz(func(t *testing.T, address, options, secret string) {
		to := notify.Target{Kind: kind.Name, Address: address, Secret: secret, Options: map[string]string{}}
		for line := range strings.Lines(options) {
			if k, v, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok && k != "ca" { // that is a file of the machine
				to.Options[k] = v
			}
		}
		r := notify.NewRegistry(kind)
		d, err := r.Open(to)
		_, again := r.Open(to)
		switch {
		case (err == nil) != (again == nil):
			t.Fatalf("first %v, then %v", err, again)
		case err == nil && d == nil, err != nil && err.Error() == "":
			t.Fatal("neither a driver nor a reason")
		case err != nil && len(secret) >= 8 && !strings.Contains(address+options, secret) && strings.Contains(err.Error(), secret):
			t.Fatalf("the secret is in %q", err)
		}
		if every := r.Repeat(to); every < 0 || err == nil && every != 0 && every.Seconds() < 10 {
			t.Fatalf("it is to be told again every %s", every)
		}
	})
}
