package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"lifeboat/fsm/archive"
)

// Config is the YAML file of `lifeboat server`.
type Config struct {
	ID         string `yaml:"id"`          // name of this node; its certificate must carry it
	Listen     string `yaml:"listen"`      // host:port for Raft and the API, mutual TLS
	Advertise  string `yaml:"advertise"`   // where others reach Listen; empty = the same
	HTTPListen string `yaml:"http_listen"` // host:port for /metrics, /healthz, /readyz, /leader, plain; empty = none
	DataDir    string `yaml:"data_dir"`    // the log and its snapshots
	Cert       string `yaml:"cert"`
	Key        string `yaml:"key"`
	CA         string `yaml:"ca"`
	SecretKey  string `yaml:"secret_key"` // file that seals definitions and BMC passwords; the same on all nodes
	// InitialCluster is id → advertised address of the nodes that found the
	// cluster. It counts only on the first start; all of them must name the same.
	InitialCluster map[string]string `yaml:"initial_cluster"`
	// Join is id → address of nodes of the cluster that this node has joined, instead
	// of InitialCluster. It asks them until it has heard from the leader.
	Join map[string]string `yaml:"join"`
	// CAKey is the key of CA: the cluster takes it, sealed, into its state, and signs
	// certificates by itself. It counts until the cluster has one. Empty = it signs none.
	CAKey string `yaml:"ca_key"`
	Host  string `yaml:"host"` // the libvirt host that runs on this machine, if any
	// RaftTimeout is the silence after which the others elect a new leader; a
	// failover takes two to three times as long. Empty = 500ms; longer where
	// machines stall under load.
	RaftTimeout time.Duration `yaml:"raft_timeout"`
	// DrainTime is how long a node that is to stop goes on answering after /readyz
	// and /leader have said no. Empty = 1s with http_listen, else none.
	DrainTime *time.Duration  `yaml:"drain_time"`
	Snapshots SnapshotsConfig `yaml:"snapshots"`
	Log       LogConfig       `yaml:"log"`
}

// SnapshotsConfig says which snapshots a node takes by itself.
type SnapshotsConfig struct {
	Every      time.Duration `yaml:"every"`      // between two; empty = none are taken
	Keep       int           `yaml:"keep"`       // that many of the newest; empty = 24
	Dir        string        `yaml:"dir"`        // empty = backups in data_dir
	Recipients []string      `yaml:"recipients"` // public keys of age; empty = they are not encrypted
}

// LogConfig says what is logged and how.
type LogConfig struct {
	Level  string `yaml:"level"`  // trace, debug, info, warn, error; empty = info
	Format string `yaml:"format"` // text, json; empty = text
}

const (
	defaultRaftTimeout = 500 * time.Millisecond
	minRaftTimeout     = 200 * time.Millisecond
	maxRaftTimeout     = 10 * time.Second
	defaultDrainTime   = time.Second
	maxDrainTime       = time.Minute
	minSnapshotEvery   = time.Minute
	defaultKeep        = 24
)

func (c *Config) drainTime() time.Duration {
	switch {
	case c.DrainTime != nil:
		return *c.DrainTime
	case c.HTTPListen != "":
		return defaultDrainTime
	}
	return 0
}

// raft are the settings of the library.
func (c *Config) raft(log hclog.Logger) *raft.Config {
	r := raft.DefaultConfig()
	r.LocalID = raft.ServerID(c.ID)
	r.HeartbeatTimeout, r.ElectionTimeout, r.LeaderLeaseTimeout = c.RaftTimeout, c.RaftTimeout, c.RaftTimeout*4/5
	r.MaxAppendEntries = 128
	r.BatchApplyCh = true
	r.SnapshotThreshold, r.SnapshotInterval = 4096, time.Minute
	r.ShutdownOnRemove = false
	r.Logger = log
	return r
}

