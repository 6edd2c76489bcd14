package program

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"lifeboat/notify"
)

// Dir is where programs lie unless the node is told otherwise.
const Dir = "/etc/lifeboat/notify.d"

// Kind is the driver "program". An address is the name of a file in dir.
func Kind(dir string) notify.Kind {
	return notify.Kind{Name: "program", Address: "name of a file in " + dir, Options: []notify.Option{
		{Name: "args", Help: "arguments, separated by blanks"},
	}, Open: func(t notify.Target) (notify.Driver, error) {
		if t.Address == "" || t.Address != filepath.Base(t.Address) || strings.HasPrefix(t.Address, ".") {
			return nil, fmt.Errorf("%q is no name of a program: give the name of a file in %s, which is there on every node", t.Address, dir)
		}
		return &driver{filepath.Join(dir, t.Address), strings.Fields(t.Options["args"]), t.Secret}, nil
	}}
}

type driver struct {
	path   string
	args   []string
	secret string
}

// Send implements notify.Driver. The program gets the secret in LIFEBOAT_SECRET. What
// it leaves running is killed with it.
func (d *driver) Send(ctx context.Context, m *notify.Message) error {
	input, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	cmd := exec.CommandContext(ctx, d.path, d.args...)
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(input)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LIFEBOAT_DELIVERY=" + m.ID, "LIFEBOAT_SECRET=" + d.secret}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // a child of it may hold its output open
	said := &limited{most: 500}
	cmd.Stdout, cmd.Stderr = said, said
	err = cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("run %s: it was stopped: %w", d.path, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("run %s: %w: %s", d.path, err, strings.Join(strings.Fields(strings.ToValidUTF8(said.String(), "?")), " "))
	}
	return nil
}

// limited keeps the beginning of what is written to it.
type limited struct {
	bytes.Buffer
	most int
}

func (l *limited) Write(p []byte) (int, error) {
	if room := l.most - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
