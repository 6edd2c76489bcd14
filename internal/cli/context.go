package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/goccy/go-yaml"
)

// Context is the content of a context file: where a cluster is and who we are
// there. Paths that are not absolute are relative to the file.
type Context struct {
	Addrs []string `yaml:"addrs"` // host:port of management nodes
	Cert  string   `yaml:"cert"`
	Key   string   `yaml:"key"`
	CA    string   `yaml:"ca"`
}

// DevContextPath is where 'lifeboat dev' leaves the context of its cluster, so
// that every other command finds it without being told.
func DevContextPath(env *Env) string {
	dir := env.getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = "/tmp"
	}
	return filepath.Join(dir, "lifeboat-dev-"+strconv.Itoa(env.UID), "context.yaml")
}

func userContextPath(env *Env) string {
	dir := env.getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := env.getenv("HOME")
		if home == "" {
			return ""
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "lifeboat", "context.yaml")
}

// Connection finds the cluster: each setting is taken from its flag, else from
// its environment variable, else from the first context file there is.
func Connection(env *Env, g *Globals) (Context, error) {
	c := Context{
		Addrs: splitAddrs(first(g.Addr, env.getenv("LIFEBOAT_ADDR"))),
		Cert:  first(g.Cert, env.getenv("LIFEBOAT_CERT")),
		Key:   first(g.Key, env.getenv("LIFEBOAT_KEY")),
		CA:    first(g.CA, env.getenv("LIFEBOAT_CA")),
	}
	if len(c.missing()) > 0 {
		file, looked, err := findContext(env, g)
		if err != nil {
			return Context{}, err
		}
		if len(c.Addrs) == 0 {
			c.Addrs = file.Addrs
		}
		c.Cert, c.Key, c.CA = first(c.Cert, file.Cert), first(c.Key, file.Key), first(c.CA, file.CA)
		if missing := c.missing(); len(missing) > 0 {
			return Context{}, Usage("start one with 'lifeboat dev', or set what is missing by flag, environment or in a context file",
				"no cluster to talk to: %s not set, %s", strings.Join(missing, ", "), looked)
		}
	}
	for _, addr := range c.Addrs {
		if err := checkAddr(addr); err != nil {
			return Context{}, err
		}
	}
	return c, nil
}

// missing names the settings without a value, the way a user sets them.
func (c Context) missing() []string {
	var names []string
	for _, s := range []struct {
		empty bool
		name  string
	}{
		{len(c.Addrs) == 0, "--addr/LIFEBOAT_ADDR"},
		{c.Cert == "", "--cert/LIFEBOAT_CERT"},
		{c.Key == "", "--key/LIFEBOAT_KEY"},
		{c.CA == "", "--ca/LIFEBOAT_CA"},
	} {
		if s.empty {
			names = append(names, s.name)
		}
	}
	return names
}

// findContext reads the first context file there is, and says in words where it
// looked. No file at all is not an error here.
func findContext(env *Env, g *Globals) (c Context, looked string, err error) {
	if path := first(g.Context, env.getenv("LIFEBOAT_CONTEXT")); path != "" {
		c, err = ReadContext(path)
		if errors.Is(err, fs.ErrNotExist) {
			err = Usage("check --context or LIFEBOAT_CONTEXT", "read context file %s: it does not exist", path)
		}
		return c, "also not in " + path, err
	}
	dev := DevContextPath(env)
	var absent []string
	for _, path := range []string{userContextPath(env), dev} {
		if path == "" {
			continue
		}
		c, err := ReadContext(path)
		if errors.Is(err, fs.ErrNotExist) {
			absent = append(absent, path)
			continue
		}
		if err == nil && path == dev {
			err = checkOwner(path, env.UID)
		}
		return c, "also not in " + path, err
	}
	return Context{}, "and there is no " + strings.Join(absent, " and no "), nil
}

// ReadContext reads a context file. Unknown keys are refused: a misspelled one
// would send a command to another cluster than was meant.
func ReadContext(path string) (Context, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Context{}, Usage("make it readable for you, or name another with --context", "read context file: %w", err)
	}
	var c Context
	if err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&c); err != nil {
		return Context{}, Usage("it may hold the keys addrs (a list), cert, key and ca",
			"read context file %s: %s", path, yaml.FormatError(err, false, false))
	}
	dir := filepath.Dir(path)
	for _, p := range []*string{&c.Cert, &c.Key, &c.CA} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	return c, nil
}

// WriteContext writes a context file that only its owner can read, atomically.
func WriteContext(path string, c Context) error {
	data, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode context file: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write context file: %w", err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("write context file: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write context file: %w", err)
	}
	return nil
}

// checkOwner refuses a context that another user left in a shared directory: it
// would choose the cluster that our commands go to.
func checkOwner(path string, uid int) error {
	fi, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read context file: %w", err)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != uid {
		return Usage("remove it, or name your cluster with --context",
			"read context file %s: it belongs to user %d, not to you", path, st.Uid)
	}
	return nil
}

func checkAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return Usage("write it as host:port, for example 10.0.0.1:7400", "wrong address %q: %s", addr, addrReason(err))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return Usage("write it as host:port, for example 10.0.0.1:7400", "wrong address %q: it needs a host and a port from 1 to 65535", addr)
	}
	return nil
}

func addrReason(err error) string {
	var ae *net.AddrError
	if errors.As(err, &ae) {
		return ae.Err
	}
	return err.Error()
}

func splitAddrs(list string) []string {
	var addrs []string
	for addr := range strings.SplitSeq(list, ",") {
		if addr = strings.TrimSpace(addr); addr != "" {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
