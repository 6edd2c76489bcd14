package configfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/transport"
	"lifeboat/transport/pki"
)

// machine is a directory with all that a good configuration names.
func machine(t *testing.T, kind transport.Kind, name string, o pki.IssueOptions) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != "/"; d = filepath.Dir(d) {
		if d != "/tmp" && strings.HasPrefix(d, os.TempDir()) {
			must(t, os.Chmod(d, 0o755)) // other users get there
		}
	}
	ca, err := pki.CreateCA(dir, "test")
	must(t, err)
	leaf, err := ca.Issue(transport.Identity{Kind: kind, Name: name}, o)
	must(t, err)
	_, err = leaf.Write(dir)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "secret"), []byte(strings.Repeat("0a", 32)), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "id"), []byte("0123456789abcdef\n"), 0o644))
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const serverFile = `id: n1
listen: 127.0.0.1:7400
http_listen: 127.0.0.1:7480
data_dir: data
cert: node-n1.crt
key: node-n1.key
ca: ca.crt
secret_key: secret
initial_cluster: {n1: "127.0.0.1:7400"}
`

const agentFile = `host_id: h1
managers: ["127.0.0.1:7400"]
cert: host-h1.crt
key: host-h1.key
ca: ca.crt
hypervisor: "mem:"
state_dir: state
run_dir: run
boot_id_file: id
machine_id_file: id
`

func check(t *testing.T, dir, text string, o Options) Report {
	t.Helper()
	path := filepath.Join(dir, "config.yaml")
	must(t, os.WriteFile(path, []byte(text), 0o644))
	if o.User == "" && os.Geteuid() == 0 {
		o.User = "root" // whoever else this machine has
	}
	r, err := Check(t.Context(), path, o)
	must(t, err)
	return r
}

// says reports whether a finding has the severity, the key, the line and all of
// the words.
func (r Report) says(s Severity, key string, line int, words ...string) bool {
	for _, f := range r.Findings {
		found := f.Severity == s && f.Key == key && f.Line == line
		for _, w := range words {
			found = found && strings.Contains(f.Problem+" / "+f.Do, w)
		}
		if found {
			return true
		}
	}
	return false
}

func TestGoodFilesAreValid(t *testing.T) {
	r := check(t, machine(t, transport.KindNode, "n1", pki.IssueOptions{}), serverFile, Options{})
	if !r.Valid || r.Kind != Server {
		t.Errorf("%+v", r)
	}
	r = check(t, machine(t, transport.KindHost, "h1", pki.IssueOptions{}), agentFile, Options{})
	if !r.Valid || r.Kind != Agent {
		t.Errorf("%+v", r)
	}
}

// Everything wrong is found at once, with its line.
func TestAllIsFoundAtOnce(t *testing.T) {
	text := strings.NewReplacer("http_listen", "http_lsiten", "listen: 127.0.0.1:7400\n", "listen: \"7400\"\n").Replace(serverFile) +
		"log:\n  levle: info\nsnapshots:\n  every: 1s\n  recipients: [nonsense]\nfrobnicate: 1\n"
	r := check(t, machine(t, transport.KindNode, "n2", pki.IssueOptions{}), text, Options{})
	for _, want := range []struct {
		key   string
		line  int
		words []string
	}{
		{"http_lsiten", 3, []string{"did you mean http_listen?"}},
		{"listen", 2, []string{"not host:port"}},
		{"log.levle", 11, []string{"did you mean log.level?"}},
		{"snapshots.every", 13, []string{"too often"}},
		{"snapshots.recipients", 14, []string{}},
		{"frobnicate", 15, []string{"no such key", "remove it"}},
		{"cert", 5, []string{"node-n1.crt is not there", "lifeboat ca issue node n1"}},
	} {
		if !r.says(Wrong, want.key, want.line, want.words...) {
			t.Errorf("no error about %s in line %d with %q in\n%s", want.key, want.line, want.words, show(r))
		}
	}
	if r.Valid {
		t.Error("it is taken to be valid")
	}
}

func show(r Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s %d %s: %s / %s\n", f.Severity, f.Line, f.Key, f.Problem, f.Do)
	}
	return b.String()
}

