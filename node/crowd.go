package node

import (
	"sync"
	"time"

	"lifeboat/fsm"
)

// crowd are the hosts whose agents come to this node.
type crowd struct {
	mu    sync.Mutex
	hosts map[string]*visitor
}

type visitor struct {
	under int       // calls of it that are under way
	last  time.Time // when the newest of the answered ones ended
}

// come notes a call of a host's agent until leave is called.
func (c *crowd) come(host string) (leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hosts == nil {
		c.hosts = map[string]*visitor{}
	}
	v := c.hosts[host]
	if v == nil {
		v = &visitor{}
		c.hosts[host] = v
	}
	v.under++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		v.under--
		v.last = time.Now()
	}
}

// count is how many hosts' agents come here: those with a call under way, or one
// within the last while.
func (c *crowd) count(while time.Duration) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, v := range c.hosts {
		if v.under > 0 || time.Since(v.last) < while {
			n++
		}
	}
	return n
}

// own is what the state says about this run of this node; nil = nothing.
func (n *Node) own() *fsm.Node {
	if x := n.fsm.State().Node(n.self()); x != nil && x.RunID == n.runID {
		return x
	}
	return nil
}

// sendsOn reports whether agents that come to this node should try another one. Who
// leads is the one to come to.
func (n *Node) sendsOn() bool { return n.own().Withdrawn() && n.term.Load() == nil }

// agents is how many hosts this node carries.
func (n *Node) agents() int { return n.crowd.count(2 * n.fsm.State().Policy.Beat) }
