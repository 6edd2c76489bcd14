package ha_test

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// world is a cluster in virtual time: the real state machine, the real
// decisions, one leader, and boxes that do what a test says. Nothing in it is
// random.
type world struct {
	t     teller
	m     *fsm.Machine
	index uint64
	now   int64 // unix ns

	leader  string
	term    uint64
	began   int64 // when the term began
	machine fsm.HostID
	frozen  bool // the leader neither listens nor acts
	commits bool // canaries commit
	batch   bool // the leader looks only after all that happens in an instant
	soft    ha.Soft
	memo    ha.Memo
	running map[string]bool

	boxes map[fsm.HostID]*box
	queue []happening
	order int
	wake  int64 // when the leader wants to be asked again; 0 = never
	told  []told
	log   []string
}

// happening is something that is going to be done.
type happening struct {
	at    int64
	order int
	do    func()
}

// told is one command that Decide gave.
type told struct {
	at  int64
	cmd *logpb.Command
}

const dawn = int64(1_700_000_000_000_000_000)

// teller is what a world needs of a *testing.T or *rapid.T.
type teller interface {
	Helper()
	Log(...any)
	Fatalf(string, ...any)
}

func newWorld(t teller, boxes ...*box) *world {
	t.Helper()
	w := &world{t: t, m: fsm.NewMachine(), now: dawn, commits: true, boxes: map[fsm.HostID]*box{}}
	w.apply(&logpb.ClusterInit{ClusterId: "c1", FeatureLevel: 1})
	w.elect("n1")
	for _, b := range boxes {
		b.w = w
		w.boxes[b.id] = b
		b.beat()
		w.apply(b.fenceLevels())
		b.beats()
	}
	w.canary()
	w.advance(2 * time.Second) // leases are armed, VMs protected
	return w
}

func (w *world) state() *fsm.State { return w.m.State() }

func (w *world) mono() time.Duration { return time.Duration(w.now - w.began) }

// elect begins a term; effects of the last one are dead.
func (w *world) elect(name string) {
	w.term++
	w.leader, w.began, w.frozen = name, w.now, false
	w.soft, w.memo = ha.Soft{Executor: fmt.Sprintf("%s in term %d", name, w.term), Machine: w.machine, Proven: -1}, ha.Memo{}
	w.running = map[string]bool{}
	w.note("%s leads", name)
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%8.2fs ", float64(w.now-dawn)/1e9)+fmt.Sprintf(format, args...))
}

// fatal ends the test with the story so far.
func (w *world) fatal(format string, args ...any) {
	w.t.Helper()
	for _, l := range w.log {
		w.t.Log(l)
	}
	w.t.Fatalf("at %.2fs: %s", float64(w.now-dawn)/1e9, fmt.Sprintf(format, args...))
}

func (w *world) after(d time.Duration, do func()) {
	w.order++
	w.queue = append(w.queue, happening{w.now + int64(d), w.order, do})
}

// within runs do later, unless the term is another one then.
func (w *world) within(d time.Duration, do func()) {
	term := w.term
	w.after(d, func() {
		if w.term == term {
			do()
		}
	})
}

func (w *world) canary() {
	if w.commits && !w.frozen {
		w.apply(&logpb.Canary{Node: w.leader, Term: w.term})
		w.soft.Proven = w.mono()
	}
	w.after(time.Second, w.canary)
}

// advance lets time pass.
func (w *world) advance(d time.Duration) {
	w.t.Helper()
	w.until(d, func() bool { return false })
}

// until lets time pass until ok, at most for d, and says how long it took.
func (w *world) until(d time.Duration, ok func() bool) (took time.Duration, did bool) {
	w.t.Helper()
	from := w.now
	end := w.now + int64(d)
	for {
		w.settle()
		if ok() {
			return time.Duration(w.now - from), true
		}
		i := w.next()
		if !w.frozen && w.wake > 0 && w.wake <= end && (i < 0 || w.wake < w.queue[i].at) {
			w.now = w.wake
			continue
		}
		if i < 0 || w.queue[i].at > end {
			w.now = end
			w.settle()
			return d, ok()
		}
		h := w.queue[i]
		w.queue = slices.Delete(w.queue, i, i+1)
		w.now = max(w.now, h.at)
		h.do()
		w.oneCopy()
		for i := w.next(); w.batch && i >= 0 && w.queue[i].at <= w.now; i = w.next() {
			h := w.queue[i]
			w.queue = slices.Delete(w.queue, i, i+1)
			h.do()
			w.oneCopy()
		}
	}
}

