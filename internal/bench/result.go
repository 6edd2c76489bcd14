package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
)

// result is one line of the table.
type result struct {
	Name     string  `json:"name"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Baseline float64 `json:"baseline"` // of the same run, or the promised value
	Ratio    float64 `json:"ratio"`    // value / baseline
	Target   string  `json:"target"`   // "" = for information
	Met      bool    `json:"met"`
	Note     string  `json:"note,omitempty"`
}

func (b *bench) add(r ...result) { b.results = append(b.results, r...) }

// readResults are those of an earlier run; none when there is no file.
func readResults(path string) (list []result, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("read earlier results: %w", err)
	}
	return list, nil
}

// merge puts newer results in the place of earlier ones of the same name, and the
// others after them.
func merge(earlier, newer []result) []result {
	out := slices.Clone(earlier)
	for _, r := range newer {
		if i := slices.IndexFunc(out, func(x result) bool { return x.Name == r.Name }); i >= 0 {
			out[i] = r
		} else {
			out = append(out, r)
		}
	}
	return out
}

// atMost and atLeast are measured against a promised value.
func atMost(name string, value float64, unit string, target float64) result {
	return result{Name: name, Value: value, Unit: unit, Baseline: target, Ratio: value / target, Target: fmt.Sprintf("≤ %v", number(target)), Met: value <= target}
}

func atLeast(name string, value float64, unit string, target float64) result {
	return result{Name: name, Value: value, Unit: unit, Baseline: target, Ratio: value / target, Target: fmt.Sprintf("≥ %v", number(target)), Met: value >= target}
}

// info is a figure without a promise.
func info(name string, value float64, unit string) result {
	return result{Name: name, Value: value, Unit: unit}
}

// number writes a value with as many digits as mean something.
func number(v float64) string {
	switch {
	case v >= 1000:
		s := fmt.Sprintf("%.0f", v)
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	case v == float64(int64(v)), v >= 100:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

func printTable(w io.Writer, results []result) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tMEASURED\tBASELINE\tRATIO\tTARGET\tMET")
	for _, r := range results {
		value, base, ratio, met := number(r.Value)+" "+r.Unit, "-", "-", "-"
		if r.Baseline > 0 {
			base, ratio = number(r.Baseline), fmt.Sprintf("%.2f", r.Ratio)
		}
		if r.Target != "" {
			met = map[bool]string{true: "yes", false: "NO"}[r.Met]
		}
		if r.Note != "" && r.Value == 0 {
			value, met = r.Note, "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, value, base, ratio, orDash(r.Target), met)
	}
	_ = t.Flush() // a terminal that is gone
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
