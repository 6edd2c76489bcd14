package node

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

func (n *Node) readAlerts(_ *term, _ context.Context, q *lifeboatv1.ListAlertsRequest) (*lifeboatv1.ListAlertsResponse, error) {
	s := n.fsm.State()
	r := &lifeboatv1.ListAlertsResponse{Index: s.Index}
	now := n.clock().UnixNano()
	var least fsm.Severity
	var state fsm.AlertState
	ok := true
	if q.Severity != "" {
		if least, ok = fsm.ParseSeverity(q.Severity); !ok {
			return nil, refuse("%q is no severity; it is info, warning or critical", q.Severity)
		}
	}
	if q.State != "" {
		if state, ok = fsm.ParseAlertState(q.State); !ok {
			return nil, refuse("%q is no state of an alert; it is open, acknowledged, resolved or archived", q.State)
		}
	}
	if q.Id != 0 {
		if a := s.Alert(fsm.AlertID(q.Id)); a != nil {
			r.Alerts = append(r.Alerts, alertView(a, ambiguous(s)))
		}
		return r, nil
	}
	typ, _ := fsm.AlertTypeOf(q.Type)
	names := ambiguous(s)
	for _, a := range s.Alerts() {
		age := now - max(a.Last, a.Resolved)
		switch {
		case state != 0 && a.State != state:
		case state == 0 && !q.All && a.State.Closed():
		case a.Severity < least:
		case q.Type != "" && !strings.EqualFold(typ.Name, a.Key.Type):
		case q.Subject != "" && q.Subject != a.Key.Subject && q.Subject != a.About():
		case q.OlderMs > 0 && age < span(q.OlderMs), q.NewerMs > 0 && age > span(q.NewerMs):
		default:
			r.Alerts = append(r.Alerts, alertView(a, names))
		}
	}
	slices.Reverse(r.Alerts)
	return r, nil
}

// span is a number of milliseconds in nanoseconds; one that is too large is for ever.
func span(ms int64) int64 {
	if ms > math.MaxInt64/int64(time.Millisecond) {
		return math.MaxInt64
	}
	return ms * int64(time.Millisecond)
}

// match reads a filter; subjects that are names of VMs mean the VMs.
func match(f *lifeboatv1.AlertFilter) (*logpb.AlertMatch, error) {
	m := &logpb.AlertMatch{}
	if f == nil {
		return m, nil
	}
	if f.Severity != "" {
		least, ok := fsm.ParseSeverity(f.Severity)
		if !ok {
			return nil, refuse("%q is no severity; it is info, warning or critical", f.Severity)
		}
		m.Severity = uint32(least)
	}
	for _, w := range f.Types {
		if _, known := fsm.AlertTypeOf(w); !known {
			return nil, refuse("%q is no type of alert; `lifeboat alert types` shows them", w)
		}
		m.Types = append(m.Types, valid(w))
	}
	for _, w := range f.Subjects {
		m.Subjects = append(m.Subjects, valid(w))
	}
	for _, w := range f.Causes {
		m.Causes = append(m.Causes, valid(w))
	}
	for _, k := range sortedKeys(f.Labels) {
		m.Labels = append(m.Labels, &logpb.Label{Key: valid(k), Value: valid(f.Labels[k])})
	}
	return m, nil
}

func matchView(m *fsm.AlertMatch) *lifeboatv1.AlertFilter {
	f := &lifeboatv1.AlertFilter{Types: m.Types, Subjects: m.Subjects, Causes: m.Causes}
	if m.Severity != 0 {
		f.Severity = m.Severity.String()
	}
	for _, l := range m.Labels {
		if f.Labels == nil {
			f.Labels = map[string]string{}
		}
		f.Labels[l.Key] = l.Value
	}
	return f
}

