package fsm

// usage checks what must hold of usage, and what is kept beside the facts.
func (c *checker) usage() {
	u := &c.s.usage
	c.must(u.sum == u.sumAnew(), "usage", "the digest that is kept is %016x, from scratch it is %016x", u.sum, u.sumAnew())
	if c.s.Level < LevelPolicy {
		c.must(u.resources.len() == 0 && u.windows.len() == 0 && u.accounts.len() == 0 && u.since == 0, "usage", "there is usage below feature level %d", LevelPolicy)
	}
	var last *UsageWindow
	for start, w := range u.windows.all() {
		c.must(w.Start == start && w.End > w.Start && w.End <= w.Closed && w.Index <= c.s.Index, "usage", "the window from %d makes no sense: %+v", start, *w)
		c.must(last == nil || last.End == w.Start && last.Index <= w.Index, "usage", "the window from %d does not join the one before it", start)
		c.past(w.Closed, "close of a window")
		last = w
	}
	tally, troubled := newUsage(), 0
	for key, r := range u.resources.all() {
		if r.Key != key || len(r.Facts)+len(r.Settled) == 0 {
			c.fail("usage", "%v stands under %v, with %d facts", r.Key, key, len(r.Facts))
		}
		c.facts(r)
		n := *r
		n.derive()
		if n.open != r.open && (n.open == nil || r.open == nil || *n.open != *r.open) || n.wrong != r.wrong || n.told != r.told {
			c.fail("usage", "%v: what is kept beside its facts is not what follows from them", key)
		}
		if r.wrong > 0 {
			troubled++
		}
		tally.count(r, 1)
		if _, ok := u.told.get(toldKey{r.told, key}); !ok {
			c.fail("usage", "%v, told at index %d, is not found by it", key, r.told)
		}
	}
	c.must(troubled == u.troubled, "usage", "%d resources are in trouble, %d are counted", troubled, u.troubled)
	c.must(u.told.len() == u.resources.len(), "usage", "%d resources are found by when they were told, and there are %d", u.told.len(), u.resources.len())
	c.must(tally.tally.len() == u.tally.len(), "usage", "%d tallies are kept, %d follow", u.tally.len(), tally.tally.len())
	for k, x := range tally.tally.all() {
		if got, _ := u.tally.get(k); got != x {
			c.fail("usage", "the tally of %v is %v, and should be %v", k, got, x)
		}
	}
}

func (c *checker) facts(r *UsageResource) {
	ids := map[string]bool{}
	for i, x := range r.Facts {
		if i > 0 && compareFacts(r.Facts[i-1], x) > 0 {
			c.fail("usage", "the facts of %v are out of order", r.Key)
		}
		if x.ID != "" && ids[x.ID] {
			c.fail("usage", "event %s of %v is there twice", x.ID, r.Key)
		}
		ids[x.ID] = true
		if x.Index > c.s.Index || x.Time <= 0 {
			c.fail("usage", "a fact of %v lies in the future or nowhere: %+v", r.Key, x)
		}
		if x.Owner != nil {
			if a := c.s.Account(*x.Owner); a == nil || a.Owner != x.Owner {
				c.fail("usage", "a fact of %v is of account %s, which is not known", r.Key, x.Owner)
			}
		}
	}
	list, _ := r.Intervals()
	for i, v := range list {
		if v.end() <= v.Start || v.Owner == nil || i > 0 && list[i-1].end() > v.Start {
			c.fail("usage", "the intervals of %v overlap, or make no sense: %+v", r.Key, list)
		}
	}
}
