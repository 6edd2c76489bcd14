package fsm

import "slices"

// notifications checks the receivers, the silences and the outbox.
func (c *checker) notifications() {
	s := c.s
	if s.Level < LevelPolicy {
		c.must(s.receivers.len()+s.silences.len()+s.outbox.len() == 0, "notify", "there are receivers, silences or notices at level %d", s.Level)
	}
	for name, r := range s.Receivers() {
		c.must(r.Name == name && name != "" && r.Kind != "" && uint64(r.Done) <= s.seq, "notify", "receiver %q makes no sense: %+v", name, *r)
		if b := r.Batch; b != nil {
			c.must(b.ID != "" && b.Upto > r.Done && uint64(b.Upto) <= s.seq && b.Count > 0, "notify", "the delivery to %s makes no sense: %+v", name, *b)
			c.past(b.Begun, "a delivery to "+name)
		}
	}
	for id, x := range s.Silences() {
		c.minted(uint64(id), "silence")
		c.must(x.ID == id && x.From < x.Until && x.Reason != "" && !(x.Planned && x.Ended != 0) && x.Ended <= s.Time, "notify", "silence %d makes no sense: %+v", id, *x)
	}
	news, repeats := 0, map[string]int{}
	for id, n := range s.outbox.all() {
		if _, is := s.news.get(id); is != (n.Kind != NoticeStill) {
			c.fail("notify", "notice %d is %s, and news: %t", id, n.Kind, is)
		}
		if n.Kind != NoticeStill {
			news++
		} else if c.must(len(n.For) == 1, "notify", "notice %d repeats something to %q, not to one", id, n.For); len(n.For) == 1 {
			if repeats[n.For[0]]++; repeats[n.For[0]] == repeatAtOnce+1 {
				c.fail("notify", "more than %d repeats wait for %s", repeatAtOnce, n.For[0])
			}
		}
		c.minted(uint64(id), "notice")
		if n.ID != id || n.Kind < NoticeOpened || n.Kind > NoticeStill || n.Alert == nil || n.Alert.ID == 0 {
			c.fail("notify", "notice %d makes no sense: %+v", id, *n)
		}
		if !slices.ContainsFunc(n.For, func(name string) bool { r := s.Receiver(name); return r != nil && r.Done < id }) {
			c.fail("notify", "notice %d is kept and nobody waits for it", id)
		}
	}
	c.must(news == s.news.len(), "notify", "%d notices are news, %d are known as such", news, s.news.len())
}
