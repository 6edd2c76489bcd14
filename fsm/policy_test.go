package fsm

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lifeboat/fsm/logpb"
)

func TestPolicySettingsRoundTrip(t *testing.T) {
	p := DefaultPolicy()
	q, err := (&Policy{}).With(p.Settings(99))
	if err != nil || *q != *p {
		t.Fatalf("%+v became %+v: %v", *p, q, err)
	}
	seen := map[string]bool{}
	for _, k := range PolicySettings() {
		if seen[k.Key] || k.Doc == "" {
			t.Errorf("%s stands twice, or without its meaning", k.Key)
		}
		seen[k.Key] = true
	}
}

func TestPolicyIsValidAsAWhole(t *testing.T) {
	for name, tc := range map[string]struct {
		set  []Setting
		says string // "" = accepted
	}{
		"takeover within the victim's bound": {[]Setting{{"takeover", "17s"}}, "takeover"},
		"takeover at the bound and 1 %":      {[]Setting{{"takeover", "17.17s"}}, "takeover"},
		"takeover just above":                {[]Setting{{"takeover", "17.171s"}}, ""},
		"a longer lease alone":               {[]Setting{{"lease", "20s"}}, "takeover"},
		"a longer lease and takeover":        {[]Setting{{"lease", "20s"}, {"takeover", "30s"}}, ""},
		"in the other order":                 {[]Setting{{"takeover", "30s"}, {"lease", "20s"}}, ""},
		"a watchdog that takes longer":       {[]Setting{{"watchdog_bound", "10s"}}, "takeover"},
		"lease of three beats":               {[]Setting{{"beat", "4s"}}, "lease"},
		"retry_max below retry_min":          {[]Setting{{"retry_min", "10m"}}, "retry_max"},
		"no such key":                        {[]Setting{{"laese", "20s"}}, "laese"},
		"not a duration":                     {[]Setting{{"beat", "quick"}}, "beat"},
		"a negative duration":                {[]Setting{{"beat", "-1s"}}, "beat"},
		"not a number":                       {[]Setting{{"brake_min", "3.5"}}, "brake_min"},
		"not a truth":                        {[]Setting{{"place_unfenced", "perhaps"}}, "place_unfenced"},
		"not a placement":                    {[]Setting{{"placement", "alphabetical"}}, "placement"},
		"nothing":                            {nil, ""},
	} {
		before := *DefaultPolicy()
		p := before
		q, err := p.With(tc.set)
		if p != before {
			t.Errorf("%s: the policy in force was changed", name)
		}
		if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want one about %q", name, err, tc.says)
		}
		if err == nil && q.validate() != nil {
			t.Errorf("%s: accepted and not valid", name)
		}
	}
	l := newLab(t)
	l.rejected(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "max_restart", Value: "7"}, {Key: "takeover", Value: "1s"}}})
	if l.state().Policy.MaxRestart != 1 {
		t.Fatal("half of a refused policy is in force")
	}
}

// What the policy accepts keeps the victim's bound below the cluster's (S12).
func TestPolicyNeverTakesOverTooEarly(t *testing.T) {
	keys := PolicySettings()
	rapid.Check(t, func(t *rapid.T) {
		var set []Setting
		for range rapid.IntRange(1, 6).Draw(t, "n") {
			k := rapid.SampledFrom(keys).Draw(t, "key")
			set = append(set, Setting{k.Key, rapid.SampledFrom([]string{"1s", "5s", "12s", "30s", "10m", "0", "1", "3", "50", "true", "pack", "x"}).Draw(t, "value")})
		}
		p, err := DefaultPolicy().With(set)
		if err != nil {
			return
		}
		if p.Takeover <= (p.Lease+p.WatchdogBound)*101/100 && p.Takeover < p.Lease+p.WatchdogBound+time.Millisecond {
			t.Fatalf("%+v", p)
		}
		if q, err := DefaultPolicy().With(p.Settings(99)); err != nil || *q != *p {
			t.Fatalf("%+v does not survive a snapshot: %v", p, err)
		}
	})
}

func TestBackoffGrowsAndStops(t *testing.T) {
	p := DefaultPolicy()
	last := time.Duration(0)
	for n := range uint32(100) {
		d := p.Backoff(n)
		if d < last || d < p.RetryMin || d > p.RetryMax {
			t.Fatalf("pause %d is %s after %s", n, d, last)
		}
		last = d
	}
	if last != p.RetryMax || p.Backoff(1) != p.RetryMin || p.Backoff(2) != 2*p.RetryMin || p.Backoff(^uint32(0)) != p.RetryMax {
		t.Fatal("it does not double up to the longest")
	}
}

func TestParseVMID(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := VMID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		if back, err := ParseVMID(id.String()); err != nil || back != id {
			t.Fatalf("%s: %v", id, err)
		}
		if back, err := ParseVMID(strings.ToUpper(id.String())); err != nil || back != id {
			t.Fatalf("%s in capitals: %v", id, err)
		}
	})
	for _, bad := range []string{"", "x", strings.Repeat("0", 36), "0000000g-0000-0000-0000-000000000000", "00000000-0000-0000-0000-00000000000", "00000000-0000-0000-0000-0000000000000"} {
		if _, err := ParseVMID(bad); err == nil {
			t.Errorf("%q is a UUID", bad)
		}
	}
}
