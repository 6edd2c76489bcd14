package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

// parsed are commands that take ids, durations, times and labels.
type parsed struct {
	Ack struct{ chooseFlags } `cmd:""`
	Add SilenceAddCmd         `cmd:""`
	Set NotifySetCmd          `cmd:""`
}

// FuzzFlags: ids, durations, labels and options are read as they are printed, whatever they
// hold; and what is no number or duration is refused and not taken for another.
func FuzzFlags(f *testing.F) {
	f.Add("12", int64(time.Hour), "rack", "r1", "to=a@example.org")
	f.Add("#7", int64(-1), "rack", "a;b=c", "x")
	f.Add("0", int64(0), "k", "a,b", "=")
	f.Add("18446744073709551616", int64(1), "k", "", "args=a;b")
	f.Fuzz(func(t *testing.T, id string, length int64, key, value, option string) {
		parse := func(args ...string) (*parsed, error) {
			var p parsed
			k, err := kong.New(&p, kong.Exit(func(int) { t.Fatal("it exits") }))
			if err != nil {
				t.Fatal(err)
			}
			_, err = k.Parse(args)
			return &p, err
		}
		var is ID
		if err := is.UnmarshalText([]byte(id)); err == nil {
			for _, text := range []string{is.String(), "#" + is.String()} {
				if p, err := parse("ack", text); err != nil || !slices.Equal(p.Ack.IDs, []ID{is}) {
					t.Fatalf("%q is %d, and then %v: %v", id, is, p.Ack.IDs, err)
				}
			}
			if strings.Trim(id, "#0123456789") != "" {
				t.Fatalf("%q is taken for %d", id, is)
			}
		}
		d := time.Duration(length)
		if p, err := parse("add", "why", "--for="+d.String()); err != nil || p.Add.For != d {
			t.Fatalf("%s was read as %s: %v", d, p.Add.For, err)
		}
		if key == "" || strings.ContainsAny(key, "=\\;") || strings.Contains(value, "\\") {
			t.Skip()
		}
		p, err := parse("add", "why", "--label="+key+"="+value)
		if err != nil || !maps.Equal(p.Add.Label, map[string]string{key: value}) {
			t.Fatalf("label %q=%q was read as %v: %v", key, value, p.Add.Label, err)
		}
		if name, v, ok := strings.Cut(option, "="); ok && name != "" && !strings.Contains(option, "\\") {
			p, err := parse("set", "n", "webhook", "https://x", "--option="+option)
			if err != nil || p.Set.Option[name] != v || len(p.Set.Option) != 1 {
				t.Fatalf("option %q was read as %v: %v", option, p.Set.Option, err)
			}
		}
	})
}
