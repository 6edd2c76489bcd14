package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const goodConfig = `id: n1
listen: 10.0.0.1:7400
data_dir: data
cert: n1.crt
key: /etc/n1.key
ca: ca.crt
secret_key: secret
initial_cluster:
  n1: 10.0.0.1:7400
  n2: 10.0.0.2:7400
  n3: 10.0.0.3:7400
`

func load(t *testing.T, text string) (Config, string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := LoadConfig(path)
	return c, path, err
}

func TestLoadConfig(t *testing.T) {
	c, path, err := load(t, goodConfig)
	if err != nil {
		t.Fatal(err)
	}
	if c.Advertise != "10.0.0.1:7400" || c.DataDir != filepath.Join(filepath.Dir(path), "data") || c.Key != "/etc/n1.key" || c.RaftTimeout != defaultRaftTimeout {
		t.Errorf("%+v", c)
	}
	c, _, err = load(t, goodConfig+"raft_timeout: 2s\nhost: h1\nlog: {level: debug, format: json}\n")
	if err != nil || c.RaftTimeout != 2*time.Second || c.Host != "h1" || c.Log.Level != "debug" {
		t.Errorf("%+v, %v", c, err)
	}
	c, path, err = load(t, goodConfig+"snapshots: {every: 1h, dir: kept}\n")
	if err != nil || c.Snapshots.Every != time.Hour || c.Snapshots.Keep != defaultKeep || c.Snapshots.Dir != filepath.Join(filepath.Dir(path), "kept") {
		t.Errorf("%+v, %v", c.Snapshots, err)
	}
}

// Whoever wrote a wrong file is told in one line: the file, the key, what to do.
func TestBadConfig(t *testing.T) {
	change := func(from, to string) string {
		if !strings.Contains(goodConfig, from) {
			t.Fatalf("nothing to change: %q", from)
		}
		return strings.Replace(goodConfig, from, to, 1)
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty":               {"", "it is empty"},
		"snapshots too often": {goodConfig + "snapshots: {every: 1s}\n", "snapshots.every: 1s is too often"},
		"snapshots kept":      {goodConfig + "snapshots: {every: 1h, keep: -1}\n", "snapshots.keep"},
		"snapshots to whom":   {goodConfig + "snapshots: {every: 1h, recipients: [alice]}\n", "snapshots.recipients: \"alice\" is not the public key"},
		"snapshots when":      {goodConfig + "snapshots: {recipients: [age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj]}\n", "snapshots.every is missing"},
		"only a comment":      {"# nothing\n", "it is empty"},
		"a list":              {"- a\n", ""},
		"no YAML":             {"id: [\n", ""},
		"unknown key":         {goodConfig + "colour: red\n", "colour"},
		"key twice":           {goodConfig + "id: n2\n", "id"},
		"wrong type":          {change("id: n1", "id: [n1]"), ""},
		"wrong duration":      {goodConfig + "raft_timeout: soon\n", "soon"},
		"no id":               {change("id: n1\n", ""), "id is missing"},
		"no listen":           {change("listen: 10.0.0.1:7400\n", ""), "listen is missing"},
		"no cert":             {change("cert: n1.crt\n", ""), "cert is missing"},
		"no key":              {change("key: /etc/n1.key\n", ""), "key is missing"},
		"no secret":           {change("secret_key: secret\n", ""), "secret_key is missing"},
		"no data":             {change("data_dir: data\n", ""), "data_dir is missing"},
		"no port":             {change("listen: 10.0.0.1:7400", "listen: 10.0.0.1"), "listen"},
		"bad port":            {change("listen: 10.0.0.1:7400", "listen: 10.0.0.1:x"), "listen"},
		"port out of range":   {change("listen: 10.0.0.1:7400", "listen: 10.0.0.1:70000"), "listen"},
		"any address":         {change("listen: 10.0.0.1:7400", "listen: 0.0.0.0:7400"), "advertise"},
		"no host":             {change("listen: 10.0.0.1:7400", "listen: \":7400\""), "advertise"},
		"http":                {goodConfig + "http_listen: \"9100\"\n", "http_listen"},
		"not in cluster":      {change("id: n1", "id: n9"), "n9"},
		"other address":       {change("listen: 10.0.0.1:7400", "listen: 10.0.0.9:7400"), "10.0.0.9:7400"},
		"even":                {change("  n3: 10.0.0.3:7400\n", ""), "1, 3 or 5"},
		"address twice":       {change("n3: 10.0.0.3:7400", "n3: 10.0.0.2:7400"), "same address"},
		"peer without port":   {change("n3: 10.0.0.3:7400", "n3: 10.0.0.3"), "n3"},
		"no cluster":          {goodConfig[:strings.Index(goodConfig, "initial_cluster")], "initial_cluster is missing"},
		"too fast":            {goodConfig + "raft_timeout: 10ms\n", "raft_timeout"},
		"too slow":            {goodConfig + "raft_timeout: 1h\n", "raft_timeout"},
		"log level":           {goodConfig + "log: {level: loud}\n", "log.level"},
		"log format":          {goodConfig + "log: {format: xml}\n", "log.format"},
	} {
		_, path, err := load(t, c.text)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if text := err.Error(); !strings.HasPrefix(text, path+": ") || !strings.Contains(text, c.want) || strings.Contains(text, "\n") || len(text) == len(path)+2 {
			t.Errorf("%s: %q, want the file, one line and %q", name, text, c.want)
		}
	}
	if _, err := LoadConfig(filepath.Join(t.TempDir(), "none.yaml")); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("missing file: %v", err)
	}
}
