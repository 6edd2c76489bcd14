package node

import (
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
)

// proxyDesk holds the jobs that agents do at other hosts' power controllers. A
// job stands in every answer to its agent until its outcome is here: answers may
// be lost, and agents begin each job once.
type proxyDesk struct {
	mu    sync.Mutex
	nonce uint64
	jobs  map[uint64]*proxied
	off   map[fsm.HostID][]uint64 // to be called off
}

type proxied struct {
	peer   fsm.HostID
	job    *lifeboatv1.FenceJob
	until  time.Duration // on the term's clock
	given  bool
	answer chan *lifeboatv1.FenceOutcome // capacity 1
}

func newProxyDesk() *proxyDesk {
	return &proxyDesk{jobs: map[uint64]*proxied{}, off: map[fsm.HostID][]uint64{}}
}

// give has a peer do a job that must have ended at an instant of the term.
func (d *proxyDesk) give(peer fsm.HostID, until time.Duration, job *lifeboatv1.FenceJob) (uint64, <-chan *lifeboatv1.FenceOutcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nonce++
	job.Nonce = d.nonce
	j := &proxied{peer: peer, job: job, until: until, answer: make(chan *lifeboatv1.FenceOutcome, 1)}
	d.jobs[d.nonce] = j
	return d.nonce, j.answer
}

// withdraw forgets a job, and reports whether its agent must be told.
func (d *proxyDesk) withdraw(nonce uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	j := d.jobs[nonce]
	if j == nil {
		return false
	}
	delete(d.jobs, nonce)
	if j.given {
		d.off[j.peer] = append(d.off[j.peer], nonce)
	}
	return j.given
}

// news reports whether there is something for a peer that it has not been told.
func (d *proxyDesk) news(peer fsm.HostID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.off[peer]) > 0 {
		return true
	}
	for _, j := range d.jobs {
		if j.peer == peer && !j.given {
			return true
		}
	}
	return false
}

// take is what the answer to a report that arrived at an instant says. The agent
// counts from the moment it sent that report, which was earlier: it gives up
// before the deadline, whatever the answer takes (S10).
func (d *proxyDesk) take(peer fsm.HostID, arrived time.Duration) (jobs []*lifeboatv1.FenceJob, off []uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	off = d.off[peer]
	delete(d.off, peer)
	for _, nonce := range sortedKeys(d.jobs) {
		j := d.jobs[nonce]
		if j.peer != peer {
			continue
		}
		j.given = true
		job := proto.CloneOf(j.job)
		job.WithinMs = (j.until - arrived).Milliseconds()
		jobs = append(jobs, job)
	}
	return jobs, off
}

// deliver takes an outcome; one that nobody asked this peer for in this term is
// dropped.
func (d *proxyDesk) deliver(from fsm.HostID, term uint64, o *lifeboatv1.FenceOutcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if j := d.jobs[o.Nonce]; j != nil && j.peer == from && o.Term == term && j.given {
		delete(d.jobs, o.Nonce)
		j.answer <- o
	}
}
