package cloudstack

import (
	"bytes"
	"strings"
	"testing"
)

func read(t testing.TB, name, text string) *Table {
	t.Helper()
	x, err := ReadTable(name, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

const (
	eventsCSV = "id,type,account_id,created,resource_id\n1,LB.DELETE,2,2026-01-02 06:00:00,700\n2,LB.DELETE,2,2025-01-02 06:00:00,701\n"
	lbNew     = "id\tlb_id\tzone_id\taccount_id\tdomain_id\tcreated\tdeleted\n1\t700\t1\t2\t1\t2026-01-01 12:00:00\tNULL\n700\t701\t1\t2\t1\t2026-01-01 12:00:00\tNULL\n"
	lbOld     = "id,zone_id,account_id,domain_id,created,deleted\n700,1,2,1,2026-01-01 12:00:00,\n701,1,2,1,2026-01-01 12:00:00,\\N\n"
	usageCSV  = "id,account_id,usage_type,usage_id,raw_usage,usage_display,description,start_date,end_date\n" +
		"1,2,11,700,12.000000953674316,\"it's \\ 12 Hrs\",x,2026-01-01 00:00:00,2026-01-01 23:59:59\n" +
		"2,2,11,700,24,24 Hrs,x,2026-01-02 00:00:00,2026-01-02 23:59:59\n" +
		"3,2,11,700,24,24 Hrs,x,2026-01-03 00:00:00,2026-01-03 23:59:59\n" +
		"4,2,11,1,24,24 Hrs,x,2026-01-03 00:00:00,2026-01-03 23:59:59\n"
)

// In both schemas the rule is meant by its own id: 700 is a rule, and the key of another.
func TestBothSchemas(t *testing.T) {
	for name, lbs := range map[string]string{"before 4.18": lbOld, "since 4.18": lbNew} {
		p, err := Make(Input{Events: read(t, "usage_event", eventsCSV), Usage: read(t, "cloud_usage", usageCSV), Helpers: []Helper{{Kind: LoadBalancer(), Table: read(t, "lb", lbs)}}})
		if err != nil {
			t.Fatal(err)
		}
		// A delete before the create is that of an earlier life.
		if len(p.Findings) != 1 || p.Findings[0].Resource != "700" || p.Findings[0].Rows != 2 {
			t.Errorf("%s: %+v", name, p.Findings)
		}
		if len(p.Accounts) != 1 || p.Accounts[0].Hours < 41.99 || p.Accounts[0].Hours > 42.01 {
			t.Errorf("%s: %+v", name, p.Accounts)
		}
		var b bytes.Buffer
		if err := p.WriteSQL(&b, "cloud`; DROP DATABASE x; -- ", false); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), "USE `cloud; DROP DATABASE x; -- `;") || strings.Count(b.String(), "UPDATE ") != 3 || !strings.Contains(b.String(), "@changed = 3,") {
			t.Errorf("%s:\n%s", name, b.String())
		}
	}
}

func TestHalfAPlanIsNone(t *testing.T) {
	lb := Helper{Kind: LoadBalancer(), Table: read(t, "lb", lbNew)}
	for want, in := range map[string]Input{
		"the events are missing":      {Helpers: []Helper{lb}},
		"no column \"resource_id\"":   {Events: read(t, "usage_event", "id,type,created\n"), Helpers: []Helper{lb}},
		"line 2: resource_id \"7 x\"": {Events: read(t, "usage_event", strings.Replace(eventsCSV, "700", "7 x", 1)), Helpers: []Helper{lb}},
		"line 3: created":             {Events: read(t, "usage_event", strings.Replace(eventsCSV, "2025-01-02 06:00:00", "yesterday", 1)), Helpers: []Helper{lb}},
		"raw_usage \"-1\"":            {Events: read(t, "usage_event", eventsCSV), Usage: read(t, "cloud_usage", strings.Replace(usageCSV, "12.000000953674316", "-1", 1)), Helpers: []Helper{lb}},
		"created \"0000-00-00":        {Events: read(t, "usage_event", eventsCSV), Helpers: []Helper{{Kind: LoadBalancer(), Table: read(t, "lb", strings.Replace(lbNew, "2026-01-01 12:00:00", "0000-00-00 00:00:00", 1))}}},
	} {
		if p, err := Make(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v, %+v", want, err, p)
		}
	}
	for want, text := range map[string]string{
		"it is empty":            "",
		"is there twice":         "a,b,a\n",
		"line 3 has 1 columns":   "a\tb\n1\t2\n1\n",
		"wrong number of fields": "a,b\n1,2\n1\n",
	} {
		if _, err := ReadTable("x", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// Whatever an export holds, what it says stands in no statement but quoted.
func FuzzExports(f *testing.F) {
	f.Add(eventsCSV, lbNew, usageCSV)
	f.Add(eventsCSV, lbOld, usageCSV)
	f.Fuzz(func(t *testing.T, events, lbs, usage string) {
		e, err := ReadTable("e", strings.NewReader(events))
		if err != nil {
			return
		}
		l, err := ReadTable("l", strings.NewReader(lbs))
		if err != nil {
			return
		}
		u, err := ReadTable("u", strings.NewReader(usage))
		if err != nil {
			return
		}
		p, err := Make(Input{Events: e, Usage: u, Helpers: []Helper{{Kind: LoadBalancer(), Table: l}, {Kind: VMSnapshot(), Table: l}, {Kind: Network(), Table: l}}})
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := p.WriteSQL(&b, "cloud_usage", false); err != nil {
			t.Fatal(err)
		}
		n := 0
		for line := range strings.Lines(b.String()) {
			switch {
			case strings.HasPrefix(line, "--"), strings.HasPrefix(line, "USE "), strings.HasPrefix(line, "START "), strings.HasPrefix(line, "SET "), strings.HasPrefix(line, "SELECT "), strings.HasPrefix(line, "COMMIT"):
			case strings.HasPrefix(line, "UPDATE `") && strings.HasSuffix(line, " LIMIT 1; SET @changed = @changed + ROW_COUNT();\n") && strings.Count(line, ";") <= 2+strings.Count(line, "'")/2:
				n++
			default:
				t.Fatalf("a line that is none of ours: %q", line)
			}
		}
		if n != p.Changes() {
			t.Fatalf("%d statements, %d changes", n, p.Changes())
		}
		for _, a := range p.Accounts {
			if !(a.Hours > 0) {
				t.Fatalf("account %s was billed %v too much", a.ID, a.Hours)
			}
		}
	})
}
