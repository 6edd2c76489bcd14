package hypervisor

import (
	"context"
	"sync"
)

// Feed hands events to any number of watchers; it is what drivers implement
// Watch with. Publishing never blocks: a watcher that falls behind loses
// single events and is told to look at everything instead. The zero value is
// ready for use.
type Feed struct {
	mu   sync.Mutex
	subs map[chan Event]func() bool // the channel, and what detaches it from its context
}

const feedBuffer = 64

// Subscribe returns a channel that is closed when ctx ends or at the next
// Hangup, whichever comes first.
func (f *Feed) Subscribe(ctx context.Context) <-chan Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	ch := make(chan Event, feedBuffer)
	if f.subs == nil {
		f.subs = make(map[chan Event]func() bool)
	}
	f.subs[ch] = context.AfterFunc(ctx, func() { f.remove(ch) })
	return ch
}

// Publish tells every watcher.
func (f *Feed) Publish(e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ch := range f.subs {
		select {
		case ch <- e:
		default:
			overflow(ch)
		}
	}
}

// overflow replaces what a slow watcher has not read by "look at everything".
// Only Publish sends, under the lock, so there is room after one receive.
func overflow(ch chan Event) {
	for {
		select {
		case <-ch:
			continue
		default:
		}
		ch <- Event{}
		return
	}
}

// Hangup closes the channels of all current watchers.
func (f *Feed) Hangup() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ch, detach := range f.subs {
		detach()
		close(ch)
	}
	f.subs = nil
}

func (f *Feed) remove(ch chan Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.subs[ch]; ok { // Hangup may have been first
		delete(f.subs, ch)
		close(ch)
	}
}
