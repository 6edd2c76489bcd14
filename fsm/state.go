package fsm

import (
	"cmp"
	"encoding/binary"
	"iter"
	"strings"
)

// State is one consistent, immutable view of everything replicated. Only
// Machine writes, and only to a State that nobody else has seen.
type State struct {
	Index      uint64 // last log index applied
	Term       uint64
	Time       int64 // unix ns; never decreases
	ClusterID  string
	Generation uint32 // raised by restore and recover (S1)
	Level      uint32 // feature level: Apply does what came with it, and with none above
	// LevelVersion is the version of the leader that raised Level, from level 3 on.
	LevelVersion string
	Armed        bool   // HA acts
	Ignoring     bool   // disarmed, and what happens to VMs is as if they were unmanaged
	ArmedAt      int64  // unix ns of the last change of Armed, from level 4 on; 0 = not known
	ArmedIndex   uint64 // last change of Armed or of the lease policy
	Waking       bool   // restored, and not armed since: nobody is ordered to do anything (S22)
	Policy       *Policy
	Digest       DigestAt

	CA *Authority // signs the cluster's certificates; nil = somebody else does

	seq       uint64 // last id minted
	shapes    *shapes
	nodes     table[NodeID, *Node]
	hosts     table[HostID, *Host]
	owner     table[VMID, HostID]
	work      table[WorkID, *Work]
	open      table[VMID, WorkID]
	alerts    table[AlertID, *AlertRecord]
	raised    table[AlertKey, AlertID]   // not resolved
	closed    table[closedKey, AlertID]  // resolved and archived, by age
	settled   table[settledKey, AlertID] // resolved, by key
	events    table[EventID, *Event]
	receivers table[string, *Receiver]
	silences  table[SilenceID, *Silence]
	outbox    table[NoticeID, *Notice]
	news      table[NoticeID, struct{}] // those of the outbox that are no repeats
	brakes    table[string, Brake]      // by failure domain
	tokens    table[string, *Token]
	operators table[string, *Operator]
	requests  table[uint64, *Request] // by log index
	asked     table[requestKey, uint64]

	rules    table[RuleID, *Rule]
	book     *ruleBook // of the rules; nil when there are none
	lastRule uint64    // number of the rule that was written last
	usage    usageState
}

// Authority is the cluster's own CA.
type Authority struct {
	Cert []byte // DER
	Key  []byte // sealed
}

// DigestAt is the rolling digest as of a Canary.
type DigestAt struct {
	Index uint64
	Sum   uint64
}

func newState() *State {
	return &State{
		Armed: true, Policy: DefaultPolicy(), Generation: 1, Level: 1, shapes: newShapes(),
		nodes:  newTable[NodeID, *Node](less[NodeID]),
		hosts:  newTable[HostID, *Host](less[HostID]),
		owner:  newTable[VMID, HostID](lessVM),
		work:   newTable[WorkID, *Work](less[WorkID]),
		open:   newTable[VMID, WorkID](lessVM),
		alerts: newTable[AlertID, *AlertRecord](less[AlertID]),
		raised: newTable[AlertKey, AlertID](lessKey),
		events: newTable[EventID, *Event](less[EventID]),
		closed: newTable[closedKey, AlertID](lessClosed), settled: newTable[settledKey, AlertID](lessSettled),
		receivers: newTable[string, *Receiver](less[string]), silences: newTable[SilenceID, *Silence](less[SilenceID]),
		outbox: newTable[NoticeID, *Notice](less[NoticeID]), news: newTable[NoticeID, struct{}](less[NoticeID]),
		brakes: newTable[string, Brake](less[string]),
		tokens: newTable[string, *Token](less[string]), operators: newTable[string, *Operator](less[string]),

		requests: newTable[uint64, *Request](less[uint64]),
		asked:    newTable[requestKey, uint64](lessRequest),
		rules:    newTable[RuleID, *Rule](less[RuleID]),
		usage:    newUsage(),
	}
}

// clone returns a State that can be written without changing s.
func (s *State) clone() *State {
	n := *s
	n.nodes = s.nodes.clone()
	n.hosts = s.hosts.clone()
	n.owner = s.owner.clone()
	n.work = s.work.clone()
	n.open = s.open.clone()
	n.alerts = s.alerts.clone()
	n.raised = s.raised.clone()
	n.closed = s.closed.clone()
	n.settled = s.settled.clone()
	n.events = s.events.clone()
	n.receivers = s.receivers.clone()
	n.silences = s.silences.clone()
	n.outbox = s.outbox.clone()
	n.news = s.news.clone()
	n.brakes = s.brakes.clone()
	n.tokens = s.tokens.clone()
	n.operators = s.operators.clone()
	n.requests = s.requests.clone()
	n.asked = s.asked.clone()
	n.rules = s.rules.clone()
	n.usage = s.usage.clone()
	return &n
}

