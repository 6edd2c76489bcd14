package fsm

import (
	"fmt"
	"time"

	"lifeboat/fsm/logpb"
)

const (
	// AlertUsage is the type of alerts about usage.
	AlertUsage = "USAGE"
	// maxUsageFacts bounds what may be told of one resource while it is kept. Its end is
	// taken beyond that: what cannot be closed is charged for ever.
	maxUsageFacts = 1000
	// maxUsageEnds is how many events more that close are kept while it stays open.
	maxUsageEnds = 100
	// maxUsageText bounds ids and names that a teller chooses, in bytes.
	maxUsageText = 256
	// maxUsageAlerts resources in trouble have an alert each; those above share one.
	maxUsageAlerts = 1000
	// maxUsageWindows is how many windows one entry may close or give up.
	maxUsageWindows = 1000
	// maxUsageWindow is how long one may be.
	maxUsageWindow = int64(32 * 24 * time.Hour)
)

// UsageTold is what became of the events of a UsageEvents.
type UsageTold struct {
	Taken   int // are facts now
	Known   int // were facts already
	Refused []UsageRefusal
}

// UsageRefusal is an event that changed nothing, and why.
type UsageRefusal struct {
	At  int // in the batch
	ID  string
	Why string
}

// usageEvents takes each event by itself: what is refused does not hold up the others.
func (t *tx) usageEvents(c *logpb.UsageEvents) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	t.outcome = &UsageTold{}
	var touched usageTouched
	for i, e := range c.Events {
		key, x, no := t.usageFact(e)
		if no == "" {
			var known bool
			if known, no = t.addFact(key, x, &touched); known {
				t.outcome.Known++
				continue
			}
		}
		if no != "" {
			t.outcome.Refused = append(t.outcome.Refused, UsageRefusal{i, e.Id, no})
			continue
		}
		t.outcome.Taken++
		if c.Repair != "" {
			t.event("USAGE.REPAIR", Warning, "usage "+t.usageName(key), "%s was told of %s as of %s: %s", e.Type, t.usageName(key), usageTime(x.Time), c.Repair)
		}
	}
	t.usageAlerts(&touched)
	if n := len(t.outcome.Refused); n > 0 {
		first := t.outcome.Refused[0]
		return fmt.Sprintf("%d of %d events were refused, and the others count; event %d (%s): %s", n, len(c.Events), first.At+1, first.ID, first.Why)
	}
	return ""
}

func usageTime(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }

// usageName is a resource for people.
func (t *tx) usageName(k UsageKey) string { return t.s.usageTypeName(k.Type) + " " + k.Resource }

// usageFact reads an event; refused says why it cannot be a fact.
func (t *tx) usageFact(e *logpb.UsageEvent) (key UsageKey, x UsageFact, refused string) {
	verb, ok := t.s.usage.registry.byEvent[e.Type]
	a := ownerFromLog(e.Account)
	switch {
	case !ok:
		return key, x, fmt.Sprintf("no usage type knows the event %q; `lifeboat usage types` shows them, and adds others", e.Type)
	case e.Id == "" || e.Resource == "":
		return key, x, "an event needs an id of its own, by which its repetition is known, and the id of its resource"
	case max(len(e.Id), len(e.Resource), len(a.Account), len(a.Domain), len(a.Project)) > maxUsageText:
		return key, x, fmt.Sprintf("an id or a name is longer than %d bytes", maxUsageText)
	case e.TimeUnixNs <= 0 || e.TimeUnixNs >= maxTime:
		return key, x, "an event needs the time at which it happened"
	case e.TimeUnixNs-t.now > MaxClockStep:
		return key, x, fmt.Sprintf("it is to happen at %s, and the cluster's time is %s; an event is told when it has happened", usageTime(e.TimeUnixNs), usageTime(t.now))
	case verb.kind == FactOpens && a.Account == "":
		return key, x, fmt.Sprintf("%s begins something that is charged; say to which account", e.Type)
	}
	key = UsageKey{verb.typ.ID, e.Resource}
	x = UsageFact{ID: e.Id, Time: e.TimeUnixNs, Index: t.index, Kind: verb.kind}
	if verb.kind != FactCloses {
		x.Detail = detailFromLog(e.Detail)
	}
	if verb.kind == FactOpens || verb.kind == FactChanges && a.Account != "" {
		if acc := t.s.Account(a); acc != nil {
			x.Owner = acc.Owner
		} else {
			x.Owner = &a // becomes an account with the fact
		}
	}
	return key, x, ""
}

