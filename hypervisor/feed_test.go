package hypervisor

import (
	"context"
	"testing"
	"testing/synctest"
)

func TestFeedTellsASlowWatcherToLookAtEverything(t *testing.T) {
	var f Feed
	ch := f.Subscribe(t.Context())
	for i := range 10 * feedBuffer {
		f.Publish(Event{UUID: UUID{15: byte(i)}})
	}
	f.Hangup()
	all := false
	for e := range ch {
		all = all || e.UUID.IsZero()
	}
	if !all {
		t.Error("events were lost without a word")
	}
}

func TestFeedClosesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Feed
		ctx, cancel := context.WithCancel(t.Context())
		ch := f.Subscribe(ctx)
		cancel()
		synctest.Wait()
		f.Publish(Event{}) // must not send on a closed channel
		f.Hangup()         // must not close it again
		if _, open := <-ch; open {
			t.Error("the channel outlived its context")
		}
		ctx, cancel = context.WithCancel(t.Context())
		again := f.Subscribe(ctx)
		f.Hangup()
		cancel()
		synctest.Wait()
		if _, open := <-again; open {
			t.Error("the channel survived a hangup")
		}
	})
}
