package fsm

import (
	"cmp"
	"iter"
	"slices"
)

// UsageRecord is what a window holds of a resource for an account: what was used of
// it as the window was closed, or a correction of that.
type UsageRecord struct {
	Window   *UsageWindow
	Key      UsageKey
	Owner    *Owner
	Detail   *UsageDetail
	Used     int64  // ns; a correction may be below zero
	Index    uint64 // of the entry that made the record
	Corrects bool
	// First and Last are begin and end of the usage within the window, unix ns; of a
	// correction, as it is with it.
	First, Last int64
}

// UsageQuery says which records are wanted. The zero value wants all.
type UsageQuery struct {
	From, To int64  // unix ns: windows that lie between; 0 = without bound
	After    uint64 // only records that were made after this log index
	Upto     uint64 // only records that were made up to this one; 0 = without bound
	Type     uint32 // 0 = every type
	Resource string
	Owner    func(Owner) bool // nil = everybody's
	// Begin is where to go on: the window that begins there, and in it the first
	// resource that is not below.
	Window   int64
	Resuming UsageKey
}

// Usage walks records by window, type, resource, and the order in which they were
// made. It never blocks Apply. Of a window that was closed after q.After it reads the
// resources that are asked for; of an older one, which can only have corrections, those of
// which something was told since.
func (s *State) Usage(q UsageQuery) iter.Seq[*UsageRecord] {
	return func(yield func(*UsageRecord) bool) {
		var late *lateUsage
		for start, w := range s.UsageWindows(max(q.From, q.Window)) {
			if q.To != 0 && w.End > q.To || q.Upto != 0 && w.Index > q.Upto {
				return
			}
			var from UsageKey
			if start == q.Window {
				from = q.Resuming
			}
			resources := s.UsageNamed(from, q.Type, q.Resource)
			if w.Index <= q.After {
				if late == nil {
					late = s.lateUsage(q)
				}
				resources = late.touching(w, from)
			}
			for _, r := range resources {
				for _, x := range r.Records(w) {
					if x.Index <= q.After || q.Upto != 0 && x.Index > q.Upto || q.Owner != nil && !q.Owner(*x.Owner) {
						continue
					}
					if !yield(x) {
						return
					}
				}
			}
		}
	}
}

// UsageNamed walks the resources by type and id, beginning at from: of one type (0 =
// all) and of one id (empty = all). It goes to them, and not through the others.
func (s *State) UsageNamed(from UsageKey, typ uint32, id string) iter.Seq2[UsageKey, *UsageResource] {
	return func(yield func(UsageKey, *UsageResource) bool) {
		at := from
		if typ != 0 && at.Type < typ {
			at = UsageKey{Type: typ}
		}
		for again := true; again; {
			if id != "" && at.Resource < id {
				at.Resource = id
			}
			again = false
			for key, r := range s.UsageResources(at) {
				switch {
				case typ != 0 && key.Type != typ:
					return
				case id == "" || key.Resource == id:
					if !yield(key, r) {
						return
					}
					if id == "" {
						continue
					}
				}
				// The next place where it can be: in this type, or in the next.
				if next := (UsageKey{key.Type, id}); lessUsage(key, next) {
					at = next
				} else {
					at = UsageKey{Type: key.Type + 1}
				}
				again = at.Type >= key.Type // there is no type after the last
				break
			}
		}
	}
}

// lateUsage are resources of which something was told after an index, by key, with the
// time from which on that changed something.
type lateUsage struct {
	resources []*UsageResource
	since     []int64 // unix ns
	earliest  int64
}

func (s *State) lateUsage(q UsageQuery) *lateUsage {
	out := &lateUsage{earliest: maxTime}
	for k := range s.usage.told.from(toldKey{index: q.After + 1}) {
		if (q.Type == 0 || q.Type == k.key.Type) && (q.Resource == "" || q.Resource == k.key.Resource) {
			out.resources = append(out.resources, s.UsageResource(k.key))
		}
	}
	slices.SortFunc(out.resources, compareUsage)
	out.since = make([]int64, len(out.resources))
	for i, r := range out.resources {
		out.since[i] = maxTime
		for _, f := range r.Facts {
			if f.Index > q.After {
				out.since[i] = f.Time // they are in the order of time
				break
			}
		}
		out.earliest = min(out.earliest, out.since[i])
	}
	return out
}

