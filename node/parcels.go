package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"time"
)

// parcels are archives that are on their way in or out, in pieces. They live in
// memory, for as long as somebody asks.
type parcels struct {
	mu   sync.Mutex
	list []*parcel // the one used last is the last
}

type parcel struct {
	id   string
	data bytes.Buffer
	used time.Time
}

const (
	// maxParcels are kept at a time; another one replaces the one that was used
	// least recently.
	maxParcels = 2
	parcelIdle = 5 * time.Minute
	// maxPacking is how many archives are written or read at a time: each takes several
	// times its size in memory.
	maxPacking = 1
	pieceSize  = 1 << 20 // bytes of an archive in one answer
	maxParcel  = MaxArchive
)

// MaxArchive is how many bytes an archive may have that is restored.
const MaxArchive = 512 << 20

// open begins a parcel.
func (p *parcels) open(now time.Time) *parcel {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep(now)
	if len(p.list) >= maxParcels {
		p.list = slices.Delete(p.list, 0, 1)
	}
	x := &parcel{id: newID(), used: now}
	p.list = append(p.list, x)
	return x
}

// tidy drops the archives that nobody asks for any more, until ctx ends.
func (n *Node) tidy(ctx context.Context) error {
	for pause(ctx, parcelIdle/5) {
		for _, p := range []*parcels{&n.outgoing, &n.incoming} {
			p.mu.Lock()
			p.sweep(time.Now())
			p.mu.Unlock()
		}
	}
	return nil
}

func (p *parcels) sweep(now time.Time) {
	p.list = slices.DeleteFunc(p.list, func(x *parcel) bool { return now.Sub(x.used) > parcelIdle })
}

func (p *parcels) find(id string, now time.Time) (*parcel, error) {
	p.sweep(now)
	for i, x := range p.list {
		if x.id == id {
			x.used = now
			p.list = append(slices.Delete(p.list, i, i+1), x)
			return x, nil
		}
	}
	return nil, notFound("this node does not keep that snapshot any more (leadership may have changed); begin again")
}

// piece is what a parcel holds from offset on.
func (p *parcels) piece(id string, offset int64, now time.Time) (data []byte, size int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x, err := p.find(id, now)
	if err != nil {
		return nil, 0, err
	}
	all := x.data.Bytes()
	if offset < 0 || offset > int64(len(all)) {
		return nil, 0, refuse("the snapshot has %d bytes, there is no byte %d", len(all), offset)
	}
	return all[offset:min(int64(len(all)), offset+pieceSize)], int64(len(all)), nil
}

// add appends a piece; one that is there already is no error.
func (p *parcels) add(id string, offset int64, data []byte, now time.Time) (size int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x, err := p.find(id, now)
	if err != nil {
		return 0, err
	}
	have := int64(x.data.Len())
	switch {
	case offset == have && have+int64(len(data)) <= maxParcel:
		x.data.Write(data)
	case offset == have:
		return 0, refuse("a snapshot may have at most %d bytes", maxParcel)
	case offset < 0 || offset > have || !bytes.HasPrefix(x.data.Bytes()[offset:], data):
		return 0, refuse("%d bytes are here, and the piece at %d does not follow", have, offset)
	}
	return int64(x.data.Len()), nil
}

// take removes a parcel whose sum is right.
func (p *parcels) take(id string, sum []byte, now time.Time) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x, err := p.find(id, now)
	if err != nil {
		return nil, err
	}
	p.list = p.list[:len(p.list)-1] // find has put it there
	if got := sha256.Sum256(x.data.Bytes()); !bytes.Equal(got[:], sum) {
		return nil, refuse("what arrived is not what was sent; nothing was changed: send it again")
	}
	return x.data.Bytes(), nil
}
