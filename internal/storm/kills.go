package storm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Damage is what a cluster went through while it was written to, and what it kept.
type Damage struct {
	Kills     int // processes killed
	All       int // times that no node was left
	Confirmed int // writes
	Unsure    int // writes whose outcome the client did not know
	Lost      []string
	Doubled   []string // confirmed at one index, found at another, or at two
}

// Err says what was lost; nil = nothing.
func (d *Damage) Err() error {
	switch {
	case len(d.Lost) > 0:
		return fmt.Errorf("%d of %d confirmed writes are lost, the first is %s", len(d.Lost), d.Confirmed, d.Lost[0])
	case len(d.Doubled) > 0:
		return fmt.Errorf("%d confirmed writes are not where they were confirmed, the first is %s", len(d.Doubled), d.Doubled[0])
	case d.Confirmed == 0:
		return errors.New("nothing was confirmed")
	}
	return nil
}

// Kills kills nodes at random under write load until that many processes were
// killed, and then checks that every node has every confirmed write, and that
// their states are the same. Mostly one node goes, sometimes two, sometimes all; it
// comes back after up to two seconds, whatever the others do. The error is what
// kept it from measuring: see [Damage.Err] for the rest.
func (c *Cluster) Kills(ctx context.Context, kills int, seed uint64) (*Damage, error) {
	r := rand.New(rand.NewPCG(seed, 0))
	w, err := c.Write(ctx, 0, 20*time.Second)
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	d := &Damage{}
	for d.Kills < kills {
		victims := c.victims(r, min(len(c.Names), kills-d.Kills))
		if len(victims) == len(c.Names) {
			d.All++
		}
		c.Kill(victims...)
		d.Kills += len(victims)
		for _, n := range victims {
			if !sleep(ctx, time.Duration(r.IntN(1000))*time.Millisecond) {
				return d, context.Cause(ctx)
			}
			if err := c.Start(n); err != nil {
				return d, err
			}
		}
		// Three times out of four it is written again before the next one goes.
		if r.IntN(4) > 0 {
			if _, err := w.After(ctx, time.Now(), backWithin); err != nil {
				return d, fmt.Errorf("after %d kills: %w\n%s", d.Kills, err, c.Said(1000))
			}
		}
		if !sleep(ctx, time.Duration(r.IntN(700))*time.Millisecond) {
			return d, context.Cause(ctx)
		}
	}
	if _, err := c.Ready(ctx, backWithin); err != nil {
		return d, err
	}
	if err := w.Stop(); err != nil {
		return d, err
	}
	return d, c.Check(ctx, w, d)
}

// victims are running nodes.
func (c *Cluster) victims(r *rand.Rand, most int) []string {
	n := 1
	switch x := r.IntN(10); {
	case x == 0:
		n = 3
	case x <= 2:
		n = 2
	}
	running := c.Running()
	r.Shuffle(len(running), func(i, j int) { running[i], running[j] = running[j], running[i] })
	return running[:min(n, most, len(running))]
}

// Check compares what was confirmed with what every node has, and the nodes with one
// another. Nobody may write meanwhile.
func (c *Cluster) Check(ctx context.Context, w *Writers, d *Damage) error {
	done := w.Confirmed()
	d.Confirmed, d.Unsure = len(done), len(w.Unsure())
	if err := c.Agree(ctx, backWithin); err != nil {
		return err
	}
	for _, n := range c.Names {
		have, err := c.Events(ctx, n)
		if err != nil {
			return err
		}
		for _, x := range done {
			at := have[x.Value]
			text := fmt.Sprintf("%s, confirmed at index %d, on %s", x.Value, x.Index, n)
			switch {
			case len(at) == 0:
				d.Lost = append(d.Lost, text)
			case len(at) > 1 || at[0] != x.Index:
				d.Doubled = append(d.Doubled, fmt.Sprintf("%s at %v", text, at))
			}
		}
	}
	return nil
}

// Agree waits until the nodes have shown the digest of one log index that is not
// older than this call, and compares all that it sees.
func (c *Cluster) Agree(ctx context.Context, within time.Duration) error {
	var from uint64
	for _, n := range c.Names {
		from = max(from, c.Status(ctx, n, true).AppliedIndex)
	}
	seen := map[uint64]map[string]string{}
	var differ error
	err := c.Within(ctx, within, "the nodes show a digest of one index", func() bool {
		for _, n := range c.Names {
			for _, x := range c.Status(ctx, n, true).Digests {
				if seen[x.Index] == nil {
					seen[x.Index] = map[string]string{}
				}
				seen[x.Index][n] = x.Digest
			}
		}
		shared := false
		for index, by := range seen {
			var sums []string
			for _, s := range by {
				sums = append(sums, s)
			}
			slices.Sort(sums)
			if sums = slices.Compact(sums); len(sums) > 1 {
				differ = fmt.Errorf("the nodes have different states at index %d: %v", index, by)
				return true
			}
			shared = shared || index >= from && len(by) == len(c.Names)
		}
		return shared
	})
	if differ != nil {
		return differ
	}
	return err
}