// must is until for what has to happen.
func (w *world) must(d time.Duration, what string, ok func() bool) time.Duration {
	w.t.Helper()
	took, did := w.until(d, ok)
	if !did {
		w.fatal("%s did not happen within %s", what, d)
	}
	return took
}

// never fails the test when ok holds within d.
func (w *world) never(d time.Duration, what string, ok func() bool) {
	w.t.Helper()
	if took, did := w.until(d, ok); did {
		w.fatal("%s after %s", what, took)
	}
}

func (w *world) next() int {
	at := -1
	for i, h := range w.queue {
		if at < 0 || cmp.Or(cmp.Compare(h.at, w.queue[at].at), cmp.Compare(h.order, w.queue[at].order)) < 0 {
			at = i
		}
	}
	return at
}

// rounds is how often the leader may act in one instant before the test says
// that it runs in circles.
const rounds = 40

// settle lets the leader decide until it has nothing to do.
func (w *world) settle() {
	w.t.Helper()
	if w.frozen {
		return
	}
	for i := 0; ; i++ {
		plan := w.decide()
		if plan.Transfer != "" {
			w.note("transfer: %s", plan.Transfer)
			w.machine = ""
			w.elect(w.leader + "'")
			continue
		}
		for _, e := range plan.Effects {
			w.start(e)
		}
		if len(plan.Commands) == 0 && len(plan.Effects) == 0 {
			w.wakeAt(plan.Wake)
			return
		}
		if i == rounds {
			w.fatal("the leader runs in circles: %v, effects %v", plan.Commands, plan.Effects)
		}
		for _, c := range plan.Commands {
			w.told = append(w.told, told{w.now, c})
			c = proto.Clone(c).(*logpb.Command)
			c.OnlyTerm = w.term
			if no := w.command(c); no != "" {
				w.note("refused: %s", no)
			}
		}
	}
}

// decide asks twice: the same situation gives the same plan, whether all is looked at or
// only what has changed since the last time, and nothing is changed by asking.
func (w *world) decide() ha.Plan {
	w.t.Helper()
	now := ha.Now{Wall: w.now, Mono: w.mono()}
	before, known := copySoft(&w.soft), w.soft
	known.Memo = &w.memo
	everywhere := w.soft
	everywhere.LookEverywhere(&w.memo)
	a := ha.Decide(w.state(), &known, now)
	b := ha.Decide(w.state(), &everywhere, now)
	if !samePlan(a, b) {
		w.fatal("two answers to one question:\n%v\n%v", a, b)
	}
	if !reflect.DeepEqual(&w.soft, before) {
		w.fatal("Decide has changed what it was given")
	}
	return a
}

func samePlan(a, b ha.Plan) bool {
	return slices.EqualFunc(a.Commands, b.Commands, func(x, y *logpb.Command) bool { return proto.Equal(x, y) }) &&
		reflect.DeepEqual(a.Effects, b.Effects) && a.Transfer == b.Transfer && a.Wake == b.Wake
}

func copySoft(s *ha.Soft) *ha.Soft {
	n := *s
	n.Checks = maps.Clone(s.Checks)
	n.Hosts = ha.Contacts{}
	for id, c := range s.Hosts.All() {
		if c.Check != nil {
			i := *c.Check
			i.Findings = slices.Clone(i.Findings)
			c.Check = &i
		}
		if c.Fence != nil {
			f := *c.Fence
			c.Fence = &f
		}
		n.Hosts.Set(id, c)
	}
	return &n
}

func (w *world) wakeAt(mono time.Duration) {
	if w.wake = 0; mono == time.Duration(1<<63-1) {
		return
	}
	if mono <= w.mono() {
		w.fatal("the leader has nothing to do and wants to be asked again at once")
	}
	w.wake = w.began + int64(mono)
}