// LoadConfig reads and checks a configuration file. Errors are one line for
// whoever wrote the file.
func LoadConfig(path string) (Config, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	var c Config
	if err := yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict()).Decode(&c); errors.Is(err, io.EOF) {
		return Config{}, fmt.Errorf("%s: it is empty; deploy/examples shows what belongs there", path)
	} else if err != nil {
		return Config{}, fmt.Errorf("%s: %s", path, oneLine(yaml.FormatError(err, false, false)))
	}
	base := filepath.Dir(path)
	for _, p := range []*string{&c.DataDir, &c.Cert, &c.Key, &c.CA, &c.SecretKey, &c.CAKey, &c.Snapshots.Dir} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(base, *p)
		}
	}
	if c.Advertise == "" {
		c.Advertise = c.Listen
	}
	if c.RaftTimeout == 0 {
		c.RaftTimeout = defaultRaftTimeout
	}
	if c.Snapshots.Keep == 0 {
		c.Snapshots.Keep = defaultKeep
	}
	if c.Snapshots.Dir == "" {
		c.Snapshots.Dir = filepath.Join(c.DataDir, "backups")
	}
	if err := c.validate(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func (c *Config) validate() error {
	for _, need := range []struct{ key, value string }{
		{"id", c.ID}, {"listen", c.Listen}, {"data_dir", c.DataDir}, {"cert", c.Cert}, {"key", c.Key}, {"ca", c.CA}, {"secret_key", c.SecretKey},
	} {
		if need.value == "" {
			return fmt.Errorf("%s is missing", need.key)
		}
	}
	for _, a := range []struct{ key, value string }{{"listen", c.Listen}, {"advertise", c.Advertise}, {"http_listen", c.HTTPListen}} {
		if a.value == "" {
			continue
		}
		if !hostPort(a.value) {
			return fmt.Errorf("%s: %q is not host:port", a.key, a.value)
		}
	}
	if host, _, _ := net.SplitHostPort(c.Advertise); host == "" || net.ParseIP(host).IsUnspecified() {
		return fmt.Errorf("advertise: %q is no address that other nodes can dial; name this machine's address", c.Advertise)
	}
	if err := c.validateMembers(); err != nil {
		return err
	}
	if c.RaftTimeout < minRaftTimeout || c.RaftTimeout > maxRaftTimeout {
		return fmt.Errorf("raft_timeout: %s is out of range; it must be between %s and %s", c.RaftTimeout, minRaftTimeout, maxRaftTimeout)
	}
	if d := c.drainTime(); d < 0 || d > maxDrainTime {
		return fmt.Errorf("drain_time: %s is out of range; it must be between 0s and %s", d, maxDrainTime)
	}
	if err := c.Snapshots.validate(); err != nil {
		return err
	}
	if !slices.Contains([]string{"", "trace", "debug", "info", "warn", "error"}, c.Log.Level) {
		return fmt.Errorf("log.level: %q must be trace, debug, info, warn or error", c.Log.Level)
	}
	if !slices.Contains([]string{"", "text", "json"}, c.Log.Format) {
		return fmt.Errorf("log.format: %q must be text or json", c.Log.Format)
	}
	return nil
}

func (c *Config) validateMembers() error {
	list, key := c.InitialCluster, "initial_cluster"
	switch {
	case len(c.Join) > 0 && len(list) > 0:
		return errors.New("join and initial_cluster are both there: a node founds the cluster or joins it; remove one")
	case len(c.Join) > 0:
		list, key = c.Join, "join"
	case len(list) == 0:
		return errors.New("initial_cluster is missing; name every founding node, for example {n1: \"10.0.0.1:7400\"}, or let `lifeboat server join` write this file")
	}
	mine, in := list[c.ID]
	switch founds := key == "initial_cluster"; {
	case founds && !in:
		return fmt.Errorf("initial_cluster: it does not name this node, %s", c.ID)
	case founds && mine != c.Advertise:
		return fmt.Errorf("initial_cluster: it says %s is at %s, advertise says %s", c.ID, mine, c.Advertise)
	case !founds && in && len(list) == 1:
		return fmt.Errorf("join: it names nobody but this node, %s", c.ID)
	}
	seen := map[string]string{}
	for _, id := range sortedKeys(list) {
		addr := list[id]
		if !hostPort(addr) {
			return fmt.Errorf("%s: %s: %q is not host:port", key, id, addr)
		}
		if other, twice := seen[addr]; twice {
			return fmt.Errorf("%s: %s and %s have the same address %s", key, other, id, addr)
		}
		seen[addr] = id
	}
	if n := len(c.InitialCluster); n%2 == 0 && n > 0 {
		return fmt.Errorf("initial_cluster: %d nodes survive no more failures than %d; name 1, 3 or 5", n, n-1)
	}
	return nil
}

func (c *SnapshotsConfig) validate() error {
	if c.Every != 0 && c.Every < minSnapshotEvery {
		return fmt.Errorf("snapshots.every: %s is too often; it must be %s or more, or left out", c.Every, minSnapshotEvery)
	}
	if c.Keep < 0 {
		return fmt.Errorf("snapshots.keep: %d snapshots cannot be kept; name 1 or more", c.Keep)
	}
	if _, err := archive.ParseRecipients(c.Recipients); err != nil {
		return fmt.Errorf("snapshots.recipients: %w", err)
	}
	if c.Every == 0 && len(c.Recipients) > 0 {
		return errors.New("snapshots.every is missing: without it no snapshots are taken")
	}
	return nil
}

func hostPort(addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// oneLine keeps the first line of a message that quotes the source after it.
func oneLine(s string) string {
	line, _, _ := bytes.Cut([]byte(s), []byte("\n"))
	return string(line)
}
