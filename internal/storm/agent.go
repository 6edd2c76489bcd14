package storm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"connectrpc.com/connect"

	lifeboatagent "lifeboat/agent"
	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/transport"
	"lifeboat/transport/pki"
)

// AgentsConfig says which agents one process acts as.
type AgentsConfig struct {
	CA     string   // directory of the CA, which signs the hosts' certificates
	Dir    string   // for certificates
	Addrs  []string // of the management nodes
	First  int      // number of the first agent; it decides its name and its source address
	Count  int
	VMs    int // of each host
	Within time.Duration
}

// agent speaks the protocol of one host over a connection of its own, with a
// certificate of its own: registration with a ticket, parked reports, the leader
// preferred, another manager when one fails. It has VMs and runs none.
type agent struct {
	name  string
	addrs []string
	http  *http.Client
	vms   []*pb.VMReport

	mu       sync.Mutex
	leader   string // who answered last
	answered time.Time
	answers  int
	failures int
	said     string // last failure
}

// perSource is how many agents share a source address: a listener takes 512
// connections of one, and an agent may have two while it moves.
const perSource = 200

func newAgent(ca *pki.CA, cfg AgentsConfig, number int) (*agent, error) {
	name := fmt.Sprintf("h%05d", number)
	leaf, err := ca.Issue(transport.Identity{Kind: transport.KindHost, Name: name}, pki.IssueOptions{})
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", name, err)
	}
	files, err := leaf.Write(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", name, err)
	}
	files.CA = filepath.Join(cfg.CA, "ca.crt")
	creds, err := transport.LoadCredentials(files, nil)
	if err != nil {
		return nil, err
	}
	block := number / perSource
	// Agents do not share their cores with ten thousand others.
	from := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 77, byte(block/250), byte(block%250+1))}}
	opts := lifeboatagent.ClientOptions()
	opts.Dial.Dial = from.DialContext
	a := &agent{name: name, addrs: cfg.Addrs, http: transport.NewHTTPClient(creds, opts)}
	for i := range cfg.VMs {
		id := [16]byte{0x57, byte(number >> 8), byte(number), byte(i >> 8), byte(i), 0x5a, 0x40, 0, 0x80}
		a.vms = append(a.vms, &pb.VMReport{Id: id[:], Name: fmt.Sprintf("vm-%s-%03d", name, i), Power: pb.PowerState_POWER_STATE_ON, Reason: pb.PowerReason_POWER_REASON_BOOTED})
	}
	return a, nil
}

