package sim

import (
	"container/heap"
	"time"
)

// event is something that is going to happen.
type event struct {
	at  time.Duration
	seq uint64 // of two at one time the one that was planned first happens first
	do  func()
}

// queue are the events to come.
type queue struct {
	events events
	seq    uint64
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return x
}

func (q *queue) add(at time.Duration, do func()) {
	q.seq++
	heap.Push(&q.events, event{at, q.seq, do})
}

// next takes the next event that is due until a time.
func (q *queue) next(until time.Duration) (event, bool) {
	if len(q.events) == 0 || q.events[0].at > until {
		return event{}, false
	}
	return heap.Pop(&q.events).(event), true
}
