package storm

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// Tally is what the agents of one process have to say, a few times a second.
type Tally struct {
	Count    int            `json:"count"`
	Leaders  map[string]int `json:"leaders"`   // who answered last → agents
	OldestMS int64          `json:"oldest_ms"` // since the last answer of the one that waits longest; -1 = one never had any
	Answers  int            `json:"answers"`
	Failures int            `json:"failures"`
	Said     string         `json:"said"` // what failed last for the one that waits longest
}

const (
	tallyEvery   = 100 * time.Millisecond
	registerings = 2 // of one process at a time: a fleet is built host by host
)

// ActAsAgents is a process of agents: it acts as them until ctx ends, or the time that
// it was given is over, and writes tallies to out as lines of JSON.
func ActAsAgents(ctx context.Context, cfg AgentsConfig, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, cfg.Within)
	defer cancel()
	all, err := newAgents(cfg)
	if err != nil {
		return fmt.Errorf("make agents: %w", err)
	}
	slots := make(chan struct{}, registerings)
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, a := range all {
		wg.Go(func() { a.run(ctx, slots) })
	}
	lines := json.NewEncoder(out)
	for sleep(ctx, tallyEvery) {
		if err := lines.Encode(tally(all, time.Now())); err != nil {
			cancel()
			return fmt.Errorf("write tally: %w", err) // whoever wanted it is gone
		}
	}
	return nil
}

func tally(all []*agent, now time.Time) Tally {
	t := Tally{Count: len(all), Leaders: map[string]int{}}
	oldest := now
	for _, a := range all {
		a.mu.Lock()
		if a.answered.Before(oldest) && a.said != "" {
			oldest, t.Said = a.answered, a.name+": "+a.said
		}
		switch {
		case a.answered.IsZero():
			t.OldestMS = -1
		default:
			t.Leaders[a.leader]++
			if t.OldestMS >= 0 {
				t.OldestMS = max(t.OldestMS, now.Sub(a.answered).Milliseconds())
			}
		}
		t.Answers, t.Failures = t.Answers+a.answers, t.Failures+a.failures
		a.mu.Unlock()
	}
	return t
}