// run reports until ctx ends. slots bounds how many register at a time.
func (a *agent) run(ctx context.Context, slots chan struct{}) {
	defer transport.HangUp(a.http)
	to := a.addrs[rand.IntN(len(a.addrs))]
	failed := map[string]time.Time{} // when an address failed last
	var epoch, seq, have uint64
	var leader string // as last told
	aimless := 0      // answers in a row that nobody leads
	beat, fails := time.Second, 0
	var since time.Time // when the newest report was sent
	for ctx.Err() == nil {
		client := lifeboatv1connect.NewAgentServiceClient(a.http, "https://"+to)
		var err error
		if epoch == 0 {
			var r *pb.RegisterResponse
			if r, err = a.register(ctx, client, slots); err == nil {
				epoch, seq, have, beat, leader, fails = r.Epoch, 0, 0, time.Duration(r.BeatMs)*time.Millisecond, r.LeaderAddr, 0
				continue
			}
		} else {
			seq++
			since = time.Now()
			var r *pb.ReportResponse
			if r, err = a.report(ctx, client, &pb.ReportRequest{HostId: a.name, Epoch: epoch, BootId: a.boot(), Session: a.session(), Seq: seq, Vms: a.vms, HaveAssignment: have}, beat); err == nil {
				beat, fails = time.Duration(r.BeatMs)*time.Millisecond, 0
				if r.Register {
					epoch = 0
				}
				news := r.Assignment != nil
				if news {
					have = r.Assignment.Index
				}
				// As the agent does, see agent/session: a leader that is told for the
				// second time is gone to.
				if r.LeaderAddr != "" && r.LeaderAddr == leader {
					to = leader
				}
				if r.LeaderAddr != "" {
					leader = r.LeaderAddr
				}
				aimless = 0
				// A report whose answer was not parked is followed by the next one a
				// beat after it, but for one that says that the assignment has come.
				if rest := beat - time.Since(since); !news && rest > 0 {
					sleep(ctx, rest)
				}
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		a.failed(err)
		if code := connect.CodeOf(err); code == connect.CodeNotFound || code == connect.CodeFailedPrecondition {
			epoch = 0
		}
		// One that lives and knows of no leader is asked again, and a connection that
		// broke has broken for all.
		if aimless+1 < 3 && lifeboatagent.NobodyLeads(err) {
			sleep(ctx, spread(backoff(beat, aimless+fails/len(a.addrs))))
			aimless++
			continue
		}
		fails, aimless = fails+1, 0
		failed[to] = time.Now()
		for _, i := range rand.Perm(len(a.addrs)) {
			if x := a.addrs[i]; failed[x].Before(failed[to]) {
				to = x
			}
		}
		if fails == 1 && connect.CodeOf(err) != connect.CodeDeadlineExceeded {
			wide := beat
			if epoch != 0 { // who had waited for long comes sooner
				wide = min(wide, beat*5/4-time.Since(since))
			}
			sleep(ctx, rand.N(max(100*time.Millisecond, wide)))
			continue
		}
		sleep(ctx, spread(backoff(beat, fails/len(a.addrs))))
	}
}

// backoff is the pause after a number of failures, as agents have it.
func backoff(beat time.Duration, rounds int) time.Duration {
	return min(max(100*time.Millisecond, beat/10)<<min(rounds, 10), max(time.Second, beat/2))
}

// spread is a pause about as long as given.
func spread(d time.Duration) time.Duration { return d/2 + rand.N(d) }

func (a *agent) boot() string    { return "boot-" + a.name }
func (a *agent) session() string { return "session-" + a.name }

func (a *agent) register(ctx context.Context, client lifeboatv1connect.AgentServiceClient, slots chan struct{}) (*pb.RegisterResponse, error) {
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	q := &pb.RegisterRequest{HostId: a.name, MachineId: "machine-" + a.name, BootId: a.boot(), Session: a.session(), Version: "bench",
		Inventory: &pb.Inventory{Cpus: 64, MemoryBytes: 256 << 30}, Vms: a.vms}
	first, err := client.Register(ctx, connect.NewRequest(&pb.RegisterRequest{HostId: q.HostId, MachineId: q.MachineId}))
	if err != nil {
		return nil, err
	}
	q.Ticket = first.Msg.Ticket
	r, err := client.Register(ctx, connect.NewRequest(q))
	if err != nil {
		return nil, err
	}
	if r.Msg.Epoch == 0 {
		return nil, errors.New("registered without an epoch")
	}
	return r.Msg, nil
}

func (a *agent) report(ctx context.Context, client lifeboatv1connect.AgentServiceClient, q *pb.ReportRequest, beat time.Duration) (*pb.ReportResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, beat+max(2*time.Second, beat/2))
	defer cancel()
	r, err := client.Report(ctx, connect.NewRequest(q))
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leader, a.answered, a.answers = r.Msg.LeaderId, time.Now(), a.answers+1
	return r.Msg, nil
}

func (a *agent) failed(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failures, a.said = a.failures+1, err.Error()
}

// certificates are signed by all cores at once.
func newAgents(cfg AgentsConfig) ([]*agent, error) {
	ca, err := pki.LoadCA(filepath.Clean(cfg.CA))
	if err != nil {
		return nil, err
	}
	all := make([]*agent, cfg.Count)
	failed := make(chan error, cfg.Count)
	var wg sync.WaitGroup
	turns := make(chan struct{}, 8)
	for i := range all {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			var err error
			if all[i], err = newAgent(ca, cfg, cfg.First+i); err != nil {
				failed <- err
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return nil, err
	default:
		return all, nil
	}
}