// What a file names on the machine is looked at.
func TestTheMachineIsChecked(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(t *testing.T, dir string) // nil: nothing
		from, to string
		issue    pki.IssueOptions
		severity Severity
		key      string
		words    []string
	}{
		"key that others read":    {change: chmod("node-n1.key", 0o644), severity: Warning, key: "key", words: []string{"chmod 600", "-rw-r--r--"}},
		"secret that others read": {change: chmod("secret", 0o640), severity: Warning, key: "secret_key", words: []string{"chmod 600"}},
		"short secret":            {change: write("secret", "0a0b"), severity: Wrong, key: "secret_key", words: []string{"64 hexadecimal digits"}},
		"no CA":                   {change: remove("ca.crt"), severity: Wrong, key: "ca", words: []string{"is not there", "copy the ca.crt"}},
		"another CA": {change: func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "ca.crt")))
			must(t, os.Remove(filepath.Join(dir, "ca.key")))
			_, err := pki.CreateCA(dir, "other")
			must(t, err)
		}, severity: Wrong, key: "cert", words: []string{"not signed by the CA", "lifeboat ca issue node n1"}},
		"another identity":   {from: "id: n1\n", to: "id: n7\n", severity: Wrong, key: "cert", words: []string{"lifeboat://node/n1", "lifeboat://node/n7"}},
		"expires soon":       {issue: pki.IssueOptions{Validity: 5 * 24 * time.Hour}, severity: Warning, key: "cert", words: []string{"expires in 4 days", "--replace"}},
		"a directory":        {from: "secret_key: secret", to: "secret_key: .", severity: Wrong, key: "secret_key", words: []string{"is a directory"}},
		"a file as data_dir": {from: "data_dir: data", to: "data_dir: secret", severity: Wrong, key: "data_dir", words: []string{"name a directory"}},
		"foreign address":    {from: "listen: 127.0.0.1:7400", to: "listen: 192.0.2.1:7400", severity: Wrong, key: "listen", words: []string{"cannot be listened on here"}},
		"no such name":       {from: `{n1: "127.0.0.1:7400"}`, to: `{n1: "127.0.0.1:7400", n2: "no-such-host.invalid:7400", n3: "127.0.0.3:7400"}`, severity: Wrong, key: "initial_cluster.n2", words: []string{"cannot be resolved"}},
		"log in memory":      {from: "data_dir: data", to: "data_dir: /dev/shm/lifeboat-test", severity: Warning, key: "data_dir", words: []string{"tmpfs", "voted"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := machine(t, transport.KindNode, "n1", c.issue)
			if c.change != nil {
				c.change(t, dir)
			}
			if strings.Contains(c.to, "/dev/shm") {
				if kind, ok := filesystem("/dev/shm"); !ok || kind != "tmpfs" {
					t.Skip("this machine has no tmpfs on /dev/shm")
				}
			}
			text := serverFile
			if c.from != "" {
				if text = strings.Replace(serverFile, c.from, c.to, 1); text == serverFile {
					t.Fatalf("nothing to change: %q", c.from)
				}
			}
			r := check(t, dir, text, Options{})
			line := lineOf(text, c.key)
			if !r.says(c.severity, c.key, line, c.words...) {
				t.Errorf("no %s about %s in line %d with %q in\n%s", c.severity, c.key, line, c.words, show(r))
			}
			if c.severity == Warning && !r.Valid {
				t.Errorf("a warning makes it unusable:\n%s", show(r))
			}
			if values := check(t, dir, text, Options{Values: true}); name != "another identity" && name != "foreign address" && len(values.Findings) > 0 {
				t.Errorf("with the values only:\n%s", show(values))
			}
		})
	}
}

func chmod(name string, mode os.FileMode) func(*testing.T, string) {
	return func(t *testing.T, dir string) { must(t, os.Chmod(filepath.Join(dir, name), mode)) }
}

func write(name, text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)) }
}

func remove(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, name))) }
}

func lineOf(text, key string) int {
	top, _, _ := strings.Cut(key, ".")
	for i, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, top+":") {
			return i + 1
		}
	}
	return 0
}

// Root checks for the user who will run it: what root may read helps nobody.
func TestFilesAreCheckedForTheUserOfTheUnit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root makes files that another user cannot read, and asks for him")
	}
	dir := machine(t, transport.KindNode, "n1", pki.IssueOptions{})
	r := check(t, dir, serverFile, Options{User: "nobody"})
	for _, key := range []string{"key", "secret_key", "data_dir"} {
		if !r.says(Wrong, key, lineOf(serverFile, key), "nobody may not") {
			t.Errorf("nothing about %s in\n%s", key, show(r))
		}
	}
	must(t, os.Chmod(dir, 0o700))
	if r = check(t, dir, serverFile, Options{User: "nobody"}); !r.says(Wrong, "cert", 5, "may not enter "+dir) {
		t.Errorf("nothing about the closed directory in\n%s", show(r))
	}
	if _, err := Check(t.Context(), filepath.Join(dir, "config.yaml"), Options{User: "no-such-user"}); err == nil {
		t.Error("a user that does not exist runs it")
	}
}

func TestAgentsMachine(t *testing.T) {
	dir := machine(t, transport.KindHost, "h1", pki.IssueOptions{})
	r := check(t, dir, agentFile+"shared_dirs: [/no/such/dir]\nwatchdog:\n  kind: hardware\n  device: nothing-here\nprobe_addrs: [\"no-such-host.invalid:22\"]\n", Options{})
	if !r.says(Warning, "shared_dirs[0]", 11, "/no/such/dir") || !r.says(Wrong, "watchdog.device", 14, "could not be armed") || !r.says(Wrong, "probe_addrs[0]", 15, "cannot be resolved") {
		t.Error(show(r))
	}
}

// A file that is no configuration at all ends in one sentence, not in a panic.
func TestWhatIsNoConfiguration(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"", "- a\n- b\n", "just text", "a: [", "\x00", "log: {level: info}\n", "id: {a: 1}\nlisten: x\n", "[]: 1\n", "? {a: b}\n: c\n"} {
		path := filepath.Join(dir, "config.yaml")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		for _, kind := range []Kind{"", Server, Agent} {
			r, err := Check(t.Context(), path, Options{Kind: kind, Values: true})
			if err == nil && r.Valid || err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("%q as %q: %+v, %v", text, kind, r, err)
			}
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte(serverFile))
	f.Add([]byte(agentFile))
	f.Add([]byte("log: {a: {b: [1, 2]}, <<: *x}\n"))
	f.Add([]byte("a: &x\n  b: *x\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "config.yaml")
		must(t, os.WriteFile(path, raw, 0o600))
		began := time.Now()
		defer func() {
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
		}()
		for _, kind := range []Kind{"", Server, Agent} {
			_, _ = Check(t.Context(), path, Options{Kind: kind, Values: true})
		}
	})
}
