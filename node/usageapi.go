package node

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// maxUsagePage is how many records or resources one answer holds.
const maxUsagePage = 1000

// maxUsageEvents is how many events one request may tell.
const maxUsageEvents = 20_000

func (a *adminAPI) RecordUsage(ctx context.Context, req *connect.Request[lifeboatv1.RecordUsageRequest]) (*connect.Response[lifeboatv1.RecordUsageResponse], error) {
	return forAdmin(ctx, a, req, false, (*term).recordUsage, client.RecordUsage)
}

func (a *adminAPI) ListUsage(ctx context.Context, req *connect.Request[lifeboatv1.ListUsageRequest]) (*connect.Response[lifeboatv1.ListUsageResponse], error) {
	return forRead(ctx, a, req, a.n.readUsage, client.ListUsage)
}

func (a *adminAPI) ListUsageResources(ctx context.Context, req *connect.Request[lifeboatv1.ListUsageResourcesRequest]) (*connect.Response[lifeboatv1.ListUsageResourcesResponse], error) {
	return forRead(ctx, a, req, a.n.readUsageResources, client.ListUsageResources)
}

func (a *adminAPI) DescribeUsage(ctx context.Context, req *connect.Request[lifeboatv1.DescribeUsageRequest]) (*connect.Response[lifeboatv1.DescribeUsageResponse], error) {
	return forRead(ctx, a, req, a.n.describeUsage, client.DescribeUsage)
}

func (a *adminAPI) VerifyUsage(ctx context.Context, req *connect.Request[lifeboatv1.VerifyUsageRequest]) (*connect.Response[lifeboatv1.VerifyUsageResponse], error) {
	return forAdmin(ctx, a, req, false, (*term).verifyUsage, client.VerifyUsage)
}

func (a *adminAPI) RepairUsage(ctx context.Context, req *connect.Request[lifeboatv1.VerifyUsageRequest]) (*connect.Response[lifeboatv1.VerifyUsageResponse], error) {
	return forAdmin(ctx, a, req, false, (*term).repairUsage, client.RepairUsage)
}

func (a *adminAPI) SetUsage(ctx context.Context, req *connect.Request[lifeboatv1.SetUsageRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).setUsage, client.SetUsage)
}

// recordUsage commits events in entries of at most batchSize, one behind the other
// without waiting in between.
func (t *term) recordUsage(ctx context.Context, q *lifeboatv1.RecordUsageRequest) (*lifeboatv1.RecordUsageResponse, error) {
	if len(q.Events) == 0 || len(q.Events) > maxUsageEvents {
		return nil, refuse("a request tells 1 to %d events, this one has %d; send more requests", maxUsageEvents, len(q.Events))
	}
	events := make([]*logpb.UsageEvent, len(q.Events))
	for i, e := range q.Events {
		events[i] = &logpb.UsageEvent{Id: valid(e.Id), Type: valid(e.Type), Resource: valid(e.Resource), TimeUnixNs: e.TimeUnixNs}
		if e.Account != "" {
			events[i].Account = usageOwner(e.Domain, e.Account, e.Project)
		}
		if e.Size != 0 || e.Offering != "" || e.Zone != "" || e.Name != "" {
			events[i].Detail = &logpb.UsageDetail{Size: e.Size, Offering: valid(e.Offering), Zone: valid(e.Zone), Name: valid(e.Name)}
		}
	}
	r, err := t.tellUsage(ctx, events, "")
	if err != nil {
		return nil, err
	}
	from, text := earliestCharged(t.node.fsm.State()) // with them: the first of all may be among them
	refused := make(map[uint32]bool, len(r.Refused))
	for _, x := range r.Refused {
		refused[x.At] = true
	}
	for i, e := range events {
		if e.TimeUnixNs < from && !refused[uint32(i)] {
			r.Early++
			r.EarlyText = text
		}
	}
	return r, nil
}

