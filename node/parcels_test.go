package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// An archive that nobody asks for any more is dropped, also when nobody asks for
// another one.
func TestIdleParcelsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n := &Node{}
		done := make(chan error, 1)
		go func() { done <- n.tidy(ctx) }()
		kept := func() int {
			n.incoming.mu.Lock()
			defer n.incoming.mu.Unlock()
			return len(n.incoming.list)
		}
		id := n.incoming.open(time.Now()).id
		for range 3 {
			time.Sleep(parcelIdle - time.Minute)
			if _, err := n.incoming.add(id, 0, []byte("x"), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * parcelIdle)
		if kept() != 0 {
			t.Error("it is kept for ever")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Archives come in pieces, in any number of tries, and are taken once as a whole.
func TestParcelIsTakenOnce(t *testing.T) {
	var p parcels
	now, all := time.Now(), []byte("an archive")
	id := p.open(now).id
	for _, c := range []struct {
		at   int64
		data string
		ok   bool
	}{{0, "an ", true}, {0, "an ", true}, {0, "AN ", false}, {9, "x", false}, {-1, "x", false}, {3, "archive", true}} {
		if _, err := p.add(id, c.at, []byte(c.data), now); (err == nil) != c.ok {
			t.Errorf("%q at %d: %v", c.data, c.at, err)
		}
	}
	sum := sha256.Sum256(all)
	if got, err := p.take(id, sum[:], now); err != nil || !bytes.Equal(got, all) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := p.take(id, sum[:], now); err == nil {
		t.Error("it is taken twice")
	}
}

// Who would write or read an archive waits while another one does, as long as it
// has patience.
func TestArchivesWaitForOneAnother(t *testing.T) {
	n := &Node{packing: make(chan struct{}, maxPacking)}
	free, err := n.pack(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.readSnapshot(nil, ctx, &lifeboatv1.ReadSnapshotRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("written beside another one: %v", err)
	}
	if _, _, err := n.unpack(ctx, "x", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("read beside another one: %v", err)
	}
	free()
	free, err = n.pack(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	free()
}