func (t *term) controlAlert(ctx context.Context, q *lifeboatv1.ControlAlertRequest) (*lifeboatv1.WriteResponse, error) {
	action := map[string]uint32{"ack": 1, "resolve": 2, "archive": 3, "delete": 4}[q.Action]
	switch {
	case action == 0:
		return nil, refuse("%q is no action on an alert; it is ack, resolve, archive or delete", q.Action)
	case len(q.Ids) == 0 && q.Filter == nil && action <= 2: // as clients of older levels say it
		return t.write(ctx, &logpb.Command{Body: &logpb.Command_AlertUpdate{AlertUpdate: &logpb.AlertUpdate{Id: q.Id, Action: action}}},
			t.controlled(q.Action, &logpb.AlertControl{Action: action, Ids: []uint64{q.Id}}))
	}
	c := &logpb.AlertControl{Action: action, Ids: slices.Clone(q.Ids), OlderNs: span(max(q.Filter.GetOlderMs(), 0))}
	if q.Id != 0 {
		c.Ids = append(c.Ids, q.Id)
	}
	if len(c.Ids) == 0 && q.Filter == nil {
		return nil, refuse("say which alerts: by their numbers, or by a filter")
	}
	if word := q.Filter.GetState(); word != "" {
		state, ok := fsm.ParseAlertState(word)
		if !ok {
			return nil, refuse("%q is no state of an alert; it is open, acknowledged, resolved or archived", word)
		}
		c.State = uint32(state)
	}
	var err error
	if c.Match, err = match(q.Filter); err != nil {
		return nil, err
	}
	return t.write(ctx, &logpb.Command{Body: &logpb.Command_AlertControl{AlertControl: c}}, t.controlled(q.Action, c))
}

// controlled says what a command will have done to alerts.
func (t *term) controlled(action string, c *logpb.AlertControl) string {
	done := map[string]string{"ack": "acknowledged", "resolve": "resolved", "archive": "archived", "delete": "deleted"}[action]
	switch n := t.node.fsm.State().CountControlled(c, t.wall()); {
	case n == 0 && len(c.Ids) > 0:
		return fmt.Sprintf("nothing was changed: what is named cannot be %s, or is so already", done)
	case n == 0:
		return fmt.Sprintf("nothing was changed: no alert that could be %s is chosen; `lifeboat alert list --all` shows all of them", done)
	case n == 1 && len(c.Ids) == 1:
		return fmt.Sprintf("alert %d is %s", c.Ids[0], done)
	case n == 1:
		return "1 alert is " + done
	default:
		return fmt.Sprintf("%d alerts are %s", n, done)
	}
}

func (t *term) raiseAlerts(ctx context.Context, q *lifeboatv1.RaiseAlertsRequest) (*lifeboatv1.WriteResponse, error) {
	s := t.node.fsm.State()
	c := &logpb.AlertRaise{}
	for _, a := range q.Alerts {
		severity, ok := fsm.ParseSeverity(a.Severity)
		if !ok && !a.Resolved {
			return nil, refuse("%q is no severity; it is info, warning or critical", a.Severity)
		}
		subject := valid(a.Subject)
		if typ, _ := fsm.AlertTypeOf(a.Type); typ.Name == fsm.AlertVM {
			v, _, err := findVM(s, subject)
			if err != nil {
				return nil, err
			}
			subject = v.ID.String()
		}
		c.Alerts = append(c.Alerts, &logpb.Raised{Type: valid(a.Type), Subject: subject, Cause: valid(a.Cause), Severity: uint32(severity), Text: valid(a.Text), Resolved: a.Resolved})
	}
	return t.write(ctx, &logpb.Command{Body: &logpb.Command_AlertRaise{AlertRaise: c}}, "")
}

func (t *term) purgeEvents(ctx context.Context, q *lifeboatv1.PurgeEventsRequest) (*lifeboatv1.WriteResponse, error) {
	return t.write(ctx, &logpb.Command{Body: &logpb.Command_EventPurge{EventPurge: &logpb.EventPurge{BeforeUnixNs: q.BeforeUnixNs, BeforeId: q.BeforeId}}}, "")
}