// addFact adds what was told of a resource. known: it was told before.
func (t *tx) addFact(key UsageKey, x UsageFact, touched *usageTouched) (known bool, refused string) {
	u := &t.s.usage
	r, _ := u.resources.get(key)
	if r == nil {
		r = &UsageResource{Key: key}
	}
	for i := range r.Facts {
		if o := &r.Facts[i]; o.ID == x.ID {
			if o.same(x) {
				return true, ""
			}
			return false, fmt.Sprintf("event %s of %s was told before and said something else (it %s at %s); give another event an id of its own", x.ID, t.usageName(key), o.Kind, usageTime(o.Time))
		}
	}
	acc := (*Account)(nil)
	if x.Owner != nil {
		acc = t.s.Account(*x.Owner)
	}
	switch {
	case len(r.Facts) >= maxUsageFacts && !r.endsBy(x):
		touched.refuse(r)
		if r.open == nil {
			return false, fmt.Sprintf("%d events of %s are kept, and it has ended: no other is taken until some are given up (policy usage_keep); tell what is new under another id", len(r.Facts), t.usageName(key))
		}
		return false, fmt.Sprintf("%d events of %s are kept, and no other is taken but its end; if it lives on, tell that it has ended, and tell it as a new resource with another id", len(r.Facts), t.usageName(key))
	case acc != nil && acc.Removed != 0 && x.Time >= acc.Removed:
		return false, fmt.Sprintf("account %s was removed at %s, so nothing can begin for it; if it is there again, run `lifeboat usage account restore`", acc.Owner, usageTime(acc.Removed))
	case x.Time < u.kept && (x.Kind != FactCloses || r.open == nil):
		return false, fmt.Sprintf("it happened before %s, and what was then has been given up (policy usage_keep): it may be known already; tell it as of a later time if it is not", usageTime(u.kept))
	}
	if x.Owner != nil {
		x.Owner = t.account(*x.Owner)
	}
	u.heard(t.now)
	touched.note(r)
	u.set(r.with(x))
	return false, ""
}

// endsBy reports whether a fact is taken although there are enough of r: it may be, or
// is, the end of what is open.
func (r *UsageResource) endsBy(x UsageFact) bool {
	if x.Kind != FactCloses || r.open == nil {
		return false
	}
	if len(r.Facts) < maxUsageFacts+maxUsageEnds {
		return true
	}
	n := r.with(x)
	n.derive()
	return n.open == nil
}

// same reports whether an event says again what f is. Nothing is said of owners that an
// event need not name.
func (f *UsageFact) same(x UsageFact) bool {
	if f.Time != x.Time || f.Kind != x.Kind || (f.Owner == nil) != (x.Owner == nil) || !sameDetail(f.Detail, x.Detail) {
		return false
	}
	return f.Owner == nil || *f.Owner == *x.Owner
}

// account finds an account, or notes a new one.
func (t *tx) account(o Owner) *Owner {
	if a := t.s.Account(o); a != nil {
		return a.Owner
	}
	a := &Account{Owner: &o, Since: t.now}
	t.s.usage.setAccount(a)
	return a.Owner
}

// usageTouched are resources as they were before a command.
type usageTouched struct {
	keys []UsageKey
	was  map[UsageKey]usageWas
	full map[UsageKey]bool // of which something was refused, since there was enough
}

type usageWas struct {
	wrong int
	full  bool
	open  *Owner
}

func (x *usageTouched) note(r *UsageResource) {
	if _, ok := x.was[r.Key]; ok {
		return
	}
	if x.was == nil {
		x.was = map[UsageKey]usageWas{}
	}
	x.was[r.Key] = usageWas{r.wrong, len(r.Facts) >= maxUsageFacts, r.open}
	x.keys = append(x.keys, r.Key)
}

// refuse notes that r has too many facts for another one.
func (x *usageTouched) refuse(r *UsageResource) {
	x.note(r)
	if x.full == nil {
		x.full = map[UsageKey]bool{}
	}
	x.full[r.Key] = true
}

func usageAlert(subject, cause string) AlertKey { return AlertKey{AlertUsage, subject, cause} }

