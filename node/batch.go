package node

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// pending is one host's changes on their way into the log.
type pending struct {
	report *logpb.HostReport
	size   int        // bytes in the log
	done   chan error // capacity 1: committed, or not known
}

const (
	// linger is how long the first report of a batch waits for others: less than a
	// disk takes. Raft writes what it is handed at once in one transaction, and each
	// transaction writes the end of the log again.
	linger = 2 * time.Millisecond
	// maxInFlight bounds the batches on their way while a disk is slow.
	maxInFlight = 64
)

// commit hands one host's changes to the batcher and waits until they are
// applied, or the outcome is unknown.
func (t *term) commit(ctx context.Context, r *logpb.HostReport) error {
	n := proto.Size(r)
	if n > maxEntry-batchSize {
		return refuse("the report of host %s says %d bytes of news, at most %d are accepted at a time", r.Host, n, maxEntry-batchSize)
	}
	p := &pending{report: r, size: n, done: make(chan error, 1)}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.over:
		return errNoLeader
	case t.reports <- p:
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.over:
		return errNoLeader // the agent looks again; it need not know more
	case err := <-p.done:
		return err
	}
}

// batch joins the reports of many hosts into few entries of at most batchSize
// bytes. What arrives within a moment goes together: Raft writes it at once.
func (t *term) batch(ctx context.Context) error {
	var queue []*pending
	inFlight, due := 0, false
	ended := make(chan struct{}, maxInFlight)
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		for due && len(queue) > 0 && inFlight < maxInFlight {
			n := fits(queue)
			if err := t.send(ctx, queue[:n], ended); err != nil {
				return err
			}
			queue = queue[n:]
			inFlight++
		}
		select {
		case <-ctx.Done():
			return nil
		case p := <-t.reports:
			if len(queue) == 0 {
				due = false
				timer.Reset(linger)
			}
			queue = append(queue, p)
		case <-timer.C:
			due = true
		case <-ended:
			inFlight--
		}
	}
}

// fits is how many reports go into one entry; at least one.
func fits(queue []*pending) int {
	size := 0
	for i, p := range queue {
		size += p.size
		if size > batchSize && i > 0 {
			return i
		}
	}
	return len(queue)
}

func (t *term) send(ctx context.Context, batch []*pending, ended chan<- struct{}) error {
	c := &logpb.HostReports{Reports: make([]*logpb.HostReport, len(batch))}
	for i, p := range batch {
		c.Reports[i] = p.report
	}
	f, err := t.submit(ctx, "", &logpb.Command{Body: &logpb.Command_HostReports{HostReports: c}})
	if err != nil {
		return err
	}
	t.node.metrics.batch.Observe(float64(len(batch)))
	batch = append([]*pending(nil), batch...)
	t.effects.Add(1)
	go func() {
		defer t.effects.Done()
		t.settle(ctx, f, batch)
		ended <- struct{}{}
	}()
	return nil
}

// settle tells every report of a batch that it is committed. One that the rules
// refused is as good as absorbed: the host's next report meets the new state.
func (t *term) settle(ctx context.Context, f raft.ApplyFuture, batch []*pending) {
	_, err := t.await(ctx, f)
	if rejected(err) {
		t.log.Debug("a report was refused", "reason", err)
		err = nil
	}
	for _, p := range batch {
		p.done <- err
	}
}