func (n *Node) readReceivers(_ *term, _ context.Context, _ *lifeboatv1.ListReceiversRequest) (*lifeboatv1.ListReceiversResponse, error) {
	s := n.fsm.State()
	out := &lifeboatv1.ListReceiversResponse{Kinds: n.deps.Notifiers.Names()}
	waiting := s.NoticesWaiting()
	for name, r := range s.Receivers() {
		v := &lifeboatv1.ReceiverView{Name: name, Kind: r.Kind, Address: r.Address, Options: map[string]string{}, Secret: len(r.Secret) > 0, Match: matchView(&r.Match), Off: r.Off,
			Delivered: r.Delivered, DeliveredUnixNs: r.DeliveredAt, Lost: r.Lost, FailingUnixNs: r.Failing, Failure: r.Failure, Pending: uint32(waiting[name])}
		for _, o := range r.Options {
			v.Options[o.Key] = o.Value
		}
		if b := r.Batch; b != nil {
			v.Delivery, v.Attempts, v.NextUnixNs = b.ID, b.Attempts, b.NotBefore
		}
		out.Receivers = append(out.Receivers, v)
	}
	return out, nil
}

// setReceiver checks all that can be checked without the receiver, and stores it.
func (t *term) setReceiver(ctx context.Context, q *lifeboatv1.SetReceiverRequest) (*lifeboatv1.WriteResponse, error) {
	m, err := match(q.Match)
	if err != nil {
		return nil, err
	}
	c := &logpb.NotifySet{Name: valid(q.Name), Kind: valid(q.Kind), Address: valid(q.Address), KeepSecret: q.KeepSecret, Match: m, Off: q.Off}
	if q.Name == "" || strings.ContainsAny(q.Name, " \t\n/") {
		return nil, refuse("%q is no name of a receiver: it is one word without a slash", q.Name)
	}
	for _, k := range sortedKeys(q.Options) {
		c.Options = append(c.Options, &logpb.Setting{Key: valid(k), Value: valid(q.Options[k])})
	}
	switch {
	case q.KeepSecret && q.Secret != "":
		return nil, refuse("give a new secret or keep the old one, not both")
	case q.Secret != "":
		c.Secret = t.node.sealer.seal([]byte(q.Secret), secretOfReceiver(c.Name))
	}
	probe := &fsm.Receiver{Name: c.Name, Kind: c.Kind, Address: c.Address, Secret: c.Secret}
	for _, o := range c.Options {
		probe.Options = append(probe.Options, fsm.Setting{Key: o.Key, Value: o.Value})
	}
	target, err := t.node.notifyTarget(probe)
	if err == nil {
		_, err = t.node.deps.Notifiers.Open(target)
	}
	if err != nil {
		return nil, refuse("receiver %s: %v", c.Name, err)
	}
	c.RepeatNs = int64(t.node.deps.Notifiers.Repeat(target))
	return t.write(ctx, &logpb.Command{Body: &logpb.Command_NotifySet{NotifySet: c}},
		fmt.Sprintf("receiver %s is set; `lifeboat notify test %s` sends it a test", c.Name, c.Name))
}

func (t *term) removeReceiver(ctx context.Context, q *lifeboatv1.RemoveReceiverRequest) (*lifeboatv1.WriteResponse, error) {
	return t.write(ctx, &logpb.Command{Body: &logpb.Command_NotifyRemove{NotifyRemove: &logpb.NotifyRemove{Name: valid(q.Name)}}}, "")
}

func (n *Node) readSilences(_ *term, _ context.Context, _ *lifeboatv1.ListSilencesRequest) (*lifeboatv1.ListSilencesResponse, error) {
	out := &lifeboatv1.ListSilencesResponse{}
	s := n.fsm.State()
	for id, x := range s.Silences() {
		out.Silences = append(out.Silences, &lifeboatv1.SilenceView{Id: uint64(id), Match: matchView(&x.Match), Reason: x.Reason, By: x.By,
			FromUnixNs: x.From, UntilUnixNs: x.Until, Muted: x.Muted, State: x.StateAt(s.Time), EndedUnixNs: x.Ended})
	}
	return out, nil
}

func (t *term) setSilence(ctx context.Context, q *lifeboatv1.SetSilenceRequest) (*lifeboatv1.WriteResponse, error) {
	m, err := match(q.Match)
	if err != nil {
		return nil, err
	}
	return t.write(ctx, &logpb.Command{Body: &logpb.Command_SilenceSet{SilenceSet: &logpb.SilenceSet{Id: q.End, Match: m, Reason: valid(q.Reason),
		ForNs: span(max(q.ForMs, 0)), FromUnixNs: q.FromUnixNs, UntilUnixNs: q.UntilUnixNs}}}, "")
}