// touching are those, from a key on, whose part of a window may have changed.
func (l *lateUsage) touching(w *UsageWindow, from UsageKey) iter.Seq2[UsageKey, *UsageResource] {
	return func(yield func(UsageKey, *UsageResource) bool) {
		if w.End <= l.earliest {
			return
		}
		i, _ := slices.BinarySearchFunc(l.resources, &UsageResource{Key: from}, compareUsage)
		for ; i < len(l.resources); i++ {
			if r := l.resources[i]; l.since[i] < w.End && !yield(r.Key, r) {
				return
			}
		}
	}
}

func compareUsage(a, b *UsageResource) int {
	return cmp.Or(cmp.Compare(a.Key.Type, b.Key.Type), cmp.Compare(a.Key.Resource, b.Key.Resource))
}

// Records are the records of a resource in a closed window: first what it held as it
// was closed, then a correction for each entry that has changed that since. By account
// and detail; the sum of all is what is known now.
func (r *UsageResource) Records(w *UsageWindow) (out []*UsageRecord) {
	if w.End <= r.SettledTo {
		for _, x := range r.Settled {
			if x.Start == w.Start {
				out = append(out, &UsageRecord{Window: w, Key: r.Key, Owner: x.Owner, Detail: x.Detail, Used: x.Used, Index: w.Index, First: x.First, Last: x.Last})
			}
		}
		return out
	}
	if len(r.Facts) == 0 || r.Facts[0].Time >= w.End {
		return nil
	}
	base, _ := fold(r.Facts, w.Index)
	was := shares(base, w)
	for i := range was {
		out = append(out, was[i].record(r, w, was[i].used, w.Index))
	}
	for _, index := range r.indicesAfter(w.Index) {
		next, _ := fold(r.Facts, index)
		is := shares(next, w)
		for i := range is {
			before := int64(0)
			if j := find(was, &is[i]); j >= 0 {
				before = was[j].used
			}
			if is[i].used != before {
				x := is[i].record(r, w, is[i].used-before, index)
				x.Corrects = true
				out = append(out, x)
			}
		}
		for i := range was {
			if find(is, &was[i]) < 0 {
				x := was[i].record(r, w, -was[i].used, index)
				x.Corrects, x.First, x.Last = true, 0, 0
				out = append(out, x)
			}
		}
		was = is
	}
	return out
}

// indicesAfter are the entries after an index that told something of r, oldest first.
func (r *UsageResource) indicesAfter(index uint64) (out []uint64) {
	for i := range r.Facts {
		if x := r.Facts[i].Index; x > index {
			out = append(out, x)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// share is what one account has of a window.
type share struct {
	owner       *Owner
	detail      *UsageDetail
	used        int64
	first, last int64
}

func (x *share) record(r *UsageResource, w *UsageWindow, used int64, index uint64) *UsageRecord {
	return &UsageRecord{Window: w, Key: r.Key, Owner: x.owner, Detail: x.detail, Used: used, Index: index, First: x.first, Last: x.last}
}

// shares clips intervals to a window and adds them up, in the order of their first.
func shares(list []UsageInterval, w *UsageWindow) (out []share) {
	for _, v := range list {
		from, to := max(v.Start, w.Start), min(v.end(), w.End)
		if from >= to {
			continue
		}
		n := share{v.Owner, v.Detail, to - from, from, to}
		if i := find(out, &n); i >= 0 {
			out[i].used += n.used
			out[i].last = n.last
			continue
		}
		out = append(out, n)
	}
	return out
}

// find looks for the share of the same account with the same detail; -1 = none.
func find(list []share, x *share) int {
	for i := range list {
		if *list[i].owner == *x.owner && sameDetail(list[i].detail, x.detail) {
			return i
		}
	}
	return -1
}

func sameDetail(a, b *UsageDetail) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
