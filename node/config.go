package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
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
	r.SnapshotThreshold, r.SnapshotInterval = longLog, time.Minute
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
	c, err := ParseConfig(path, raw, yaml.Strict())
	if err != nil {
		return Config{}, err
	}
	if list := c.Problems(); len(list) > 0 {
		return Config{}, fmt.Errorf("%s: %w", path, list[0])
	}
	return c, nil
}

// ParseConfig decodes what a configuration file holds and fills in the defaults;
// [Config.Problems] checks it. Relative paths become relative to the file's
// directory.
func ParseConfig(path string, raw []byte, opts ...yaml.DecodeOption) (Config, error) {
	var c Config
	if err := yaml.NewDecoder(bytes.NewReader(raw), opts...).Decode(&c); errors.Is(err, io.EOF) {
		return Config{}, fmt.Errorf("%s: it is empty; 'lifeboat config default server' shows what belongs there", path)
	} else if err != nil {
		return Config{}, fmt.Errorf("%s: %s", path, oneLine(yaml.FormatError(err, false, false)))
	}
	base := filepath.Dir(path)
	for _, p := range []*string{&c.DataDir, &c.Cert, &c.Key, &c.CA, &c.SecretKey, &c.CAKey, &c.Snapshots.Dir} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(base, *p)
		}
	}
	c.fillIn()
	return c, nil
}

// fillIn puts the defaults where nothing was said.
func (c *Config) fillIn() {
	or := func(s *string, def string) {
		if *s == "" {
			*s = def
		}
	}
	or(&c.Advertise, c.Listen)
	if c.RaftTimeout == 0 {
		c.RaftTimeout = defaultRaftTimeout
	}
	drain := c.drainTime()
	c.DrainTime = &drain
	if c.Snapshots.Keep == 0 {
		c.Snapshots.Keep = defaultKeep
	}
	if c.DataDir != "" {
		or(&c.Snapshots.Dir, filepath.Join(c.DataDir, "backups"))
	}
	or(&c.Log.Level, "info")
	or(&c.Log.Format, "text")
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
