package fsm

import (
	"time"

	"lifeboat/fsm/logpb"
)

func receiverRecord(r *Receiver) *logpb.Record {
	p := &logpb.ReceiverRecord{Name: r.Name, Kind: r.Kind, Address: r.Address, Options: settingsToLog(r.Options), Secret: r.Secret, Match: matchToLog(&r.Match),
		Off: r.Off, Done: uint64(r.Done), Delivered: r.Delivered, DeliveredUnixNs: r.DeliveredAt, Lost: r.Lost, FailingUnixNs: r.Failing,
		Failure: r.Failure, By: r.By, SetUnixNs: r.Set,
		RepeatNs: int64(r.Repeat), RoundUnixNs: r.Round, Cursor: uint64(r.Cursor)}
	if b := r.Batch; b != nil {
		p.Batch = &logpb.BatchRecord{Id: b.ID, Upto: uint64(b.Upto), Count: b.Count, Attempts: b.Attempts, BegunUnixNs: b.Begun, NotBeforeUnixNs: b.NotBefore}
	}
	return &logpb.Record{Body: &logpb.Record_Receiver{Receiver: p}}
}

func receiverFromLog(p *logpb.ReceiverRecord) *Receiver {
	m, _ := matchFromLog(p.Match)
	r := &Receiver{Name: p.Name, Kind: p.Kind, Address: p.Address, Options: settingsFromLog(p.Options), Secret: p.Secret, Match: m, Off: p.Off,
		Done: NoticeID(p.Done), Delivered: p.Delivered, DeliveredAt: p.DeliveredUnixNs, Lost: p.Lost, Failing: p.FailingUnixNs,
		Failure: p.Failure, By: p.By, Set: p.SetUnixNs,
		Repeat: time.Duration(p.RepeatNs), Round: p.RoundUnixNs, Cursor: AlertID(p.Cursor)}
	if b := p.Batch; b != nil {
		r.Batch = &Batch{ID: b.Id, Upto: NoticeID(b.Upto), Count: b.Count, Attempts: b.Attempts, Begun: b.BegunUnixNs, NotBefore: b.NotBeforeUnixNs}
	}
	return r
}

func silenceRecord(x *Silence) *logpb.Record {
	return &logpb.Record{Body: &logpb.Record_Silence{Silence: &logpb.SilenceRecord{Id: uint64(x.ID), Match: matchToLog(&x.Match), Reason: x.Reason,
		By: x.By, FromUnixNs: x.From, UntilUnixNs: x.Until, Muted: x.Muted, Planned: x.Planned, EndedUnixNs: x.Ended}}}
}

func silenceFromLog(p *logpb.SilenceRecord) *Silence {
	m, _ := matchFromLog(p.Match)
	return &Silence{ID: SilenceID(p.Id), Match: m, Reason: p.Reason, By: p.By, From: p.FromUnixNs, Until: p.UntilUnixNs, Muted: p.Muted, Planned: p.Planned, Ended: p.EndedUnixNs}
}

func noticeRecord(n *Notice) *logpb.Record {
	return &logpb.Record{Body: &logpb.Record_Notice{Notice: &logpb.NoticeRecord{Id: uint64(n.ID), Kind: uint32(n.Kind), TimeUnixNs: n.Time,
		Receivers: n.For, Alert: alertToLog(n.Alert)}}}
}

func noticeFromLog(p *logpb.NoticeRecord) *Notice {
	return &Notice{ID: NoticeID(p.Id), Kind: NoticeKind(p.Kind), Time: p.TimeUnixNs, For: p.Receivers, Alert: alertFromLog(p.Alert)}
}