// apply puts a command of somebody else into the log.
func (w *world) apply(body proto.Message) {
	w.t.Helper()
	if no := w.try(body); no != "" {
		w.fatal("%v was refused: %s", body, no)
	}
}

func (w *world) try(body proto.Message) string {
	w.t.Helper()
	c := &logpb.Command{}
	fields := c.ProtoReflect().Descriptor().Oneofs().ByName("body").Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); f.Message().FullName() == body.ProtoReflect().Descriptor().FullName() {
			c.ProtoReflect().Set(f, protoreflect.ValueOfMessage(body.ProtoReflect()))
			return w.command(c)
		}
	}
	w.fatal("%T is no command", body)
	return ""
}

func (w *world) command(c *logpb.Command) string {
	w.t.Helper()
	c.TimeUnixNs = w.now
	b, err := proto.Marshal(c)
	if err != nil {
		w.fatal("encode %v: %v", c, err)
	}
	w.index++
	var last fsm.EventID
	for id := range w.state().EventsDown() {
		last = id
		break
	}
	no := w.m.Apply([]fsm.Entry{{Index: w.index, Term: w.term, Data: b}})[0].Rejected
	for _, e := range w.state().EventsAfter(last) {
		w.note("%s %s", e.Type, e.Text)
	}
	if c.GetCanary() == nil {
		if err := w.state().Check(); err != nil {
			w.fatal("after %v:\n%v", c, err)
		}
	}
	return no
}

// count is how many commands of a kind the leader gave about a host.
func count[B any](w *world) int {
	n := 0
	for _, t := range w.told {
		if _, ok := any(t.cmd.Body).(B); ok {
			n++
		}
	}
	return n
}

func (w *world) host(id fsm.HostID) *fsm.Host {
	w.t.Helper()
	h := w.state().Host(id)
	if h == nil {
		w.fatal("there is no host %s", id)
	}
	return h
}

func (w *world) vm(n int) (*fsm.VM, *fsm.Host) {
	w.t.Helper()
	v, h := w.state().VM(vmID(n))
	if v == nil {
		w.fatal("there is no VM %d", n)
	}
	return v, h
}

// work is a VM's open work, or an empty one.
func (w *world) work(n int) *fsm.Work {
	w.t.Helper()
	v, _ := w.vm(n)
	if x := w.state().Work(v.Work); x != nil {
		return x
	}
	return &fsm.Work{}
}

func (w *world) is(id fsm.HostID, ha fsm.HAState) func() bool {
	return func() bool { return w.host(id).HA == ha }
}

// runsOn reports whether the VM runs there and the state knows it.
func (w *world) runsOn(n int, id fsm.HostID) func() bool {
	return func() bool {
		v, h := w.vm(n)
		g := w.boxes[id].guests[vmID(n)]
		return h.ID == id && v.Power == fsm.PowerOn && v.Work == 0 && g != nil && g.on
	}
}

// ordered reports whether a start order for the VM stands or was followed.
func (w *world) ordered(n int) func() bool {
	was, _ := w.vm(n)
	return func() bool { v, _ := w.vm(n); return v.Incarnation > was.Incarnation }
}

// oneCopy fails when a VM runs twice.
func (w *world) oneCopy() {
	w.t.Helper()
	live := map[fsm.VMID]fsm.HostID{}
	for _, b := range w.sorted() {
		for id, g := range b.guests {
			if !b.power || !g.on {
				continue
			}
			if other, ok := live[id]; ok {
				w.fatal("VM %s runs on %s and on %s", id, other, b.id)
			}
			live[id] = b.id
		}
	}
}

func (w *world) sorted() []*box {
	var out []*box
	for _, b := range w.boxes {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b *box) int { return cmp.Compare(a.id, b.id) })
	return out
}

func vmID(n int) fsm.VMID { return fsm.VMID{14: byte(n >> 8), 15: byte(n)} }

func vmBytes(n int) []byte { id := vmID(n); return id[:] }