// usageAlerts raises and resolves what follows for the resources that a command has
// touched, once for all its events.
func (t *tx) usageAlerts(x *usageTouched) {
	many := usageAlert("usage", "many")
	for _, key := range x.keys {
		was, subject := x.was[key], t.usageName(key)
		r := t.s.UsageResource(key)
		if r == nil {
			r = &UsageResource{}
		}
		switch k := usageAlert(subject, "facts"); {
		case r.wrong == 0 && was.wrong > 0:
			t.resolve(k, "what was told of it fits now")
		case r.wrong > was.wrong && (t.s.usage.troubled <= maxUsageAlerts || t.s.OpenAlert(k) != nil):
			_, wrong := r.Intervals()
			last := wrong[len(wrong)-1]
			t.raise(k, Warning, "What was told of %s does not fit: event %s of %s is %s. It is kept and counts for nothing; `lifeboat usage resources --resource %s` shows all that is known. Tell what is missing, or find out who tells it wrong.", subject, last.Fact.ID, usageTime(last.Fact.Time), last.Why, key.Resource)
		}
		t.usageFull(usageAlert(subject, "full"), subject, was, r, x.full[key])
		t.chargedTo(was.open, r.open)
	}
	switch n, on := t.s.usage.troubled, t.s.OpenAlert(many) != nil; {
	case n > maxUsageAlerts && !on:
		t.raise(many, Critical, "What was told of more than %d resources does not fit. No more alerts are raised for single ones; `lifeboat usage resources --trouble` lists them. Somebody tells events wrong, or events are missing.", maxUsageAlerts)
	case n <= maxUsageAlerts && on:
		t.resolve(many, "%d resources are left that do not fit", n)
	}
}

// usageFull raises that something of a resource was refused, since enough of it is kept,
// while it is charged. It is over when the resource ends, or some of it was given up: who
// tells more of what has ended hears from the refusal what to do.
func (t *tx) usageFull(k AlertKey, subject string, was usageWas, r *UsageResource, refused bool) {
	full := len(r.Facts) >= maxUsageFacts
	switch {
	case refused && r.open != nil:
		t.raise(k, Warning, "%d events of %s are kept, and others are refused: what they say counts for nothing. Its end is taken all the same. If it lives on, tell that it has ended, and tell it as a new resource with an id of its own; find out who tells so much of it.", len(r.Facts), subject)
	case (full || was.full) && (r.open == nil || !full):
		t.resolve(k, "it has ended, or less of it is kept")
	}
}

// chargedTo looks at accounts that are removed: nothing of theirs should be open.
func (t *tx) chargedTo(was, is *Owner) {
	if was == is {
		return
	}
	if is != nil {
		if a := t.s.Account(*is); a != nil && a.Removed != 0 && t.s.OpenAlert(removedAlert(a)) == nil {
			t.removedOpen(a)
		}
	}
	if was != nil {
		if a := t.s.Account(*was); a != nil && a.Removed != 0 && t.s.usage.openOf(*was) == 0 {
			t.resolve(removedAlert(a), "nothing of it is open any more")
		}
	}
}

func removedAlert(a *Account) AlertKey { return usageAlert("account "+a.Owner.String(), "removed") }

func (t *tx) removedOpen(a *Account) {
	t.raise(removedAlert(a), Warning, "Account %s was removed at %s, and %d of its resources are charged on. Tell their end, or let `lifeboat usage repair` end them with the account.", a.Owner, usageTime(a.Removed), t.s.usage.openOf(*a.Owner))
}

func (t *tx) usageAccountSet(c *logpb.UsageAccountSet) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	o := ownerFromLog(c.Account)
	old := t.s.Account(o)
	switch {
	case old == nil && c.RemovedUnixNs == 0:
		return fmt.Sprintf("nothing was ever charged to account %s; `lifeboat usage account list` shows the accounts", o)
	case o.Account == "" || max(len(o.Account), len(o.Domain), len(o.Project)) > maxUsageText:
		return fmt.Sprintf("an account has a name of 1 to %d bytes", maxUsageText)
	case c.RemovedUnixNs < 0 || c.RemovedUnixNs-t.now > MaxClockStep:
		return "an account is removed when it is, or was earlier"
	case old != nil && old.Removed == c.RemovedUnixNs:
		return ""
	}
	if old == nil { // what comes late of it is refused all the same
		t.s.usage.heard(t.now)
		old = &Account{Owner: &o, Since: t.now}
	}
	a := *old
	a.Removed = c.RemovedUnixNs
	t.s.usage.setAccount(&a)
	if a.Removed == 0 {
		t.event("USAGE.ACCOUNT", Info, "account "+o.String(), "account %s is there again", o)
		t.resolve(removedAlert(&a), "the account is there again")
		return ""
	}
	t.event("USAGE.ACCOUNT", Info, "account "+o.String(), "account %s was removed at %s", o, usageTime(a.Removed))
	if t.s.usage.openOf(o) > 0 {
		t.removedOpen(&a)
	}
	return ""
}

