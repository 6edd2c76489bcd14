package fsm

import (
	"errors"

	"lifeboat/fsm/logpb"
)

func tokenRecord(k *Token) *logpb.Record {
	p := &logpb.TokenRecord{Id: k.ID, Kind: uint32(k.Kind), Hash: k.Hash[:], Name: k.Name, Role: uint32(k.Role), Left: k.Left,
		ExpiresUnixNs: k.Expires, CreatedUnixNs: k.Created, By: k.By}
	for i := range k.Used {
		p.Used = append(p.Used, &logpb.TokenUsed{Name: k.Used[i].Name, Key: k.Used[i].Key[:]})
	}
	return &logpb.Record{Body: &logpb.Record_Token{Token: p}}
}

func tokenFromLog(p *logpb.TokenRecord) (*Token, error) {
	k := &Token{ID: p.Id, Kind: Member(p.Kind), Name: p.Name, Role: Role(p.Role), Left: p.Left, Expires: p.ExpiresUnixNs, Created: p.CreatedUnixNs, By: p.By}
	if len(p.Hash) != len(k.Hash) {
		return nil, errors.New("the hash of a token is not one")
	}
	copy(k.Hash[:], p.Hash)
	for _, u := range p.Used {
		use := TokenUse{Name: u.Name}
		if len(u.Key) != len(use.Key) {
			return nil, errors.New("the key of one who joined is not one")
		}
		copy(use.Key[:], u.Key)
		k.Used = append(k.Used, use)
	}
	return k, nil
}

func operatorRecord(o *Operator) *logpb.Record {
	return &logpb.Record{Body: &logpb.Record_Operator{Operator: &logpb.OperatorRecord{Name: o.Name, Role: uint32(o.Role), SinceUnixNs: o.Since, By: o.By}}}
}

func operatorFromLog(p *logpb.OperatorRecord) *Operator {
	return &Operator{Name: p.Name, Role: Role(p.Role), Since: p.SinceUnixNs, By: p.By}
}
