package node

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"lifeboat/fsm/archive"
)

// Problem is a wrong value in a configuration file.
type Problem struct {
	Key  string // of the file, such as snapshots.every
	Text string // what is wrong and what to do
}

// Error is one line that begins with the key.
func (p Problem) Error() string {
	if strings.HasPrefix(p.Text, missing) {
		return p.Key + " " + p.Text
	}
	return p.Key + ": " + p.Text
}

// missing is the text about a key without which nothing works.
const missing = "is missing"

// Problems are all wrong values, in the order of the file's description; it looks
// at nothing but the values.
func (c *Config) Problems() (list []Problem) {
	add := func(key, format string, args ...any) { list = append(list, Problem{key, fmt.Sprintf(format, args...)}) }
	for _, need := range []struct{ key, value string }{
		{"id", c.ID}, {"listen", c.Listen}, {"data_dir", c.DataDir}, {"cert", c.Cert}, {"key", c.Key}, {"ca", c.CA}, {"secret_key", c.SecretKey},
	} {
		if need.value == "" {
			add(need.key, missing)
		}
	}
	for _, a := range []struct{ key, value string }{{"listen", c.Listen}, {"advertise", c.Advertise}, {"http_listen", c.HTTPListen}} {
		if a.value != "" && !hostPort(a.value) && !(a.key == "advertise" && a.value == c.Listen) {
			add(a.key, "%q is not host:port", a.value)
		}
	}
	if hostPort(c.Advertise) {
		if host, _, _ := net.SplitHostPort(c.Advertise); host == "" || net.ParseIP(host).IsUnspecified() {
			add("advertise", "%q is no address that other nodes can dial; name this machine's address", c.Advertise)
		}
	}
	c.checkMembers(add)
	if c.RaftTimeout < minRaftTimeout || c.RaftTimeout > maxRaftTimeout {
		add("raft_timeout", "%s is out of range; it must be between %s and %s", c.RaftTimeout, minRaftTimeout, maxRaftTimeout)
	}
	if d := c.drainTime(); d < 0 || d > maxDrainTime {
		add("drain_time", "%s is out of range; it must be between 0s and %s", d, maxDrainTime)
	}
	c.Snapshots.check(add)
	if !slices.Contains([]string{"", "trace", "debug", "info", "warn", "error"}, c.Log.Level) {
		add("log.level", "%q must be trace, debug, info, warn or error", c.Log.Level)
	}
	if !slices.Contains([]string{"", "text", "json"}, c.Log.Format) {
		add("log.format", "%q must be text or json", c.Log.Format)
	}
	return list
}

type addProblem = func(key, format string, args ...any)

// checkMembers looks at the list of nodes that found the cluster, or of those that
// this node joins.
func (c *Config) checkMembers(add addProblem) {
	const founding, joining = "initial_cluster", "join"
	list, key := c.InitialCluster, founding
	switch {
	case len(c.Join) > 0 && len(list) > 0:
		add(joining, "initial_cluster is there too: a node founds the cluster or joins it; remove one")
		return
	case len(c.Join) > 0:
		list, key = c.Join, joining
		if _, in := list[c.ID]; in && len(list) == 1 {
			add(joining, "it names nobody but this node, %s", c.ID)
		}
	case len(list) == 0:
		add(founding, "%s; name every founding node, for example {n1: \"10.0.0.1:7400\"}, or let 'lifeboat server join' write this file", missing)
		return
	default:
		if mine, ok := list[c.ID]; !ok {
			add(key, "it does not name this node, %s", c.ID)
		} else if mine != c.Advertise {
			add(key, "it says %s is at %s, advertise says %s", c.ID, mine, c.Advertise)
		}
		if n := len(list); n%2 == 0 {
			add(key, "%d nodes survive no more failures than %d; name 1, 3 or 5", n, n-1)
		}
	}
	seen := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(list)) {
		addr := list[id]
		if !hostPort(addr) {
			add(key, "%s: %q is not host:port", id, addr)
		} else if other, twice := seen[addr]; twice {
			add(key, "%s and %s have the same address %s", other, id, addr)
		}
		seen[addr] = id
	}
}

func (c *SnapshotsConfig) check(add addProblem) {
	if c.Every != 0 && c.Every < minSnapshotEvery {
		add("snapshots.every", "%s is too often; it must be %s or more, or left out", c.Every, minSnapshotEvery)
	}
	if c.Keep < 0 {
		add("snapshots.keep", "%d snapshots cannot be kept; name 1 or more", c.Keep)
	}
	if _, err := archive.ParseRecipients(c.Recipients); err != nil {
		add("snapshots.recipients", "%s", err)
	}
	if c.Every == 0 && len(c.Recipients) > 0 {
		add("snapshots.every", "%s: without it no snapshots are taken", missing)
	}
}

// CheckSecretKey reports what is wrong with the file of the cluster's secret key.
func CheckSecretKey(path string) error {
	_, err := loadSealer(path)
	return err
}
