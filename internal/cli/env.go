package cli

import (
	"context"
	"io"
	"time"
)

// Env is what a command may see of the process it runs in.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// LookupEnv reads an environment variable.
	LookupEnv func(name string) (value string, set bool)
	// Now is the time that ages are counted to.
	Now func() time.Time
	// UID of the user, which names the directory of a 'lifeboat dev' cluster.
	UID int
	// Terminal is true when Stdout is a terminal: --watch redraws only there.
	Terminal bool
	// WatchEvery is the pause between two looks of --watch, and before the next
	// try when a watched cluster cannot be reached.
	WatchEvery time.Duration
	// ReadPassword asks on the terminal without echo; nil where Stdin is none.
	ReadPassword func(ctx context.Context, prompt string) (string, error)
	Build        Build
	// Args is the command line, without the program's name.
	Args []string
}

// Build says which program this is.
type Build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"` // empty = built outside a repository
	Date     string `json:"-"`      // of the commit, 2006-01-02; empty as Commit
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	Platform string `json:"platform"` // os/arch
}

func (e *Env) getenv(name string) string {
	value, _ := e.LookupEnv(name)
	return value
}

// sleep waits for d and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
