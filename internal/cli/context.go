package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
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

// UserContextPath is the context file that every command looks for.
func UserContextPath(env *Env) (string, error) {
	if path := userContextPath(env); path != "" {
		return path, nil
	}
	return "", Usage("set HOME, or name a file", "there is no home directory for the context file")
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
// its environment variable, else from a context file. The note says in words
// where it was found; it is for people, and part of the error when nothing
// answers there.
func Connection(env *Env, g *Globals) (c Context, note string, err error) {
	c = Context{
		Addrs: splitAddrs(first(g.Addr, env.getenv("LIFEBOAT_ADDR"))),
		Cert:  first(g.Cert, env.getenv("LIFEBOAT_CERT")),
		Key:   first(g.Key, env.getenv("LIFEBOAT_KEY")),
		CA:    first(g.CA, env.getenv("LIFEBOAT_CA")),
	}
	note = "as flags and environment say"
	if len(c.missing()) > 0 {
		file, found, err := findContext(env, g, c.Addrs)
		if err != nil {
			return Context{}, "", err
		}
		if len(c.Addrs) == 0 {
			c.Addrs = file.Addrs
		}
		c.Cert, c.Key, c.CA = first(c.Cert, file.Cert), first(c.Key, file.Key), first(c.CA, file.CA)
		if missing := c.missing(); len(missing) > 0 {
			return Context{}, "", Usage("start one with 'lifeboat dev', or set what is missing by flag, environment or in a context file",
				"no cluster to talk to: %s not set, %s", strings.Join(missing, ", "), found)
		}
		note = found
	}
	for _, addr := range c.Addrs {
		if err := checkAddr(addr); err != nil {
			return Context{}, "", err
		}
	}
	return c, note, nil
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

// findContext reads the context file that counts, and says in words which one
// that is or where it looked. No file at all is not an error here.
//
// A running 'lifeboat dev' counts before the user's own file: whoever plays with
// it must not hit a real cluster by mistake. But it counts for its own addresses
// only.
func findContext(env *Env, g *Globals, addrs []string) (c Context, found string, err error) {
	if path := first(g.Context, env.getenv("LIFEBOAT_CONTEXT")); path != "" {
		c, err = ReadContext(path)
		if errors.Is(err, fs.ErrNotExist) {
			err = Usage("check --context or LIFEBOAT_CONTEXT", "read context file %s: it does not exist", path)
		}
		return c, "with the context file " + path, err
	}
	dev, user := DevContextPath(env), userContextPath(env)
	switch c, err := readDevContext(dev, env.UID); {
	case err == nil && serves(c, addrs):
		if fileExists(user) {
			fmt.Fprintf(env.Stderr, "lifeboat: this is the cluster of 'lifeboat dev'; stop it or use --context %s for yours\n", user)
		}
		return c, "as 'lifeboat dev' says in " + dev, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist) && len(addrs) == 0:
		return Context{}, "", err
	}
	if user == "" {
		return Context{}, "and there is no " + dev, nil
	}
	c, err = ReadContext(user)
	if errors.Is(err, fs.ErrNotExist) {
		return Context{}, "and there is no " + user + lacking(dev, addrs), nil
	}
	return c, "with the context file " + user, err
}

// serves reports whether c is the context of the cluster at addrs.
func serves(c Context, addrs []string) bool {
	for _, addr := range addrs {
		if !slices.Contains(c.Addrs, addr) {
			return false
		}
	}
	return true
}

func lacking(dev string, addrs []string) string {
	if fileExists(dev) {
		return fmt.Sprintf("; the cluster of 'lifeboat dev' is not at %s", strings.Join(addrs, ","))
	}
	return " and no " + dev
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return path != "" && err == nil
}

// ReadContext reads a context file. Unknown keys are refused: a misspelled one
// would send a command to another cluster than was meant.
func ReadContext(path string) (Context, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Context{}, Usage("make it readable for you, or name another with --context", "read context file: %w", err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return Context{}, Usage("write addrs (a list), cert, key and ca into it", "read context file %s: it is empty", path)
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

// readDevContext reads the context of 'lifeboat dev' if nobody else can have put
// it there: the directory above may be shared, and the file chooses the cluster
// that our commands go to.
func readDevContext(path string, uid int) (Context, error) {
	dir := filepath.Dir(path)
	fi, err := os.Lstat(dir)
	if err != nil {
		return Context{}, fmt.Errorf("read context file: %w", err)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !fi.IsDir() || !ok:
		return Context{}, Usage("remove it", "read the context of 'lifeboat dev': %s is not a directory", dir)
	case int(st.Uid) != uid:
		return Context{}, Usage("name your cluster with --context",
			"read the context of 'lifeboat dev': %s belongs to user %d, not to you", dir, st.Uid)
	case fi.Mode().Perm()&0o022 != 0:
		return Context{}, Usage("make it yours with chmod 700, or remove it",
			"read the context of 'lifeboat dev': others may write to %s", dir)
	}
	return ReadContext(path)
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