// Node returns a management node, nil when unknown.
func (s *State) Node(id NodeID) *Node { n, _ := s.nodes.get(id); return n }

// Nodes walks the management nodes by id.
func (s *State) Nodes() iter.Seq2[NodeID, *Node] { return s.nodes.all() }

// Host returns a host, nil when unknown.
func (s *State) Host(id HostID) *Host { h, _ := s.hosts.get(id); return h }

// Hosts walks the hosts by id.
func (s *State) Hosts() iter.Seq2[HostID, *Host] { return s.hosts.all() }

// CountHosts is the number of hosts.
func (s *State) CountHosts() int { return s.hosts.len() }

// CountVMs is the number of VMs.
func (s *State) CountVMs() int { return s.owner.len() }

// VM returns a VM and its owner, nil when unknown.
func (s *State) VM(id VMID) (*VM, *Host) {
	hid, ok := s.owner.get(id)
	if !ok {
		return nil, nil
	}
	h := s.Host(hid)
	return h.VM(id), h
}

// Work returns an item of work, nil when unknown.
func (s *State) Work(id WorkID) *Work {
	if id == 0 {
		return nil // as most VMs have it: not worth a search
	}
	w, _ := s.work.get(id)
	return w
}

// AllWork walks all work that is kept, newest first.
func (s *State) AllWork() iter.Seq2[WorkID, *Work] { return s.work.down() }

// OpenWork walks the open work, by VM.
func (s *State) OpenWork() iter.Seq[*Work] {
	return func(yield func(*Work) bool) {
		for _, id := range s.open.all() {
			if !yield(s.Work(id)) {
				return
			}
		}
	}
}

// CountOpenWork is the number of open work items.
func (s *State) CountOpenWork() int { return s.open.len() }

// Alerts walks the alerts that are kept, newest first.
func (s *State) Alerts() iter.Seq2[AlertID, *AlertRecord] { return s.alerts.down() }

// Alert returns an alert, nil when unknown.
func (s *State) Alert(id AlertID) *AlertRecord { a, _ := s.alerts.get(id); return a }

// OpenAlert returns the alert of a key that is not resolved, nil if there is none.
func (s *State) OpenAlert(k AlertKey) *AlertRecord {
	id, ok := s.raised.get(k)
	if !ok {
		return nil
	}
	return s.Alert(id)
}

// CountOpenAlerts is the number of alerts not resolved.
func (s *State) CountOpenAlerts() int { return s.raised.len() }

// EventsAfter walks the events with ids greater than after, oldest first.
func (s *State) EventsAfter(after EventID) iter.Seq2[EventID, *Event] {
	return s.events.from(after + 1)
}

// EventsDown walks the events, newest first.
func (s *State) EventsDown() iter.Seq2[EventID, *Event] { return s.events.down() }

// Brake returns why active fencing is held back in a failure domain; "" means
// it is not.
func (s *State) Brake(domain string) string { b, _ := s.brakes.get(domain); return b.Reason }

// Brakes walks the brakes that are on.
func (s *State) Brakes() iter.Seq2[string, Brake] { return s.brakes.all() }

// Token returns a token, nil when unknown.
func (s *State) Token(id string) *Token { k, _ := s.tokens.get(id); return k }

// Tokens walks the tokens by id.
func (s *State) Tokens() iter.Seq2[string, *Token] { return s.tokens.all() }

// Operator returns an operator that was given a role, nil when none was.
func (s *State) Operator(name string) *Operator { o, _ := s.operators.get(name); return o }

// Operators walks the operators that were given a role, by name.
func (s *State) Operators() iter.Seq2[string, *Operator] { return s.operators.all() }

func less[T cmp.Ordered](a, b T) bool { return a < b }

// lessVM orders ids as their bytes.
func lessVM(a, b VMID) bool {
	x, y := binary.BigEndian.Uint64(a[:]), binary.BigEndian.Uint64(b[:])
	if x != y {
		return x < y
	}
	return binary.BigEndian.Uint64(a[8:]) < binary.BigEndian.Uint64(b[8:])
}

func lessKey(a, b AlertKey) bool {
	return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.Subject, b.Subject),
		strings.Compare(a.Cause, b.Cause)) < 0
}