// usageClose closes windows. What was closed already is no news.
func (t *tx) usageClose(c *logpb.UsageClose) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	if len(c.Windows) == 0 || len(c.Windows) > maxUsageWindows {
		return fmt.Sprintf("an entry closes 1 to %d windows", maxUsageWindows)
	}
	last := t.s.LastUsageWindow()
	news := c.Windows
	for last != nil && len(news) > 0 && news[0].StartUnixNs < last.End {
		w, ok := t.s.usage.windows.get(news[0].StartUnixNs)
		if !ok || w.End != news[0].EndUnixNs {
			return fmt.Sprintf("a window from %s to %s cannot be closed: up to %s they are closed already, with other boundaries", usageTime(news[0].StartUnixNs), usageTime(news[0].EndUnixNs), usageTime(last.End))
		}
		news = news[1:]
	}
	at := int64(0)
	if last != nil {
		at = last.End
	} else if len(news) > 0 {
		at = news[0].StartUnixNs
	}
	for _, w := range news {
		switch {
		case w.StartUnixNs != at || at <= 0:
			return fmt.Sprintf("a window from %s cannot be closed: the one before it ends at %s", usageTime(w.StartUnixNs), usageTime(at))
		case w.EndUnixNs <= w.StartUnixNs || w.EndUnixNs-w.StartUnixNs > maxUsageWindow:
			return fmt.Sprintf("a window from %s to %s cannot be closed: it must be longer than nothing and no longer than 32 days", usageTime(w.StartUnixNs), usageTime(w.EndUnixNs))
		case w.EndUnixNs > t.now:
			return fmt.Sprintf("a window to %s cannot be closed at %s: it has not ended", usageTime(w.EndUnixNs), usageTime(t.now))
		}
		at = w.EndUnixNs
	}
	if len(news) == 0 {
		return ""
	}
	t.s.usage.heard(t.now)
	for _, w := range news {
		t.s.usage.setWindow(&UsageWindow{Start: w.StartUnixNs, End: w.EndUnixNs, Index: t.index, Closed: t.now, Zone: c.Zone, Unit: c.Unit})
	}
	t.event("USAGE.CLOSE", Info, "usage", "usage from %s to %s was closed (%d windows, %s, %s): what is told of that time from now on is a correction",
		usageTime(news[0].StartUnixNs), usageTime(at), len(news), c.Unit, c.Zone)
	return ""
}

// usageTrim gives up windows that are older than the policy keeps, and of the named
// resources what lies before them.
func (t *tx) usageTrim(c *logpb.UsageTrim) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	u := &t.s.usage
	if most := t.now - int64(t.s.Policy.UsageKeep); c.BeforeUnixNs > most || c.BeforeUnixNs <= 0 {
		return fmt.Sprintf("usage is kept for %s, that is from %s on", t.s.Policy.UsageKeep, usageTime(max(most, 0)))
	}
	first, ok := u.windows.get(c.BeforeUnixNs)
	if !ok {
		return fmt.Sprintf("no closed window begins at %s; usage is given up window by window", usageTime(c.BeforeUnixNs))
	}
	windows := 0
	for windows < maxUsageWindows {
		start, w, ok := u.windows.min()
		if !ok || start >= first.Start {
			break
		}
		u.dropWindow(w)
		windows++
	}
	u.kept = max(u.kept, first.Start)
	var touched usageTouched
	gone := 0
	for _, k := range c.Keys {
		r := t.s.UsageResource(UsageKey{k.Type, k.Resource})
		if r == nil {
			continue
		}
		if n := r.before(first); n != nil {
			touched.note(r)
			gone += len(r.Facts) - len(n.Facts)
			u.set(n)
		}
	}
	t.usageAlerts(&touched)
	if windows > 0 {
		t.event("USAGE.TRIM", Info, "usage", "usage before %s was given up (policy usage_keep): %d windows", usageTime(first.Start), windows)
	}
	return ""
}

// Trims reports whether there is something of r to give up before a window that is the
// first to be kept.
func (r *UsageResource) Trims(first *UsageWindow) bool { return r.before(first) != nil }

// before is r without what can make no record in the windows from first on; nil when
// there is nothing of that.
func (r *UsageResource) before(first *UsageWindow) *UsageResource {
	n := *r
	n.Settled = nil
	for _, x := range r.Settled {
		if x.Start >= first.Start {
			n.Settled = append(n.Settled, x)
		}
	}
	// Whole stretches that were told before first was closed, and after which the
	// resource was closed.
	cutAt := 0
	for i := 0; i < len(r.Facts); {
		j := i + 1
		for j < len(r.Facts) && r.Facts[j].Time == r.Facts[i].Time {
			j++
		}
		late := false
		for _, x := range r.Facts[i:j] {
			late = late || x.Index > first.Index
		}
		if late || r.Facts[i].Time > first.Start {
			break
		}
		list, _ := fold(r.Facts[:j], ^uint64(0))
		if len(list) == 0 || list[len(list)-1].End != 0 {
			cutAt = j
		}
		i = j
	}
	if cutAt == 0 && len(n.Settled) == len(r.Settled) {
		return nil
	}
	n.Facts = r.Facts[cutAt:]
	return &n
}
