package storm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"sync"
	"time"

	"connectrpc.com/connect"

	pb "lifeboat/api/lifeboat/v1"
)

// CrowdOptions of a run with many agents.
type CrowdOptions struct {
	Agents, VMs int
	Beat        time.Duration
	For         time.Duration // how long the cluster is watched once all have registered
	Processes   int           // that the agents are spread over
	// Command starts this program as a process of agents, see [ActAsAgents].
	Command func(AgentsConfig) *exec.Cmd
}

// CrowdResult is what a run with many agents showed.
type CrowdResult struct {
	Joined     time.Duration // until all had registered and were answered
	Answers    float64       // per second while the cluster was watched
	Failures   int           // of single calls in that time
	OldestMS   int64         // the longest that an agent waited for an answer
	LeaderCPU  float64       // cores
	LeaderRSS  int64         // bytes, at the end
	LeaderPeak int64         // bytes
	Changed    bool          // another node led in between, or the same one anew
	Back       time.Duration // from kill -9 of the leader until all had an answer of the next one
	BackMost   time.Duration // until nine in ten had
	NodesCPU   time.Duration // that the nodes left used until all were back
	AgentsCPU  time.Duration // that the agents used meanwhile
}

// crowd is the processes of agents.
type crowd struct {
	procs []*Process
	mu    sync.Mutex
	last  []Tally
}

// Crowd has many agents come, watches, kills the leader, and waits for all of them to
// be answered by the next one.
func (c *Cluster) Crowd(ctx context.Context, o CrowdOptions) (*CrowdResult, error) {
	if _, err := c.Ready(ctx, backWithin); err != nil {
		return nil, err
	}
	if err := c.beat(ctx, o.Beat); err != nil {
		return nil, err
	}
	began := time.Now()
	crowd, err := c.gather(o)
	defer crowd.end()
	if err != nil {
		return nil, err
	}
	r := &CrowdResult{}
	if err := c.Within(ctx, time.Minute+time.Duration(o.Agents)*20*time.Millisecond, "all agents are answered", func() bool {
		return crowd.ended() != nil || crowd.sum().OldestMS >= 0 && crowd.heard("") == o.Agents
	}); err != nil {
		return nil, fmt.Errorf("%w\n%+v", err, crowd.sum())
	}
	if p := crowd.ended(); p != nil {
		return nil, fmt.Errorf("a process of agents has ended:\n%s", p.Said(1000))
	}
	r.Joined = time.Since(began)
	if !sleep(ctx, 2*o.Beat) { // the stir of the arrival
		return nil, context.Cause(ctx)
	}
	if err := c.watch(ctx, crowd, o, r); err != nil {
		return nil, err
	}
	return r, c.comeBack(ctx, crowd, o, r)
}

// comeBack kills the leader and fills in what is seen until all agents have an answer
// of the next one.
func (c *Cluster) comeBack(ctx context.Context, x *crowd, o CrowdOptions, r *CrowdResult) error {
	leader, _ := c.whoLeads(ctx)
	killed := time.Now()
	c.Kill(leader)
	nodes, err := c.cpuOfNodes(leader)
	if err != nil {
		return err
	}
	agents, err := x.cpu()
	if err != nil {
		return err
	}
	if err := c.Within(ctx, 2*time.Minute, "all agents are answered by the next leader", func() bool {
		n := x.heard(leader)
		if r.BackMost == 0 && n >= o.Agents*9/10 {
			r.BackMost = time.Since(killed)
		}
		return n == o.Agents
	}); err != nil {
		return fmt.Errorf("%w\n%+v", err, x.sum())
	}
	r.Back = time.Since(killed)
	if r.NodesCPU, err = c.cpuOfNodes(leader); err != nil {
		return err
	}
	if r.AgentsCPU, err = x.cpu(); err != nil {
		return err
	}
	r.NodesCPU, r.AgentsCPU = r.NodesCPU-nodes, r.AgentsCPU-agents
	return nil
}

// cpuOfNodes is what all nodes but one have used so far.
func (c *Cluster) cpuOfNodes(not string) (sum time.Duration, err error) {
	for _, name := range c.Names {
		if name == not {
			continue
		}
		used, err := cpuTime(c.nodes[name].PID())
		if err != nil {
			return 0, fmt.Errorf("node %s: %w\n%s", name, err, c.nodes[name].Said(3000))
		}
		sum += used
	}
	return sum, nil
}

// cpu is what the agents have used so far.
func (x *crowd) cpu() (sum time.Duration, err error) {
	for _, p := range x.procs {
		used, err := cpuTime(p.PID())
		if err != nil {
			return 0, fmt.Errorf("a process of agents: %w\n%s", err, p.Said(3000))
		}
		sum += used
	}
	return sum, nil
}

