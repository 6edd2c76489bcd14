package fence

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/hashicorp/go-hclog"
)

func TestSecretIsHiddenEverywhere(t *testing.T) {
	const password = "Tr0ub4dor"
	target := Target{Driver: "ipmi", Address: "bmc", User: "admin", Password: NewSecret(password)}
	private := struct{ unexported Target }{target}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p"} {
		for _, v := range []any{target, &target, target.Password, &target.Password, private, []Secret{target.Password}, map[string]Target{"a": target}} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	j, err := json.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	y, err := yaml.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	out.Write(y)
	for _, asJSON := range []bool{false, true} {
		l := hclog.New(&hclog.LoggerOptions{Output: &out, JSONFormat: asJSON, Level: hclog.Trace})
		l.Info("secret", "target", target, "password", target.Password, "private", private)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("secret", "target", target, "password", target.Password)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("secret", "target", target, "password", target.Password)
	for _, leak := range []string{password, fmt.Sprintf("%x", password), fmt.Sprintf("%X", password)} {
		if i := strings.Index(out.String(), leak); i >= 0 {
			t.Fatalf("the password is printed: …%s", out.String()[max(0, i-60):i+len(leak)])
		}
	}
	if !strings.Contains(string(j), hidden) || target.Password.Reveal() != password {
		t.Fatal("hidden, but not kept")
	}
}

func TestSecretIsReadAndNotReadBack(t *testing.T) {
	var target Target
	if err := json.Unmarshal([]byte(`{"driver":"ipmi","password":"pw"}`), &target); err != nil || target.Password.Reveal() != "pw" {
		t.Fatal(target.Password.Reveal(), err)
	}
	if err := json.Unmarshal([]byte(`{"password":"[hidden]"}`), &target); err == nil {
		t.Fatal("a printed secret was taken for a password")
	}
	if got := NewSecret("hunter22").Redact("login hunter22 failed"); got != "login [hidden] failed" {
		t.Fatal(got)
	}
}

func TestSameIdentity(t *testing.T) {
	const u = "00112233-4455-6677-8899-aabbccddeeff"
	for _, spelling := range []string{
		u, strings.ToUpper(u), " " + u + "\n", "00112233445566778899aabbccddeeff",
		"33221100-5544-7766-8899-aabbccddeeff", // SMBIOS order
		"ffeeddcc-bbaa-9988-7766-554433221100", // IPMI order
		"ccddeeff-aabb-8899-7766-554433221100", // IPMI order taken for SMBIOS
		"ffeeddcc-bbaa-9988-6677-445500112233", // SMBIOS order taken for IPMI
	} {
		if !SameIdentity(u, spelling) || !SameIdentity(spelling, u) {
			t.Errorf("%q is not recognized", spelling)
		}
	}
	for _, pair := range [][2]string{
		{u, "00112233-4455-6677-8899-aabbccddeefe"}, {u, ""}, {"", ""}, {u, "00112233-4455-6677-8899-aabbccddee"},
		{"0123456789", "0123456789"}, {"Default string", "default string"}, {"....", "...."},
		{"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "ffffffff-ffff-ffff-ffff-ffffffffffff"},
		{"03000200-0400-0500-0006-000700080009", "03000200-0400-0500-0006-000700080009"},
		{"ABC123", "ABC124"},
	} {
		if SameIdentity(pair[0], pair[1]) {
			t.Errorf("%q and %q match", pair[0], pair[1])
		}
	}
	if !SameIdentity("CZJ1234ABC", "czj1234abc ") {
		t.Error("serial numbers do not match")
	}
}

func FuzzSameIdentity(f *testing.F) {
	f.Add("00112233-4455-6677-8899-aabbccddeeff", "ffeeddcc-bbaa-9988-7766-554433221100")
	f.Add("\xff", "0")
	f.Fuzz(func(t *testing.T, a, b string) {
		if SameIdentity(a, b) != SameIdentity(b, a) {
			t.Fatal("not symmetric")
		}
		if UsableIdentity(a) != SameIdentity(a, a) {
			t.Fatal("a usable identity must match itself, and no other may")
		}
	})
}

func TestRegistryRefusesWithSentences(t *testing.T) {
	r := NewRegistry(Kind{
		Name: "ipmi", Options: []Option{{Name: "cipher"}, {Name: "param.*"}},
		Open: func(Target) (Driver, error) { return &scripted{}, nil },
	})
	for want, target := range map[string]Target{
		`there is no driver "idrac"; known are ipmi`:             {Driver: "idrac"},
		`there is no option "ciper"; known are cipher, param.*`:  {Driver: "ipmi", Options: map[string]string{"ciper": "3"}},
		`there is no option "param."; known are cipher, param.*`: {Driver: "ipmi", Options: map[string]string{"param.": "3"}},
	} {
		if _, err := r.Open(target); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := r.Open(Target{Driver: "ipmi", Options: map[string]string{"cipher": "3", "param.plug": "1"}}); err != nil {
		t.Error(err)
	}
}

func TestSplitAddress(t *testing.T) {
	for in, want := range map[string]string{
		"bmc1": "bmc1|623", "bmc1:6230": "bmc1|6230", "10.0.0.1": "10.0.0.1|623", "fe80::1": "fe80::1|623",
		"[fe80::1]": "fe80::1|623", "[fe80::1]:99": "fe80::1|99",
		"": "", ":623": "", "bmc:0": "", "bmc:70000": "", "bmc:x": "", "-oProxy": "", "a b": "", "user@bmc": "", "a:b:c": "",
	} {
		h, p, err := SplitAddress(in, "623")
		if got := h + "|" + p; (err == nil) != (want != "") || (err == nil && got != want) {
			t.Errorf("%q: %s, %v", in, got, err)
		}
	}
}

func TestErrorsFitALine(t *testing.T) {
	err := Because(Refused, "first\r\nsecond \x1b[31m%s", strings.Repeat("ä", 300))
	if s := err.Error(); strings.ContainsAny(s, "\r\n\x1b") || len(s) > 210 {
		t.Fatalf("%q", s)
	}
}
