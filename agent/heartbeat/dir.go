package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Dir is one shared directory.
type Dir struct {
	path  string
	every time.Duration

	reading chan struct{} // capacity 1: held while a read is under way, stuck ones too

	mu      sync.Mutex
	written time.Time // when the last beat was complete
	failure string    // of the last write; "" = it went well
}

// Every is the time between two beats: peers look for less than the two seconds
// that a round of questions takes by default, and must see one.
const Every = time.Second

// missed beats make a directory count as down.
const missed = 4

// New makes a Dir; nothing is written before Write.
func New(path string) *Dir {
	return &Dir{path: filepath.Clean(path), every: Every, reading: make(chan struct{}, 1)}
}

// Path names the directory; it is its identity among hosts as well.
func (d *Dir) Path() string { return d.path }

// State is how writing goes.
type State struct {
	Path    string
	Up      bool
	Failure string // why not
}

// State reports whether a beat was written lately. It never blocks.
func (d *Dir) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := State{Path: d.path, Failure: d.failure}
	switch {
	case !d.written.IsZero() && time.Since(d.written) < missed*d.every:
		s.Up, s.Failure = true, ""
	case s.Failure == "":
		s.Failure = "it does not answer"
	}
	return s
}

// Write writes beats until ctx ends, or for ever when the directory hangs: call
// it on a goroutine that nobody waits for.
func (d *Dir) Write(ctx context.Context, host, boot string, first uint64) {
	tick := time.NewTicker(d.every)
	defer tick.Stop()
	for b := (beat{host, boot, first}); ctx.Err() == nil; b.counter++ {
		err := d.write(b)
		d.mu.Lock()
		if d.failure = ""; err != nil {
			d.failure = err.Error()
		} else {
			d.written = time.Now()
		}
		d.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (d *Dir) write(b beat) error {
	name, err := fileOf(b.host)
	if err != nil {
		return err
	}
	content, err := b.encode()
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(d.path) // no link leads out of it
	if err != nil {
		return fmt.Errorf("write heartbeat: %w", err)
	}
	defer root.Close()
	if err := root.Mkdir(folder, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("write heartbeat: %w", err)
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("write heartbeat: %w", err)
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write heartbeat: %w", err)
	}
	return nil
}

// read reads a host's file, unless ctx ends first. It goes on in the background
// then, and the next read waits for it.
func (d *Dir) read(ctx context.Context, host string) (beat, error) {
	name, err := fileOf(host)
	if err != nil {
		return beat{}, err
	}
	select {
	case d.reading <- struct{}{}:
	case <-ctx.Done():
		return beat{}, errHangs
	}
	type result struct {
		beat
		error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-d.reading }()
		b, err := d.readFile(name)
		done <- result{b, err}
	}()
	select {
	case r := <-done:
		return r.beat, r.error
	case <-ctx.Done():
		return beat{}, errHangs
	}
}

var errHangs = errors.New("the directory does not answer here")

func (d *Dir) readFile(name string) (beat, error) {
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return beat{}, err
	}
	defer root.Close()
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return beat{}, errors.New("it has no heartbeat there")
	case err != nil:
		return beat{}, err
	case !info.Mode().IsRegular():
		return beat{}, errTorn // a pipe would block
	}
	f, err := root.Open(name) // opened anew each time: then network file systems look at the server
	if err != nil {
		return beat{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, size+1))
	if err != nil {
		return beat{}, err
	}
	return decode(b)
}

// pause between two looks at a file.
const pause = 200 * time.Millisecond

// Watch looks until the heartbeat of a host in a boot changes, or ctx ends. Only
// a change says something: detail says what was seen, in words that are the same
// as long as the situation is.
func (d *Dir) Watch(ctx context.Context, host, boot string) (moved bool, detail string) {
	first, err := d.read(ctx, host)
	if errors.Is(err, errTorn) && ctx.Err() == nil {
		first, err = d.again(ctx, host)
	}
	switch {
	case err != nil:
		return false, "cannot be read: " + err.Error()
	case first.host != host:
		return false, "the file is of another host"
	}
	for {
		next, err := d.again(ctx, host)
		switch {
		case ctx.Err() != nil && err != nil:
			if first.boot != boot {
				return false, "its heartbeat stands still, and is of another boot"
			}
			return false, "its heartbeat stands still"
		case err != nil || next.host != host || next.counter == first.counter && next.boot == first.boot:
			continue
		case next.boot != boot:
			return false, "its heartbeat goes on in another boot: the machine has been restarted"
		default:
			return true, "its heartbeat goes on"
		}
	}
}

// again reads after a pause.
func (d *Dir) again(ctx context.Context, host string) (beat, error) {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return beat{}, ctx.Err()
	case <-t.C:
		return d.read(ctx, host)
	}
}
