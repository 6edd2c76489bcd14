package fsm

import (
	"cmp"
	"slices"
	"strings"
)

// UsageInterval is a stretch of time in which a resource is charged to one account.
type UsageInterval struct {
	Start  int64 // unix ns
	End    int64 // unix ns; 0 = it goes on
	Owner  *Owner
	Detail *UsageDetail
}

// end is End as a number to reckon with.
func (v UsageInterval) end() int64 {
	if v.End == 0 {
		return maxTime
	}
	return v.End
}

// UsageTrouble is a fact that does not fit, and why.
type UsageTrouble struct {
	Fact UsageFact
	Why  string
}

// Intervals are the intervals of a resource by time, as what is known tells, and the
// facts that do not fit.
func (r *UsageResource) Intervals() ([]UsageInterval, []UsageTrouble) {
	return fold(r.Facts, ^uint64(0))
}

// compareFacts orders facts by when they happened. Those of one time the fold orders
// further.
func compareFacts(a, b UsageFact) int {
	return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Kind, b.Kind), strings.Compare(a.ID, b.ID))
}

// fold makes intervals of the facts that had been told up to an index. Of facts at the
// same time, the one that changes the state comes first; so what it makes does not
// depend on the order in which facts came.
func fold(facts []UsageFact, upTo uint64) (out []UsageInterval, wrong []UsageTrouble) {
	var f folding
	for i := 0; i < len(facts); {
		j := i + 1
		for j < len(facts) && facts[j].Time == facts[i].Time {
			j++
		}
		if j == i+1 {
			if facts[i].Index <= upTo {
				f.take(facts[i])
			}
		} else {
			f.ties(facts[i:j], upTo)
		}
		i = j
	}
	if f.on {
		f.out = append(f.out, f.now)
	}
	return f.out, f.wrong
}

type folding struct {
	on    bool
	now   UsageInterval
	out   []UsageInterval
	wrong []UsageTrouble
}

// ties takes facts of one time: in turn one that fits, as long as there is one.
func (f *folding) ties(facts []UsageFact, upTo uint64) {
	rest := make([]UsageFact, 0, len(facts))
	for _, x := range facts {
		if x.Index <= upTo {
			rest = append(rest, x)
		}
	}
	for len(rest) > 0 {
		next := FactOpens
		if f.on {
			next = FactCloses
		}
		i := slices.IndexFunc(rest, func(x UsageFact) bool { return x.Kind == next })
		if i < 0 {
			i = 0
		}
		f.take(rest[i])
		rest = slices.Delete(rest, i, i+1)
	}
}

func (f *folding) take(x UsageFact) {
	switch {
	case x.Kind == FactOpens && f.on:
		f.amiss(x, "a second create: it was open already")
	case x.Kind == FactOpens:
		f.on, f.now = true, UsageInterval{Start: x.Time, Owner: x.Owner, Detail: x.Detail}
	case !f.on && x.Kind == FactCloses:
		f.amiss(x, "a delete without a create: it was not open")
	case !f.on:
		f.amiss(x, "a change of what was not open")
	case x.Kind == FactCloses:
		f.close(x.Time)
		f.on = false
	default:
		n := UsageInterval{Start: x.Time, Owner: f.now.Owner, Detail: f.now.Detail}
		if x.Owner != nil {
			n.Owner = x.Owner
		}
		if x.Detail != nil {
			n.Detail = x.Detail.over(f.now.Detail)
		}
		f.close(x.Time)
		f.now = n
	}
}

func (f *folding) amiss(x UsageFact, why string) { f.wrong = append(f.wrong, UsageTrouble{x, why}) }

// close ends the interval. One of no length is none.
func (f *folding) close(at int64) {
	if f.now.End = at; f.now.Start < at {
		f.out = append(f.out, f.now)
	}
}

// over is d where it says something, and old where it does not.
func (d *UsageDetail) over(old *UsageDetail) *UsageDetail {
	if old == nil {
		return d
	}
	return &UsageDetail{Size: cmp.Or(d.Size, old.Size), Offering: cmp.Or(d.Offering, old.Offering), Zone: cmp.Or(d.Zone, old.Zone), Name: cmp.Or(d.Name, old.Name)}
}

// derive repeats what is often asked of the facts.
func (r *UsageResource) derive() {
	r.open, r.wrong, r.told = nil, 0, 0
	for i := range r.Facts {
		r.told = max(r.told, r.Facts[i].Index)
	}
	if len(r.Facts) == 1 && r.Facts[0].Kind == FactOpens { // as most are
		r.open = r.Facts[0].Owner
		return
	}
	out, wrong := r.Intervals()
	r.wrong = len(wrong)
	if n := len(out); n > 0 && out[n-1].End == 0 {
		r.open = out[n-1].Owner
	}
}

// with returns r with one more fact.
func (r *UsageResource) with(x UsageFact) *UsageResource {
	n := *r
	i := len(r.Facts) // most come in order; behind those that are equal
	for i > 0 && compareFacts(r.Facts[i-1], x) > 0 {
		i--
	}
	n.Facts = make([]UsageFact, 0, len(r.Facts)+1)
	n.Facts = append(append(append(n.Facts, r.Facts[:i]...), x), r.Facts[i:]...)
	return &n
}