func (t *term) tellUsage(ctx context.Context, events []*logpb.UsageEvent, repair string) (*lifeboatv1.RecordUsageResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	type part struct {
		at int
		f  raft.ApplyFuture
	}
	var parts []part
	var failed error
	for at := 0; at < len(events) && failed == nil; {
		n, size := at, 0
		for n < len(events) && (n == at || size+sizeOf(events[n]) <= batchSize) && n-at < usageChunk {
			size += sizeOf(events[n])
			n++
		}
		f, err := t.submit(ctx, actor(ctx), &logpb.Command{Body: &logpb.Command_UsageEvents{UsageEvents: &logpb.UsageEvents{Events: events[at:n], Repair: repair}}})
		if err != nil {
			failed = err
			break
		}
		parts = append(parts, part{at, f})
		at = n
	}
	r := &lifeboatv1.RecordUsageResponse{}
	for _, p := range parts {
		res, err := t.await(ctx, p.f)
		var no *errRejected
		if err != nil && (!errors.As(err, &no) || res.Told == nil) {
			failed = err
			continue
		}
		r.Index = max(r.Index, res.Index)
		r.Taken += uint64(res.Told.Taken)
		r.Known += uint64(res.Told.Known)
		for _, x := range res.Told.Refused {
			r.Refused = append(r.Refused, &lifeboatv1.UsageRefusal{At: uint32(p.at + x.At), Id: x.ID, Why: x.Why})
		}
	}
	if failed != nil {
		return nil, failed // some may count; the same request again says which
	}
	return r, nil
}

// usagePage is where the next answer goes on.
type usagePage struct {
	Window int64  `json:"w,omitempty"`
	Type   uint32 `json:"t,omitempty"`
	ID     string `json:"r,omitempty"`
	Skip   int    `json:"s,omitempty"` // records of it that were given
	// Upto is the log index of the first page: what is made while the pages are read is
	// on none of them, and comes after that index.
	Upto uint64 `json:"u,omitempty"`
}

func (p usagePage) String() string {
	b, _ := json.Marshal(p)
	return base64.RawURLEncoding.EncodeToString(b)
}

