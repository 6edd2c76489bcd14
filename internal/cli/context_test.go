package cli_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/cli"
)

// place is a machine with context files, in a directory of its own.
type place struct {
	dir    string
	vars   map[string]string
	stderr bytes.Buffer
}

func newPlace(t *testing.T) *place {
	dir := t.TempDir()
	return &place{dir: dir, vars: map[string]string{"HOME": dir, "XDG_RUNTIME_DIR": filepath.Join(dir, "run")}}
}

func (p *place) env() *cli.Env {
	return &cli.Env{Stderr: &p.stderr, UID: os.Getuid(),
		LookupEnv: func(name string) (string, bool) { v, ok := p.vars[name]; return v, ok }}
}

func (p *place) userFile() string { return filepath.Join(p.dir, ".config", "lifeboat", "context.yaml") }

func (p *place) write(t *testing.T, path, name string) {
	t.Helper()
	c := cli.Context{Addrs: []string{name + ":7400"}, Cert: name + ".crt", Key: name + ".key", CA: "ca.crt"}
	if err := cli.WriteContext(path, c); err != nil {
		t.Fatal(err)
	}
}

func TestConnectionTakesTheClusterThatIsMeant(t *testing.T) {
	for name, tc := range map[string]struct {
		user, dev bool
		vars      map[string]string
		flags     cli.Globals
		addr      string // of the answer
		cert      string // base name
		refused   string // part of the error
		warned    bool
	}{
		"nothing anywhere":                        {refused: "lifeboat dev"},
		"the user's file":                         {user: true, addr: "user:7400", cert: "user.crt"},
		"a running dev cluster, without a word":   {dev: true, addr: "dev:7400", cert: "dev.crt"},
		"dev before the user's file, with a word": {dev: true, user: true, addr: "dev:7400", cert: "dev.crt", warned: true},
		"LIFEBOAT_ADDR elsewhere is not dev":      {dev: true, vars: map[string]string{"LIFEBOAT_ADDR": "prod:7400"}, refused: "not at prod:7400"},
		"--addr elsewhere takes the user's file":  {dev: true, user: true, flags: cli.Globals{Addr: "prod:7400"}, addr: "prod:7400", cert: "user.crt"},
		"--addr of the dev cluster is dev":        {dev: true, flags: cli.Globals{Addr: "dev:7400"}, addr: "dev:7400", cert: "dev.crt"},
		"a flag beats a variable": {user: true, flags: cli.Globals{Addr: "flag:1", Cert: "/flag.crt"},
			vars: map[string]string{"LIFEBOAT_ADDR": "var:1", "LIFEBOAT_CERT": "/var.crt"}, addr: "flag:1", cert: "flag.crt"},
		"LIFEBOAT_CONTEXT that is not there": {dev: true, user: true, vars: map[string]string{"LIFEBOAT_CONTEXT": "/nowhere.yaml"}, refused: "does not exist"},
		"a list with spaces":                 {user: true, vars: map[string]string{"LIFEBOAT_ADDR": " a:1, b:2 ,"}, addr: "a:1", cert: "user.crt"},
		"no port":                            {user: true, vars: map[string]string{"LIFEBOAT_ADDR": "a"}, refused: "host:port"},
		"port out of range":                  {user: true, vars: map[string]string{"LIFEBOAT_ADDR": "a:99999"}, refused: "1 to 65535"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			for k, v := range tc.vars {
				p.vars[k] = v
			}
			if tc.user {
				p.write(t, p.userFile(), "user")
			}
			if tc.dev {
				p.write(t, cli.DevContextPath(p.env()), "dev")
			}
			c, note, err := cli.Connection(p.env(), &tc.flags)
			if tc.refused != "" {
				var e *cli.Error
				if !errors.As(err, &e) || e.Exit != cli.ExitUsage || !strings.Contains(e.Error(), tc.refused) {
					t.Fatalf("got %v, want a usage error with %q", err, tc.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.Addrs[0] != tc.addr || filepath.Base(c.Cert) != tc.cert || note == "" {
				t.Errorf("got %+v (%s), want address %s and certificate %s", c, note, tc.addr, tc.cert)
			}
			if !filepath.IsAbs(c.Cert) {
				t.Errorf("certificate %s is not relative to its file", c.Cert)
			}
			if got := p.stderr.Len() > 0; got != tc.warned {
				t.Errorf("warning %q, want one: %v", p.stderr.String(), tc.warned)
			}
		})
	}
}

// A context that another user may have written would choose the cluster that
// our commands go to.
func TestDevContextOfOthersIsRefused(t *testing.T) {
	t.Run("a directory others write to", func(t *testing.T) {
		p := newPlace(t)
		path := cli.DevContextPath(p.env())
		p.write(t, path, "dev")
		if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, p.env(), "others may write")
	})
	t.Run("a directory of another user", func(t *testing.T) {
		p := newPlace(t)
		env := p.env()
		env.UID++
		p.write(t, cli.DevContextPath(env), "dev")
		wantRefusal(t, env, "not to you")
	})
	t.Run("a link to elsewhere", func(t *testing.T) {
		p := newPlace(t)
		dir := filepath.Dir(cli.DevContextPath(p.env()))
		p.write(t, filepath.Join(p.dir, "mine", "context.yaml"), "dev")
		if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(p.dir, "mine"), dir); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, p.env(), "not a directory")
	})
}

func wantRefusal(t *testing.T, env *cli.Env, text string) {
	t.Helper()
	c, _, err := cli.Connection(env, &cli.Globals{})
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got %+v, %v; want an error with %q", c, err, text)
	}
}

func TestContextFileIsReadStrictly(t *testing.T) {
	for content, text := range map[string]string{
		"addrs: [a:1]\ncertt: x\n": "certt",
		"":                         "empty",
		"addrs: 5: 6":              "read context file",
		"- a:1\n":                  "read context file",
	} {
		path := filepath.Join(t.TempDir(), "context.yaml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := cli.ReadContext(path); err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v, want one line with %q", content, err, text)
		}
	}
}

func TestContextIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "context.yaml")
	want := cli.Context{Addrs: []string{"a:1", "b:2"}, Cert: "/c", Key: "/k", CA: "/a"}
	if err := cli.WriteContext(path, want); err != nil {
		t.Fatal(err)
	}
	for p, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if fi, err := os.Stat(p); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want mode %o", p, fi.Mode(), err, mode)
		}
	}
	if got, err := cli.ReadContext(path); err != nil || strings.Join(got.Addrs, ",") != "a:1,b:2" || got.Key != "/k" {
		t.Errorf("read back %+v, %v", got, err)
	}
}