func (c *Cluster) beat(ctx context.Context, beat time.Duration) error {
	leader := c.Leader(ctx)
	if leader == "" {
		return errors.New("set beat: nobody leads")
	}
	_, err := c.apis[leader].SetPolicy(ctx, connect.NewRequest(&pb.SetPolicyRequest{Settings: []*pb.Setting{
		{Key: "beat", Value: beat.String()}, {Key: "lease", Value: (12 * beat).String()}, {Key: "takeover", Value: (18*beat + 10*time.Second).String()}}}))
	if err != nil {
		return fmt.Errorf("set beat: %w", err)
	}
	return nil
}

func (c *Cluster) gather(o CrowdOptions) (*crowd, error) {
	x := &crowd{last: make([]Tally, o.Processes)}
	var addrs []string
	for _, n := range c.Names {
		addrs = append(addrs, c.Addrs[n])
	}
	for i := range o.Processes {
		first, next := o.Agents*i/o.Processes, o.Agents*(i+1)/o.Processes
		dir := c.Path(fmt.Sprintf("agents-%d", i))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return x, fmt.Errorf("make directory: %w", err)
		}
		cmd := o.Command(AgentsConfig{CA: c.Path("ca"), Dir: dir, Addrs: addrs, First: first, Count: next - first, VMs: o.VMs, Within: o.For + 15*time.Minute})
		// What collects the garbage of thousands of agents is not to be measured.
		cmd.Env = append(cmd.Environ(), "GOGC=400")
		out, in, err := os.Pipe()
		if err != nil {
			return x, fmt.Errorf("make pipe: %w", err)
		}
		cmd.Stdout = in
		p, err := start(c.starts, c.Path(fmt.Sprintf("agents-%d.log", i)), cmd)
		_ = in.Close() // the child has it
		if err != nil {
			_ = out.Close() // nobody writes
			return x, err
		}
		x.procs = append(x.procs, p)
		x.last[i].OldestMS = -1
		go x.read(i, out)
	}
	return x, nil
}

// read ends with the process.
func (x *crowd) read(i int, out io.ReadCloser) {
	defer out.Close()
	for lines := json.NewDecoder(out); ; {
		var t Tally
		if lines.Decode(&t) != nil {
			return
		}
		x.mu.Lock()
		x.last[i] = t
		x.mu.Unlock()
	}
}

func (x *crowd) end() {
	for _, p := range x.procs {
		p.kill()
	}
}

// ended is a process that should run and does not.
func (x *crowd) ended() *Process {
	for _, p := range x.procs {
		if !p.Runs() {
			return p
		}
	}
	return nil
}

func (x *crowd) sum() Tally {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := Tally{Leaders: map[string]int{}}
	for _, t := range x.last {
		all.Count, all.Answers, all.Failures = all.Count+t.Count, all.Answers+t.Answers, all.Failures+t.Failures
		if t.Said != "" && (t.OldestMS < 0 || t.OldestMS >= all.OldestMS) {
			all.Said = t.Said
		}
		if t.OldestMS < 0 || all.OldestMS < 0 {
			all.OldestMS = -1
		} else {
			all.OldestMS = max(all.OldestMS, t.OldestMS)
		}
		for id, n := range t.Leaders {
			all.Leaders[id] += n
		}
	}
	return all
}

// heard are the agents whose last answer did not come from a leader.
func (x *crowd) heard(not string) (n int) {
	leaders := x.sum().Leaders
	maps.DeleteFunc(leaders, func(id string, _ int) bool { return id == not })
	for _, k := range leaders {
		n += k
	}
	return n
}

// watch fills in what is seen while nothing happens.
func (c *Cluster) watch(ctx context.Context, x *crowd, o CrowdOptions, r *CrowdResult) error {
	leader, term := c.whoLeads(ctx)
	p := c.nodes[leader]
	if p == nil {
		return fmt.Errorf("nobody leads once all agents have come\n%s", c.Said(1500))
	}
	first, began := x.sum(), time.Now()
	used, err := cpuTime(p.PID())
	if err != nil {
		return err
	}
	for time.Since(began) < o.For {
		if !sleep(ctx, tallyEvery) {
			return context.Cause(ctx)
		}
		r.OldestMS = max(r.OldestMS, x.sum().OldestMS)
	}
	took := time.Since(began)
	now, err := cpuTime(p.PID())
	if err != nil {
		return err
	}
	last := x.sum()
	r.Answers, r.Failures = float64(last.Answers-first.Answers)/took.Seconds(), last.Failures-first.Failures
	r.LeaderCPU = (now - used).Seconds() / took.Seconds()
	if r.LeaderRSS, r.LeaderPeak, err = Memory(p.PID()); err != nil {
		return err
	}
	l, t := c.whoLeads(ctx)
	r.Changed = l != leader || t != term
	if last.Count != o.Agents {
		return fmt.Errorf("%d of %d agents are left", last.Count, o.Agents)
	}
	return nil
}

// whoLeads asks until the nodes agree.
func (c *Cluster) whoLeads(ctx context.Context) (leader string, term uint64) {
	for range 100 {
		if leader = c.Leader(ctx); leader != "" {
			return leader, c.Status(ctx, leader, true).Term
		}
		sleep(ctx, tallyEvery)
	}
	return "", 0
}