func parsePage(s string) (p usagePage, err error) {
	if s == "" {
		return p, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil || p.Skip < 0 {
		return p, refuse("%q is no page of an answer; give next_page of the answer before, or nothing", s)
	}
	return p, nil
}

// usageFilter is what two requests have in common.
func usageFilter(s *fsm.State, typ, domain, account, project string) (uint32, func(fsm.Owner) bool, error) {
	var id uint32
	if typ != "" {
		x := s.UsageTypeNamed(typ)
		if x == nil {
			return 0, nil, notFound("there is no usage type %s; `lifeboat usage types` shows them", typ)
		}
		id = x.ID
	}
	if domain == "" && account == "" && project == "" {
		return id, nil, nil
	}
	is := func(want, got string) bool { return want == "" || want == got }
	return id, func(o fsm.Owner) bool {
		return is(domain, o.Domain) && is(account, o.Account) && is(project, o.Project)
	}, nil
}

func pageLimit(n uint32) int {
	if n == 0 || n > maxUsagePage {
		return maxUsagePage
	}
	return int(n)
}

func (n *Node) readUsage(_ *term, ctx context.Context, q *lifeboatv1.ListUsageRequest) (*lifeboatv1.ListUsageResponse, error) {
	s := n.fsm.State()
	page, err := parsePage(q.Page)
	if err != nil {
		return nil, err
	}
	typ, owner, err := usageFilter(s, q.Type, q.Domain, q.Account, q.Project)
	if err != nil {
		return nil, err
	}
	limit := pageLimit(q.Limit)
	upto := cmp.Or(page.Upto, s.Index)
	if upto > s.Index {
		return nil, connect.NewError(connect.CodeUnavailable, fmt.Errorf("the page is of log index %d, and this node has only got to %d; ask the leader, or try again", upto, s.Index))
	}
	r := &lifeboatv1.ListUsageResponse{Index: upto}
	at, skip := page, page.Skip
	names := typeNames(s)
	looked := 0
	for x := range s.Usage(fsm.UsageQuery{From: q.FromUnixNs, To: q.ToUnixNs, After: q.After, Upto: upto, Type: typ, Resource: q.Resource, Owner: owner,
		Window: page.Window, Resuming: fsm.UsageKey{Type: page.Type, Resource: page.ID}}) {
		if looked++; looked%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if x.Window.Start != at.Window || (x.Key != fsm.UsageKey{Type: at.Type, Resource: at.ID}) {
			at, skip = usagePage{Window: x.Window.Start, Type: x.Key.Type, ID: x.Key.Resource, Upto: upto}, 0
		}
		if skip > 0 {
			skip--
			continue
		}
		if len(r.Records) == limit {
			r.NextPage = at.String()
			return r, nil
		}
		at.Skip++
		r.Records = append(r.Records, usageRecordView(names, x))
	}
	return r, nil
}

func typeNames(s *fsm.State) map[uint32]string {
	out := map[uint32]string{}
	for _, t := range s.UsageTypes() {
		out[t.ID] = t.Name
	}
	return out
}

func usageRecordView(names map[uint32]string, x *fsm.UsageRecord) *lifeboatv1.UsageRecordView {
	v := &lifeboatv1.UsageRecordView{WindowStartUnixNs: x.Window.Start, WindowEndUnixNs: x.Window.End, TypeId: x.Key.Type, Type: names[x.Key.Type],
		Resource: x.Key.Resource, Domain: x.Owner.Domain, Account: x.Owner.Account, Project: x.Owner.Project, UsedNs: x.Used, Correction: x.Corrects,
		Index: x.Index, FirstUnixNs: x.First, LastUnixNs: x.Last}
	if d := x.Detail; d != nil {
		v.Size, v.Offering, v.Zone, v.Name = d.Size, d.Offering, d.Zone, d.Name
	}
	return v
}

func (n *Node) readUsageResources(_ *term, _ context.Context, q *lifeboatv1.ListUsageResourcesRequest) (*lifeboatv1.ListUsageResourcesResponse, error) {
	s := n.fsm.State()
	page, err := parsePage(q.Page)
	if err != nil {
		return nil, err
	}
	typ, owner, err := usageFilter(s, q.Type, q.Domain, q.Account, q.Project)
	if err != nil {
		return nil, err
	}
	r := &lifeboatv1.ListUsageResourcesResponse{Index: s.Index}
	from := fsm.UsageKey{Type: max(page.Type, typ), Resource: page.ID}
	names := typeNames(s)
	for key, x := range s.UsageNamed(from, typ, q.Resource) {
		if q.Open && x.Open() == nil || q.Trouble && x.Trouble() == 0 {
			continue
		}
		v := usageResourceView(names, x, owner)
		if owner != nil && len(v.Intervals) == 0 {
			continue
		}
		if len(r.Resources) == pageLimit(q.Limit) {
			r.NextPage = usagePage{Type: key.Type, ID: key.Resource}.String()
			break
		}
		r.Resources = append(r.Resources, v)
	}
	return r, nil
}

// usageResourceView shows the intervals of an owner, or of all.
func usageResourceView(names map[uint32]string, r *fsm.UsageResource, owner func(fsm.Owner) bool) *lifeboatv1.UsageResourceView {
	v := &lifeboatv1.UsageResourceView{TypeId: r.Key.Type, Type: names[r.Key.Type], Resource: r.Key.Resource, Facts: uint32(len(r.Facts))}
	list, wrong := r.Intervals()
	for _, x := range list {
		if owner != nil && !owner(*x.Owner) {
			continue
		}
		i := &lifeboatv1.UsageIntervalView{StartUnixNs: x.Start, EndUnixNs: x.End, Domain: x.Owner.Domain, Account: x.Owner.Account, Project: x.Owner.Project}
		if d := x.Detail; d != nil {
			i.Size, i.Offering, i.Zone, i.Name = d.Size, d.Offering, d.Zone, d.Name
		}
		v.Intervals = append(v.Intervals, i)
	}
	for _, w := range wrong {
		v.Trouble = append(v.Trouble, fmt.Sprintf("event %s of %s, told at log index %d: %s", w.Fact.ID, time.Unix(0, w.Fact.Time).UTC().Format(time.RFC3339Nano), w.Fact.Index, w.Why))
	}
	return v
}

func (n *Node) describeUsage(_ *term, _ context.Context, _ *lifeboatv1.DescribeUsageRequest) (*lifeboatv1.DescribeUsageResponse, error) {
	s := n.fsm.State()
	r := &lifeboatv1.DescribeUsageResponse{Index: s.Index, SinceUnixNs: s.UsageSince(), KeptUnixNs: s.UsageKept(), ClosedUnixNs: lastClosed(s)}
	if at, ok := nextWindow(s); ok {
		r.NextUnixNs = windowEnd(at, s.Policy.UsageWindow, usageZone(s.Policy)).Add(s.Policy.UsageGrace).UnixNano()
	}
	for range s.UsageWindows(0) {
		r.Windows++
	}
	tallies := s.UsageTallies()
	for _, t := range s.UsageTypes() {
		x := tallies[t.ID]
		r.Types = append(r.Types, &lifeboatv1.UsageTypeView{Id: t.ID, Name: t.Name, Opens: t.Opens, Closes: t.Closes, Changes: t.Changes, Derived: t.Derived, Added: t.Added, Open: uint64(x.Open), Known: uint64(x.Known)})
	}
	for o, a := range s.Accounts() {
		r.Accounts = append(r.Accounts, &lifeboatv1.UsageAccountView{Domain: o.Domain, Account: o.Account, Project: o.Project, SinceUnixNs: a.Since, RemovedUnixNs: a.Removed, Open: uint64(s.UsageOpenOf(o))})
	}
	return r, nil
}

func (t *term) setUsage(ctx context.Context, q *lifeboatv1.SetUsageRequest) (*lifeboatv1.WriteResponse, error) {
	owner := usageOwner(q.Domain, q.Account, q.Project)
	name := fsm.Owner{Domain: q.Domain, Account: q.Account, Project: q.Project}
	switch q.Action {
	case "account-remove":
		at := q.RemovedUnixNs
		if at == 0 {
			at = t.wall()
		}
		s := t.node.fsm.State()
		message := fmt.Sprintf("account %s is removed; %d of its resources are open", name, s.UsageOpenOf(name))
		if s.Account(name) == nil {
			message = fmt.Sprintf("account %s is removed; nothing was ever charged to it, so look whether that is its name", name)
		}
		return t.write(ctx, &logpb.Command{Body: &logpb.Command_UsageAccountSet{UsageAccountSet: &logpb.UsageAccountSet{Account: owner, RemovedUnixNs: at}}}, message)
	case "account-restore":
		return t.write(ctx, &logpb.Command{Body: &logpb.Command_UsageAccountSet{UsageAccountSet: &logpb.UsageAccountSet{Account: owner}}}, fmt.Sprintf("account %s is there again", name))
	case "type-set", "type-remove":
		x := q.Type
		if x == nil {
			return nil, refuse("a usage type is missing in the request")
		}
		c := &logpb.UsageTypeSet{Id: x.Id, Name: valid(x.Name), Opens: allValid(x.Opens), Closes: allValid(x.Closes), Changes: allValid(x.Changes), Remove: q.Action == "type-remove"}
		return t.write(ctx, &logpb.Command{Body: &logpb.Command_UsageTypeSet{UsageTypeSet: c}}, fmt.Sprintf("usage type %d is changed", x.Id))
	case "vm-owner":
		v, _, err := findVM(t.node.fsm.State(), q.Vm)
		if err != nil {
			return nil, err
		}
		message := fmt.Sprintf("VM %s is charged to %s", v.Name, name)
		if q.Account == "" {
			message = fmt.Sprintf("VM %s is charged to the account of the policy (usage_account)", v.Name)
		}
		return t.write(ctx, &logpb.Command{Body: &logpb.Command_UsageOwnerSet{UsageOwnerSet: &logpb.UsageOwnerSet{Vm: v.ID[:], Account: owner}}}, message)
	}
	return nil, refuse("%q is no action on usage; it is account-remove, account-restore, type-set, type-remove or vm-owner", q.Action)
}

func allValid(list []string) (out []string) {
	for _, s := range list {
		out = append(out, valid(s))
	}
	return out
}
